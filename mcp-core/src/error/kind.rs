use http::StatusCode;

use super::RpcCode;
use crate::Era;

/// Whether another attempt can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The same call may succeed later.
    Transient,
    /// The same call will fail again.
    Permanent,
    /// The same call may succeed after the time in [`Error::retry_after`](crate::Error::retry_after).
    RateLimited,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:literal, $class:ident, $code:ident, $status:ident;)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $kind,)*
        }

        impl ErrorKind {
            /// Returns a fixed name, for metrics, logs and the `data` of an answer.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            pub(super) fn class(self) -> ErrorClass {
                match self { $(Self::$kind => ErrorClass::$class,)* }
            }

            pub(super) fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            fn stateless_code(self) -> RpcCode {
                match self { $(Self::$kind => RpcCode::$code,)* }
            }
        }
    };
}

// The one place that maps what happened to a class, a JSON-RPC code and the HTTP status that a client of
// revision 2026-07-28 is answered with.
kinds! {
    /// The body is not JSON.
    Parse: "parse", Permanent, PARSE_ERROR, BAD_REQUEST;
    /// The body is JSON but not a message that may stand here.
    InvalidRequest: "invalid_request", Permanent, INVALID_REQUEST, BAD_REQUEST;
    /// No such method.
    MethodNotFound: "method_not_found", Permanent, METHOD_NOT_FOUND, NOT_FOUND;
    /// The parameters do not fit the method, or name something that does not exist.
    InvalidParams: "invalid_params", Permanent, INVALID_PARAMS, OK;
    /// A required member of `_meta` is missing or malformed.
    InvalidMeta: "invalid_meta", Permanent, INVALID_PARAMS, BAD_REQUEST;
    /// No such resource.
    ResourceNotFound: "resource_not_found", Permanent, INVALID_PARAMS, OK;
    /// A header is missing, malformed, or disagrees with the body.
    HeaderMismatch: "header_mismatch", Permanent, HEADER_MISMATCH, BAD_REQUEST;
    /// The call needs a capability that its client did not declare.
    MissingCapability: "missing_capability", Permanent, MISSING_CAPABILITY, BAD_REQUEST;
    /// The revision is not spoken here.
    UnsupportedVersion: "unsupported_version", Permanent, UNSUPPORTED_VERSION, BAD_REQUEST;
    /// The session is unknown, ended, or belongs to another principal.
    SessionNotFound: "session_not_found", Permanent, INVALID_REQUEST, NOT_FOUND;
    /// The call needs a credential.
    Unauthenticated: "unauthenticated", Permanent, UNAUTHENTICATED, UNAUTHORIZED;
    /// The caller may not do this.
    PermissionDenied: "permission_denied", Permanent, PERMISSION_DENIED, FORBIDDEN;
    /// The user has to give an authorisation first.
    ConsentRequired: "consent_required", Permanent, CONSENT_REQUIRED, OK;
    /// A limit on the caller's rate is used up.
    RateLimited: "rate_limited", RateLimited, RATE_LIMITED, TOO_MANY_REQUESTS;
    /// A quota or an amount of money is used up.
    BudgetExhausted: "budget_exhausted", Permanent, BUDGET_EXHAUSTED, TOO_MANY_REQUESTS;
    /// Too much work is in flight or queued.
    Overloaded: "overloaded", Transient, OVERLOADED, SERVICE_UNAVAILABLE;
    /// A circuit breaker rejects calls for now.
    CircuitOpen: "circuit_open", Transient, CIRCUIT_OPEN, SERVICE_UNAVAILABLE;
    /// The call took longer than it may.
    Timeout: "timeout", Transient, TIMEOUT, OK;
    /// The call was cancelled.
    Cancelled: "cancelled", Permanent, CANCELLED, OK;
    /// The client does not read what it asked for.
    Stalled: "stalled", Permanent, STALLED, OK;
    /// The upstream is unavailable; whether it saw the call is not known.
    Unavailable: "unavailable", Transient, UNAVAILABLE, OK;
    /// The upstream cannot be reached, and has not seen the call.
    NotSent: "not_sent", Transient, UNAVAILABLE, OK;
    /// The upstream answered something that is not MCP.
    BadUpstream: "bad_upstream", Permanent, BAD_UPSTREAM, OK;
    /// The upstream, or the client for a server-initiated request, answered a JSON-RPC error.
    Answered: "answered", Permanent, INTERNAL_ERROR, OK;
    /// A message is larger than it may be.
    TooLarge: "too_large", Permanent, TOO_LARGE, PAYLOAD_TOO_LARGE;
    /// Internal error.
    Internal: "internal", Permanent, INTERNAL_ERROR, INTERNAL_SERVER_ERROR;
}

impl ErrorKind {
    pub(super) fn code(self, era: Era) -> RpcCode {
        match (self, era) {
            // The code of this error changed with revision 2026-07-28.
            (Self::ResourceNotFound, Era::Session) => RpcCode::RESOURCE_NOT_FOUND,
            // Codes -32020 and up do not exist before revision 2026-07-28.
            (Self::HeaderMismatch | Self::UnsupportedVersion, Era::Session) => {
                RpcCode::INVALID_REQUEST
            }
            (Self::MissingCapability, Era::Session) => RpcCode::INVALID_PARAMS,
            _ => self.stateless_code(),
        }
    }
}
