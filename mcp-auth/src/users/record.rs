//! Users as they are kept, and managing them.

use std::time::{Duration, SystemTime};

use mcp_core::secret::Secret;
use serde::{Deserialize, Serialize};

use super::{
    UserError, Users,
    hash::{check, print, random},
};

/// The longest name, in bytes.
const LONGEST_NAME: usize = 128;

/// How many roles a user may have, and how long one may be.
const MOST_ROLES: usize = 64;

/// A user, as administrators see one: no hash and no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct User {
    /// The id, which never changes and is never given again: the subject of the principal.
    pub id: String,
    /// The name, in lower case.
    pub name: String,
    /// The tenant, if there are tenants.
    pub tenant: Option<String>,
    /// The roles.
    pub roles: Vec<String>,
    /// Whether logging in is refused.
    pub disabled: bool,
    /// Whether there is a second factor.
    pub second_factor: bool,
    /// When the user was created, in seconds since 1970.
    pub created: u64,
}

/// What a user is created with.
#[derive(Clone, Debug)]
#[must_use]
pub struct NewUser {
    name: String,
    password: Secret,
    tenant: Option<String>,
    roles: Vec<String>,
}

impl NewUser {
    /// Describes a user without roles. Names are compared in lower case.
    pub fn new(name: &str, password: Secret) -> Self {
        Self {
            name: name.to_owned(),
            password,
            tenant: None,
            roles: Vec::new(),
        }
    }

    /// Puts the user into a tenant. Default is none.
    pub fn in_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Adds a role.
    pub fn with_role(mut self, role: &str) -> Self {
        self.roles.push(role.to_owned());
        self
    }
}

/// A user in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tenant: Option<String>,
    pub(super) roles: Vec<String>,
    pub(super) disabled: bool,
    pub(super) created: u64,
    pub(super) password: String,
    /// Goes up with everything that ends all logins.
    pub(super) epoch: u64,
    /// Whether the second factor has been confirmed.
    pub(super) factor: bool,
    /// The newest time step whose code was taken.
    pub(super) factor_step: u64,
    /// SHA-256 of the recovery codes that are left.
    pub(super) recovery: Vec<String>,
}

impl Record {
    pub(super) fn shown(&self) -> User {
        User {
            id: self.id.clone(),
            name: self.name.clone(),
            tenant: self.tenant.clone(),
            roles: self.roles.clone(),
            disabled: self.disabled,
            second_factor: self.factor,
            created: self.created,
        }
    }
}

/// Writes a name as it is compared: in lower case, without space around it.
pub(super) fn canonical(name: &str) -> Result<String, UserError> {
    let name = name.trim().to_lowercase();
    let plain = |c: char| !c.is_control() && c != '/';
    match !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(plain) {
        true => Ok(name),
        false => Err(UserError::unusable(
            "the name",
            "give up to 128 bytes without control characters and slashes",
        )),
    }
}

