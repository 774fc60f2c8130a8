//! Logging in, and the history of it.

use std::net::IpAddr;

use mcp_core::secret::Secret;
use serde::{Deserialize, Serialize};

use super::{
    Login, UserError, Users,
    hash::random,
    record::{Record, canonical, seconds},
};

/// An attempt to log in.
#[derive(Clone, Debug)]
#[must_use]
pub struct Attempt {
    name: String,
    password: Secret,
    tenant: Option<String>,
    code: Option<Secret>,
    address: Option<IpAddr>,
}

impl Attempt {
    /// Describes an attempt by name and password.
    pub fn new(name: &str, password: Secret) -> Self {
        Self {
            name: name.to_owned(),
            password,
            tenant: None,
            code: None,
            address: None,
        }
    }

    /// Names the tenant that the user is of.
    pub fn in_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Adds the code of the second factor, or a recovery code.
    pub fn with_code(mut self, code: Secret) -> Self {
        self.code = Some(code);
        self
    }

    /// Says which address it comes from. Without one only the account is locked by failures.
    pub const fn from_address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }
}

/// What came of an attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LoginResult {
    /// The user was let in.
    Succeeded,
    /// The password was wrong.
    WrongPassword,
    /// The password was right, and the code was missing.
    CodeMissing,
    /// The code was wrong.
    WrongCode,
    /// The password was right, and the user is disabled.
    Disabled,
}

/// One attempt to log in, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoginEvent {
    /// When, in seconds since 1970.
    pub at: u64,
    /// From where.
    pub address: Option<IpAddr>,
    /// What came of it.
    pub result: LoginResult,
}

impl Users {
    /// Logs a user in.
    ///
    /// # Errors
    ///
    /// [`UserError::Refused`] without a reason, [`UserError::SecondFactorNeeded`] after the right password,
    /// [`UserError::Locked`], [`UserError::Busy`], or the store is unavailable.
    pub async fn log_in(&self, attempt: &Attempt) -> Result<Login, UserError> {
        let name = canonical(&attempt.name).map_err(|_| UserError::Refused)?;
        let tenant = attempt.tenant.as_deref();
        self.charge(&name, tenant, attempt.address).await?;
        let found = self.named(tenant, &name).await?;
        let hash = found.as_ref().map(|own| own.password.as_str());
        let right = self.0.hasher.verify(&attempt.password, hash).await?;
        let Some(record) = found else {
            return Err(UserError::Refused);
        };
        let (result, factor) = match (right, record.disabled, record.factor, &attempt.code) {
            (false, ..) => (LoginResult::WrongPassword, false),
            (true, true, ..) => (LoginResult::Disabled, false),
            (true, false, false, _) => (LoginResult::Succeeded, false),
            (true, false, true, None) => (LoginResult::CodeMissing, false),
            (true, false, true, Some(code)) => match self.take_code(&record, code).await? {
                true => (LoginResult::Succeeded, true),
                false => (LoginResult::WrongCode, false),
            },
        };
        self.remember(&record, attempt.address, result).await?;
        self.note("user.login", &record, result == LoginResult::Succeeded)
            .await;
        match result {
            LoginResult::Succeeded => {
                self.succeeded(&name, tenant, attempt.address).await?;
                self.open(&record, factor).await
            }
            LoginResult::CodeMissing => Err(UserError::SecondFactorNeeded),
            _ => Err(UserError::Refused),
        }
    }

    async fn remember(
        &self,
        record: &Record,
        address: Option<IpAddr>,
        result: LoginResult,
    ) -> Result<(), UserError> {
        let at = seconds(self.now());
        let event = LoginEvent {
            at,
            address,
            result,
        };
        let last = format!("{at:020}-{}", &random()[..8]);
        let place = ["history", &record.id, &last];
        let ttl = Some(self.0.settings.history);
        Ok(self.0.table.put(&place, &event, ttl).await?)
    }

    /// Returns the attempts to log in as a user, the newest first.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn login_history(&self, id: &str) -> Result<Vec<LoginEvent>, UserError> {
        let mut all = self.0.table.list::<LoginEvent>(&["history", id]).await?;
        all.reverse();
        Ok(all.into_iter().map(|(_, event)| event).collect())
    }
}
