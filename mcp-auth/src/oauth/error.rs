use mcp_core::{Error, ErrorKind, store::StoreError};

use crate::{discovery::DiscoveryError, net::FetchError, wire::WireError};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OAuthError {
    /// The authorization server refused, with this code (RFC 6749, section 5.2).
    #[error("the authorization server refused: {code}")]
    Refused {
        /// The code, such as `invalid_grant`.
        code: String,
    },
    /// The user refused, or the authorization server did so in front of the user.
    #[error("the authorization was not given: {code}")]
    NotGiven {
        /// The code, such as `access_denied`.
        code: String,
    },
    /// There was no usable answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The authorization server is not found or not to be trusted.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The protected resource's metadata speaks of another resource (RFC 9728, section 3.3).
    #[error("the metadata is of another resource than {0}; it is not used")]
    OtherResource(String),
    /// The resource names no authorization server.
    #[error("{0} names no authorization server")]
    NoServer(String),
    /// The authorization server does not bind codes by `S256`, or does not say so.
    #[error("{0} does not announce PKCE with S256; it is not used")]
    NoPkce(String),
    /// The authorization server lacks an endpoint.
    #[error("{issuer} has no {endpoint}")]
    NoEndpoint {
        /// The server.
        issuer: String,
        /// What is missing.
        endpoint: &'static str,
    },
    /// Tokens are to be bound to a key, and the authorization server does not do that by ES256 (RFC 9449, section 5.1).
    #[error("{0} does not announce DPoP with ES256, and tokens have to be bound to a key")]
    NoDpop(String),
    /// There is no client to be, and no way to register one.
    #[error(
        "no client is registered at {0}, and it takes no registrations; register one and configure it"
    )]
    NoClient(String),
    /// The answer belongs to no request that is open: unknown, used before, or too late.
    #[error("the answer belongs to no request that is open")]
    UnknownState,
    /// The answer names another issuer than the one that was asked (RFC 9207).
    #[error("the answer is of another issuer than the one that was asked")]
    MixedUp,
    /// Something was given that cannot be used.
    #[error("{0}")]
    Unusable(&'static str),
    /// The vault failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OAuthError {
    /// Returns whether another try later can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch(error) | Self::Discovery(DiscoveryError::Fetch(error)) => {
                error.is_transient()
            }
            Self::Refused { code } => {
                matches!(
                    code.as_str(),
                    "temporarily_unavailable" | "server_error" | "slow_down"
                )
            }
            Self::Store(_) => true,
            _ => false,
        }
    }

    /// Returns whether the user has to authorise again.
    #[must_use]
    pub fn needs_consent(&self) -> bool {
        matches!(self, Self::Refused { code } if code == "invalid_grant")
    }
}

impl From<WireError> for OAuthError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Refused(code) => Self::Refused { code },
            WireError::Fetch(error) => Self::Fetch(error),
            WireError::Key => Self::Unusable("the key that tokens are bound to cannot sign"),
        }
    }
}

impl From<OAuthError> for Error {
    fn from(error: OAuthError) -> Self {
        let (kind, message) = match error.is_transient() {
            true => (
                ErrorKind::Unavailable,
                "the credential for this upstream cannot be had now",
            ),
            false => (
                ErrorKind::PermissionDenied,
                "there is no credential for this upstream",
            ),
        };
        Self::new(kind, message).with_source(error)
    }
}
