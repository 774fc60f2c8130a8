use std::{error::Error as _, time::Duration};

use http::{HeaderMap, StatusCode};
use mcp_core::{
    http_client::HttpErrorKind,
    store::{StoreError, StoreErrorKind},
};

use crate::net::FetchError;

/// Why a secret manager did not do what it was asked: the source of the [`StoreError`].
///
/// It names the service, the status and a code of the service that is known here. No text of the answer is repeated, since
/// it may hold what was sent.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mcp_auth::vault::SecretManagerError;
/// use mcp_core::store::StoreError;
///
/// /// Returns when it makes sense to ask again.
/// fn again(error: &StoreError) -> Option<Duration> {
///     SecretManagerError::of(error)?.retry_after()
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{service} {kind}{}{}{}", shown_status(*status), shown_code(*code), shown_wait(*retry_after))]
pub struct SecretManagerError {
    service: &'static str,
    kind: SecretManagerErrorKind,
    status: Option<StatusCode>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
    #[source]
    source: Option<Box<FetchError>>,
}

/// The kinds of [`SecretManagerError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretManagerErrorKind {
    /// The service limits the rate of requests. Ask again later. [`StoreErrorKind::Unavailable`].
    Throttled,
    /// The service did not answer, or failed. Ask again later. [`StoreErrorKind::Unavailable`].
    Unavailable,
    /// The service knows the caller and does not allow the request, or does not take its credentials: check both.
    /// [`StoreErrorKind::Invalid`].
    Denied,
    /// There are no credentials to ask with: check where they come from. [`StoreErrorKind::Invalid`].
    NoCredentials,
    /// The service refuses the request for what it is. [`StoreErrorKind::Invalid`].
    Refused,
    /// The service has no room for the secret. [`StoreErrorKind::Full`].
    Full,
    /// The answer is not one of the service's protocol. [`StoreErrorKind::Corrupt`].
    Malformed,
}

impl std::fmt::Display for SecretManagerErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Throttled => "limits the rate of requests; ask again later",
            Self::Unavailable => "cannot be asked now; ask again later",
            Self::Denied => "does not allow the request; check the credentials and their rights",
            Self::NoCredentials => {
                "cannot be asked without credentials; check where they come from"
            }
            Self::Refused => "refused the request",
            Self::Full => "has no room for the secret; check its quotas",
            Self::Malformed => "answered something that is not of its protocol",
        })
    }
}

fn shown_status(status: Option<StatusCode>) -> String {
    status.map_or_else(String::new, |status| {
        format!(" (status {})", status.as_u16())
    })
}

fn shown_code(code: Option<&'static str>) -> String {
    code.map_or_else(String::new, |code| format!(": {code}"))
}

fn shown_wait(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| {
        format!(", after {}", humantime::format_duration(wait))
    })
}

impl SecretManagerError {
    /// Returns the reason that a [`StoreError`] has, if a secret manager is where it comes from.
    #[must_use]
    pub fn of(error: &StoreError) -> Option<&Self> {
        error.source()?.downcast_ref()
    }

    /// Which kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> SecretManagerErrorKind {
        self.kind
    }

    /// The HTTP status of the answer, if there is one.
    #[must_use]
    pub const fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// When the service wants to be asked again (`Retry-After`, RFC 9110, section 10.2.3), if it said so.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(super) const fn new(service: &'static str, kind: SecretManagerErrorKind) -> Self {
        Self {
            service,
            kind,
            status: None,
            code: None,
            retry_after: None,
            source: None,
        }
    }

    pub(super) const fn malformed(service: &'static str) -> Self {
        Self::new(service, SecretManagerErrorKind::Malformed)
    }

    pub(super) const fn with_code(mut self, code: Option<&'static str>) -> Self {
        self.code = code;
        self
    }

    /// Takes an answer that is no success, by its status.
    pub(super) fn of_answer(
        service: &'static str,
        status: StatusCode,
        headers: &HeaderMap,
        now: std::time::SystemTime,
    ) -> Self {
        use SecretManagerErrorKind as Kind;
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Denied,
            StatusCode::TOO_MANY_REQUESTS => Kind::Throttled,
            StatusCode::REQUEST_TIMEOUT => Kind::Unavailable,
            StatusCode::INSUFFICIENT_STORAGE => Kind::Full,
            status if status.is_server_error() => Kind::Unavailable,
            status if status.is_client_error() => Kind::Refused,
            _ => Kind::Malformed,
        };
        Self {
            status: Some(status),
            retry_after: mcp_core::http_client::retry_after(headers, now),
            ..Self::new(service, kind)
        }
    }

    /// Replaces the kind, where the service's own code says more than the status.
    pub(super) const fn with_kind(mut self, kind: SecretManagerErrorKind) -> Self {
        self.kind = kind;
        self
    }

    pub(super) fn of_fetch(service: &'static str, error: FetchError) -> Self {
        let too_large = matches!(&error, FetchError::Http { source, .. } if source.kind() == HttpErrorKind::TooLarge);
        let kind = match error.is_transient() {
            _ if too_large => SecretManagerErrorKind::Malformed,
            true => SecretManagerErrorKind::Unavailable,
            false => SecretManagerErrorKind::Refused,
        };
        Self {
            source: Some(Box::new(error)),
            ..Self::new(service, kind)
        }
    }
}

impl From<SecretManagerError> for StoreError {
    fn from(error: SecretManagerError) -> Self {
        use SecretManagerErrorKind as Kind;
        let (kind, message) = match error.kind {
            Kind::Throttled => (
                StoreErrorKind::Unavailable,
                "the secret manager limits the rate of requests",
            ),
            Kind::Unavailable => (
                StoreErrorKind::Unavailable,
                "the secret manager cannot be asked now",
            ),
            Kind::Denied => (
                StoreErrorKind::Invalid,
                "the secret manager does not allow the request",
            ),
            Kind::NoCredentials => (
                StoreErrorKind::Invalid,
                "there are no credentials for the secret manager",
            ),
            Kind::Refused => (
                StoreErrorKind::Invalid,
                "the secret manager refused the request",
            ),
            Kind::Full => (StoreErrorKind::Full, "the secret manager has no room"),
            Kind::Malformed => (
                StoreErrorKind::Corrupt,
                "the secret manager's answer is malformed",
            ),
        };
        Self::new(kind, message).with_source(error)
    }
}