fn check_roles(roles: &[String]) -> Result<(), UserError> {
    let plain = |role: &String| {
        let own = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !role.is_empty() && role.len() <= 64 && role.bytes().all(own)
    };
    match roles.len() <= MOST_ROLES && roles.iter().all(plain) {
        true => Ok(()),
        false => Err(UserError::unusable(
            "the roles",
            "give up to 64 names of letters, digits, '-', '_' and '.'",
        )),
    }
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Managing users, for administrators.
impl Users {
    /// Creates a user.
    ///
    /// # Errors
    ///
    /// [`UserError::NameTaken`], [`UserError::Unusable`] for a name, a role or a password that does not fit, or the store
    /// is unavailable.
    pub async fn create(&self, new: NewUser) -> Result<User, UserError> {
        let name = canonical(&new.name)?;
        check_roles(&new.roles)?;
        if let Some(tenant) = &new.tenant {
            canonical(tenant)?;
        }
        check(&new.password, &name, self.0.settings.least_password)?;
        let record = Record {
            id: random()[..22].to_owned(),
            password: self.0.hasher.hash(new.password).await?,
            name,
            tenant: new.tenant,
            roles: new.roles,
            disabled: false,
            created: seconds(self.now()),
            epoch: 0,
            factor: false,
            factor_step: 0,
            recovery: Vec::new(),
        };
        // The record first: a name never leads to a user who is not there yet.
        self.0.table.put(&["id", &record.id], &record, None).await?;
        if let Err(error) = self.claim(&record).await {
            self.0.table.delete(&["id", &record.id]).await?;
            return Err(error);
        }
        self.note("user.create", &record, true).await;
        Ok(record.shown())
    }

    /// Takes a name for a user. A name whose user is gone is free.
    async fn claim(&self, record: &Record) -> Result<(), UserError> {
        let place = ["name", record.tenant.as_deref().unwrap_or(""), &record.name];
        for _ in 0..4 {
            let seen = self.0.table.get::<String>(&place).await?;
            if let Some((id, _)) = &seen
                && let Some(holder) = self.record(id).await?
                && holder.name == record.name
                && holder.id != record.id
            {
                return Err(UserError::NameTaken(record.name.clone()));
            }
            let version = seen.map(|(_, version)| version);
            if self.0.table.swap(&place, version, &record.id, None).await? {
                return Ok(());
            }
        }
        Err(UserError::NameTaken(record.name.clone()))
    }

    pub(super) async fn record(&self, id: &str) -> Result<Option<Record>, UserError> {
        let found = self.0.table.get::<Record>(&["id", id]).await?;
        Ok(found.map(|(record, _)| record))
    }

    /// Finds a user by name.
    pub(super) async fn named(
        &self,
        tenant: Option<&str>,
        name: &str,
    ) -> Result<Option<Record>, UserError> {
        let place = ["name", tenant.unwrap_or(""), name];
        let Some((id, _)) = self.0.table.get::<String>(&place).await? else {
            return Ok(None);
        };
        Ok(self.record(&id).await?.filter(|own| own.name == name))
    }

    /// Changes a record, whoever else does so at the same time.
    pub(super) async fn edit<T>(
        &self,
        id: &str,
        change: impl Fn(&mut Record) -> Result<T, UserError>,
    ) -> Result<(Record, T), UserError> {
        loop {
            let found = self.0.table.get::<Record>(&["id", id]).await?;
            let (mut record, version) = found.ok_or(UserError::Unknown)?;
            let made = change(&mut record)?;
            let place = ["id", id];
            let seen = Some(version);
            if self.0.table.swap(&place, seen, &record, None).await? {
                return Ok((record, made));
            }
        }
    }

    /// Returns a user.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn get(&self, id: &str) -> Result<Option<User>, UserError> {
        Ok(self.record(id).await?.map(|own| own.shown()))
    }

    /// Gives a user other roles, from the next request on.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], [`UserError::Unusable`], or the store is unavailable.
    pub async fn set_roles(&self, id: &str, roles: &[&str]) -> Result<User, UserError> {
        let roles: Vec<_> = roles.iter().map(|&role| role.to_owned()).collect();
        check_roles(&roles)?;
        let (record, ()) = self
            .edit(id, |record| {
                record.roles.clone_from(&roles);
                Ok(())
            })
            .await?;
        self.forget(&record).await;
        self.note("user.roles", &record, true).await;
        Ok(record.shown())
    }

    /// Gives a user another name. The id, and with it everything that is the user's, stays.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], [`UserError::NameTaken`], [`UserError::Unusable`], or the store is unavailable.
    pub async fn rename(&self, id: &str, name: &str) -> Result<User, UserError> {
        let name = canonical(name)?;
        let old = self.record(id).await?.ok_or(UserError::Unknown)?;
        let mut new = old.clone();
        new.name.clone_from(&name);
        self.claim(&new).await?;
        let (record, ()) = self
            .edit(id, |record| {
                record.name.clone_from(&name);
                Ok(())
            })
            .await?;
        if old.name != name {
            let place = ["name", old.tenant.as_deref().unwrap_or(""), &old.name];
            self.0.table.delete(&place).await?;
        }
        self.note("user.rename", &record, true).await;
        Ok(record.shown())
    }

    /// Disables a user, which ends all logins, or enables one again.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], or the store is unavailable.
    pub async fn set_disabled(&self, id: &str, disabled: bool) -> Result<User, UserError> {
        let (record, ()) = self
            .edit(id, |record| {
                record.disabled = disabled;
                record.epoch += u64::from(disabled);
                Ok(())
            })
            .await?;
        self.forget(&record).await;
        let action = match disabled {
            true => "user.disable",
            false => "user.enable",
        };
        self.note(action, &record, true).await;
        Ok(record.shown())
    }

    /// Removes a user with everything that is stored for them. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn remove(&self, id: &str) -> Result<bool, UserError> {
        let Some(record) = self.record(id).await? else {
            return Ok(false);
        };
        self.forget(&record).await;
        self.drop_factor(&record).await?;
        let place = ["name", record.tenant.as_deref().unwrap_or(""), &record.name];
        self.0.table.delete(&["id", id]).await?;
        self.0.table.delete(&place).await?;
        self.note("user.remove", &record, true).await;
        Ok(true)
    }

    /// Sets another password, for a user who knows the present one. All logins end.
    ///
    /// # Errors
    ///
    /// [`UserError::Refused`] for a wrong password, [`UserError::Unusable`] for a new one that does not fit, or the store is
    /// unavailable.
    pub async fn change_password(
        &self,
        id: &str,
        present: &Secret,
        new: Secret,
    ) -> Result<(), UserError> {
        let record = self.record(id).await?.ok_or(UserError::Unknown)?;
        let (name, tenant) = (record.name.as_str(), record.tenant.as_deref());
        self.charge(name, tenant, None).await?;
        let hash = Some(record.password.as_str());
        if !self.0.hasher.verify(present, hash).await? {
            self.note("user.password", &record, false).await;
            return Err(UserError::Refused);
        }
        self.succeeded(name, tenant, None).await?;
        self.put_password(&record, new).await
    }

    async fn put_password(&self, record: &Record, new: Secret) -> Result<(), UserError> {
        check(&new, &record.name, self.0.settings.least_password)?;
        let hash = self.0.hasher.hash(new).await?;
        let (record, ()) = self
            .edit(&record.id, |record| {
                record.password.clone_from(&hash);
                record.epoch += 1;
                Ok(())
            })
            .await?;
        self.forget(&record).await;
        self.note("user.password", &record, true).await;
        Ok(())
    }

    /// Returns a token by which a user sets another password without the present one. It is good for one use within an
    /// hour.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], or the store is unavailable.
    pub async fn reset_token(&self, id: &str) -> Result<Secret, UserError> {
        let record = self.record(id).await?.ok_or(UserError::Unknown)?;
        let token = random();
        let hour = Some(Duration::from_secs(3600));
        let place = print(&token);
        self.0
            .table
            .put(&["reset", &place], &(&record.id, record.epoch), hour)
            .await?;
        self.note("user.reset", &record, true).await;
        Ok(Secret::new(token))
    }

    /// Sets another password by a token of [`Users::reset_token`]. All logins end, and the second factor stays.
    ///
    /// # Errors
    ///
    /// [`UserError::BadToken`], [`UserError::Unusable`] for a password that does not fit, after which the token is still
    /// good, or the store is unavailable.
    pub async fn reset(&self, token: &Secret, new: Secret) -> Result<(), UserError> {
        let place = print(token.secret());
        let place = ["reset", place.as_str()];
        let found = self.0.table.get::<(String, u64)>(&place).await?;
        let ((id, epoch), version) = found.ok_or(UserError::BadToken)?;
        let record = self.record(&id).await?.ok_or(UserError::BadToken)?;
        // Another password has been set since.
        if record.epoch != epoch {
            return Err(UserError::BadToken);
        }
        check(&new, &record.name, self.0.settings.least_password)?;
        match self.0.table.take(&place, version).await? {
            true => self.put_password(&record, new).await,
            false => Err(UserError::BadToken),
        }
    }
}
