//! The second factor: codes by time (TOTP, RFC 6238) and recovery codes.

use std::fmt;

use mcp_core::{
    secret::{Secret, SecretName, SecretScope, SecretStore as _},
    store::{Namespace, StoreError, StoreErrorKind},
};
use totp_rs::{Builder, Totp};

use super::{
    UserError, Users,
    hash::{print, random},
    record::{Record, seconds},
};

/// How many recovery codes there are.
const CODES: usize = 10;

/// What a user's authenticator is given.
#[derive(Clone)]
#[non_exhaustive]
pub struct Enrolment {
    /// The secret in base32, to be typed in.
    pub secret: Secret,
    /// The same as an address `otpauth://`, to be shown as a QR code.
    pub url: Secret,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Enrolment([redacted])")
    }
}

/// Codes that stand in for a lost second factor, each good for one use. They are shown once.
#[derive(Clone, Debug)]
pub struct RecoveryCodes(Vec<Secret>);

impl RecoveryCodes {
    /// Returns the codes.
    #[must_use]
    pub fn codes(&self) -> &[Secret] {
        &self.0
    }
}

fn invalid(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, message)
}

fn totp(secret: Vec<u8>, issuer: &str, name: &str) -> Result<Totp, UserError> {
    // A colon would end the issuer in the address.
    let plain = |text: &str| text.replace(':', " ");
    Builder::new()
        .with_secret(secret)
        .with_issuer(Some(plain(issuer)))
        .with_account_name(plain(name))
        .build()
        .map_err(|_| UserError::unusable("the second factor", "begin again"))
}

impl Users {
    fn factor_place(&self, record: &Record) -> Result<(SecretScope, SecretName), UserError> {
        let namespace = Namespace::new("user-factor");
        let namespace = namespace.map_err(|_| invalid("the namespace of second factors"))?;
        let name = SecretName::new("totp").map_err(|_| invalid("the name of a second factor"))?;
        Ok((
            SecretScope::new(namespace, self.bare(record).partition()),
            name,
        ))
    }

    async fn factor(&self, record: &Record) -> Result<Option<Totp>, UserError> {
        let (scope, name) = self.factor_place(record)?;
        let Some(secret) = self.0.vault.get(&scope, &name).await? else {
            return Ok(None);
        };
        let bytes = totp_rs::Secret::try_from_base32(secret.secret())
            .map_err(|_| invalid("the secret of a second factor is malformed"))?;
        let bytes = bytes.as_bytes().to_vec();
        totp(bytes, &self.0.issuer, &record.name).map(Some)
    }

    pub(super) async fn drop_factor(&self, record: &Record) -> Result<(), UserError> {
        let (scope, name) = self.factor_place(record)?;
        self.0.vault.delete(&scope, &name).await?;
        Ok(())
    }

    /// Begins a second factor for a user, which counts once [`Users::confirm_factor`] has seen a code of it.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], [`UserError::Unusable`] if there is one already, or the store is unavailable.
    pub async fn enrol_factor(&self, id: &str) -> Result<Enrolment, UserError> {
        let record = self.record(id).await?.ok_or(UserError::Unknown)?;
        if record.factor {
            return Err(UserError::unusable(
                "the second factor",
                "there is one; an administrator has to remove it first",
            ));
        }
        let mut bytes = [0; 20];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
        let totp = totp(bytes.to_vec(), &self.0.issuer, &record.name)?;
        let text = Secret::new(totp.secret().to_base32());
        let url = totp.to_url();
        let url = url.map_err(|_| UserError::unusable("the name", "give one without colons"))?;
        let (scope, name) = self.factor_place(&record)?;
        self.0.vault.put(&scope, &name, text.clone()).await?;
        Ok(Enrolment {
            secret: text,
            url: Secret::new(url),
        })
    }

    /// Takes the first code of a second factor, and returns the recovery codes.
    ///
    /// # Errors
    ///
    /// [`UserError::Refused`] for a wrong code, or the store is unavailable.
    pub async fn confirm_factor(
        &self,
        id: &str,
        code: &Secret,
    ) -> Result<RecoveryCodes, UserError> {
        let record = self.record(id).await?.ok_or(UserError::Unknown)?;
        let (name, tenant) = (record.name.as_str(), record.tenant.as_deref());
        self.charge(name, tenant, None).await?;
        let totp = self.factor(&record).await?.filter(|_| !record.factor);
        let now = seconds(self.now());
        let step = totp.and_then(|totp| totp.check(code.secret(), now));
        let step = step.ok_or(UserError::Refused)?;
        self.succeeded(name, tenant, None).await?;
        let codes: Vec<_> = (0..CODES).map(|_| random()[..16].to_owned()).collect();
        let prints: Vec<_> = codes.iter().map(|code| print(code)).collect();
        let (record, ()) = self
            .edit(id, |record| {
                record.factor = true;
                record.factor_step = step;
                record.recovery.clone_from(&prints);
                Ok(())
            })
            .await?;
        self.note("user.factor", &record, true).await;
        Ok(RecoveryCodes(codes.into_iter().map(Secret::new).collect()))
    }

    /// Removes a second factor, for a user who has lost it. All logins end.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], or the store is unavailable.
    pub async fn remove_factor(&self, id: &str) -> Result<(), UserError> {
        let (record, ()) = self
            .edit(id, |record| {
                record.factor = false;
                record.recovery.clear();
                record.epoch += 1;
                Ok(())
            })
            .await?;
        self.drop_factor(&record).await?;
        self.forget(&record).await;
        self.note("user.factor-removed", &record, true).await;
        Ok(())
    }

    /// Takes a code: one by time that is newer than the last that was taken, or a recovery code, which is then used up.
    pub(super) async fn take_code(
        &self,
        record: &Record,
        code: &Secret,
    ) -> Result<bool, UserError> {
        let now = seconds(self.now());
        let totp = self.factor(record).await?;
        let step = totp.and_then(|totp| totp.check(code.secret(), now));
        let own = print(code.secret());
        // Of two that come with one code at the same time one is let in.
        let taken = self.edit(&record.id, |record| match step {
            Some(step) if step > record.factor_step => {
                record.factor_step = step;
                Ok(())
            }
            Some(_) => Err(UserError::Refused),
            None => {
                let before = record.recovery.len();
                record.recovery.retain(|left| *left != own);
                match record.recovery.len() < before {
                    true => Ok(()),
                    false => Err(UserError::Refused),
                }
            }
        });
        match taken.await {
            Ok(_) => Ok(true),
            Err(UserError::Refused) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
