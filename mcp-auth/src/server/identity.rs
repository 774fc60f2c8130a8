use std::{fmt, sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use mcp_core::Principal;
use serde_json::Value;

use super::InboundToken;
use crate::alive::Alive;

/// What a credential is bound to: without it the credential is worth nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// SHA-256 of the certificate of the connection (RFC 8705, section 3.1).
    pub(super) certificate: Option<[u8; 32]>,
    /// The thumbprint of the key that proofs are signed by (RFC 9449, section 6.1).
    pub(super) key: Option<[u8; 32]>,
}

impl Bound {
    /// Reads `cnf` (RFC 7800). A binding that is not known here must not be passed over.
    pub(super) fn read(confirmation: Option<&Value>) -> Result<Self, Refusal> {
        const UNKNOWN: Refusal =
            Refusal::invalid("the token is bound in a way that is not known here");
        let Some(confirmation) = confirmation else {
            return Ok(Self::default());
        };
        let print = |name: &str| match confirmation.get(name) {
            Some(Value::String(text)) => {
                let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| UNKNOWN)?;
                bytes.try_into().map(Some).map_err(|_| UNKNOWN)
            }
            Some(_) => Err(UNKNOWN),
            None => Ok(None),
        };
        let own = Self {
            certificate: print("x5t#S256")?,
            key: print("jkt")?,
        };
        match own == Self::default() {
            true => Err(UNKNOWN),
            false => Ok(own),
        }
    }
}

/// What a scheme has found out from a credential that it has verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Identity {
    /// Who calls, with the scopes that the credential grants.
    pub principal: Principal,
    /// When the credential ends; `None` for one that does not.
    pub expires: Option<SystemTime>,
    /// When it was issued.
    pub issued: Option<SystemTime>,
    /// The credential's own id, such as `jti`, by which it can be revoked.
    pub id: Option<Box<str>>,
    /// The OAuth client that the credential was issued to.
    pub client: Option<Box<str>>,
    pub(super) alive: Option<Alive>,
    pub(super) bound_to: Bound,
    /// Whether the verdict may be remembered.
    pub(super) remember: bool,
}

impl Identity {
    /// Describes what a scheme has found out.
    #[must_use]
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            expires: None,
            issued: None,
            id: None,
            client: None,
            alive: None,
            bound_to: Bound::default(),
            remember: true,
        }
    }

    /// Ends with something else too: a key that is withdrawn, an entry that is removed.
    #[must_use]
    pub fn with_alive(mut self, alive: Alive) -> Self {
        self.alive = Some(alive);
        self
    }

    /// Returns whether a verdict that was reached earlier still holds.
    pub(super) fn holds(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|end| now < end) && self.alive.as_ref().is_none_or(Alive::is_alive)
    }
}

/// States that a credential has been verified here, for whoever is behind the layer.
///
/// There is no way to make one but to be let through by the [`ResourceServer`](super::ResourceServer). It is in
/// the extensions of the HTTP request and in [`Request::auth_context`](mcp_core::Request::auth_context).
#[derive(Clone)]
pub struct VerifiedIdentity(Arc<Verified>);

struct Verified {
    identity: Identity,
    scheme: &'static str,
    /// Whether an authorization server has issued the credential.
    of_issuer: bool,
    /// When its verification began.
    judged: SystemTime,
    token: Option<InboundToken>,
}

impl VerifiedIdentity {
    pub(super) fn new(
        identity: Identity,
        (scheme, of_issuer): (&'static str, bool),
        token: Option<InboundToken>,
        judged: SystemTime,
    ) -> Self {
        Self(Arc::new(Verified {
            identity,
            scheme,
            of_issuer,
            judged,
            token,
        }))
    }

    pub(super) fn judged(&self) -> SystemTime {
        self.0.judged
    }

    pub(super) fn is_of_issuer(&self) -> bool {
        self.0.of_issuer
    }

    /// Returns who calls.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.identity.principal
    }

    /// Returns what the credential says.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Returns the name of the scheme that verified the credential.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.0.scheme
    }

    /// Returns the token, sealed, for a scheme that has one.
    #[must_use]
    pub fn token(&self) -> Option<&InboundToken> {
        self.0.token.as_ref()
    }
}

impl fmt::Debug for VerifiedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedIdentity")
            .field("principal", self.principal())
            .field("scheme", &self.0.scheme)
            .finish_non_exhaustive()
    }
}

/// Why a credential is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    kind: RefusalKind,
    reason: &'static str,
}

/// The kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// There is no credential.
    Missing,
    /// The request as such makes no sense.
    Malformed,
    /// The request carries more than one credential (RFC 6750, section 3.1).
    SeveralCredentials,
    /// The credential is not good, or no longer.
    Invalid,
    /// The proof for the key that the credential is bound to is not there, or not good (RFC 9449, section 7.1).
    InvalidProof,
    /// The proof has to contain a nonce of this server (RFC 9449, section 9).
    NonceNeeded,
    /// The credential is good and does not grant what is needed.
    InsufficientScope,
    /// It cannot be found out now.
    Unavailable,
}

impl Refusal {
    /// Refuses a credential that is not good. The reason is a fixed text: it reaches the caller and the log.
    #[must_use]
    pub const fn invalid(reason: &'static str) -> Self {
        Self::new(RefusalKind::Invalid, reason)
    }

    /// Refuses a request that makes no sense.
    #[must_use]
    pub const fn malformed(reason: &'static str) -> Self {
        Self::new(RefusalKind::Malformed, reason)
    }

    /// Refuses because it cannot be found out now whether a credential is good.
    #[must_use]
    pub const fn unavailable(reason: &'static str) -> Self {
        Self::new(RefusalKind::Unavailable, reason)
    }

    pub(super) const fn new(kind: RefusalKind, reason: &'static str) -> Self {
        Self { kind, reason }
    }

    /// Returns what kind of refusal this is.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// Returns the reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns the status to answer with (MCP 2026-07-28, authorization, "Error Handling").
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Missing
            | RefusalKind::Invalid
            | RefusalKind::InvalidProof
            | RefusalKind::NonceNeeded => StatusCode::UNAUTHORIZED,
            RefusalKind::Malformed | RefusalKind::SeveralCredentials => StatusCode::BAD_REQUEST,
            RefusalKind::InsufficientScope => StatusCode::FORBIDDEN,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the error code of the challenge (RFC 6750, section 3.1; RFC 9449, section 12.2); none where no credential was sent.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        match self.kind {
            RefusalKind::Missing | RefusalKind::Unavailable => None,
            RefusalKind::Malformed | RefusalKind::SeveralCredentials => Some("invalid_request"),
            RefusalKind::Invalid => Some("invalid_token"),
            RefusalKind::InvalidProof => Some("invalid_dpop_proof"),
            RefusalKind::NonceNeeded => Some("use_dpop_nonce"),
            RefusalKind::InsufficientScope => Some("insufficient_scope"),
        }
    }
}
