use std::time::Duration;

use mcp_core::{Error, ErrorKind, store::StoreError};

/// Why something about a user was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// The name, the password or the code is wrong, or the user is disabled. Which of them is not said.
    #[error("the name, the password or the code is wrong")]
    Refused,
    /// The password is right, and the code of the second factor is missing.
    #[error("the code of the second factor is needed; send it with the same request")]
    SecondFactorNeeded,
    /// Too many attempts have failed.
    #[error("too many attempts have failed; try again in {} s", .0.as_secs().max(1))]
    Locked(Duration),
    /// The token is unknown, used, or too old.
    #[error("the token is unknown, used or too old; log in again")]
    BadToken,
    /// There is no such user.
    #[error("there is no such user")]
    Unknown,
    /// The name is taken in this tenant.
    #[error("the name {0:?} is taken; choose another")]
    NameTaken(String),
    /// Something was given that cannot be used.
    #[error("{what}: {remedy}")]
    Unusable {
        /// What it is.
        what: &'static str,
        /// What to give instead.
        remedy: &'static str,
    },
    /// So many passwords are being checked that this one has to wait too long.
    #[error("too many passwords are being checked; try again later")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UserError {
    pub(super) const fn unusable(what: &'static str, remedy: &'static str) -> Self {
        Self::Unusable { what, remedy }
    }
}

impl From<UserError> for Error {
    fn from(error: UserError) -> Self {
        let kind = match &error {
            UserError::Refused | UserError::SecondFactorNeeded | UserError::BadToken => {
                ErrorKind::Unauthenticated
            }
            UserError::Locked(_) => ErrorKind::RateLimited,
            UserError::Unknown | UserError::NameTaken(_) | UserError::Unusable { .. } => {
                ErrorKind::InvalidParams
            }
            UserError::Busy => ErrorKind::Overloaded,
            UserError::Store(_) => ErrorKind::Unavailable,
        };
        let wait = match &error {
            UserError::Locked(wait) => Some(*wait),
            _ => None,
        };
        let made = Self::new(kind, error.to_string()).with_source(error);
        match wait {
            Some(wait) => made.with_retry_after(wait),
            None => made,
        }
    }
}
