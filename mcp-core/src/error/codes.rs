use std::fmt;

use http::StatusCode;

/// A JSON-RPC error code.
///
/// Codes of the specification are constants. Ours lie outside the range that JSON-RPC and MCP reserve
/// (-32768 to -32000; revision 2026-07-28, basic, "Error Codes").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RpcCode(i64);

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $code:literal;)*) => {
        impl RpcCode {
            $($(#[$doc])* pub const $constant: Self = Self($code);)*
        }
    };
}

codes! {
    /// The body is not JSON.
    PARSE_ERROR = -32700;
    /// The body is not a JSON-RPC message that may stand here.
    INVALID_REQUEST = -32600;
    /// No such method.
    METHOD_NOT_FOUND = -32601;
    /// The parameters do not fit the method.
    INVALID_PARAMS = -32602;
    /// The server failed.
    INTERNAL_ERROR = -32603;
    /// No such resource, before revision 2026-07-28.
    RESOURCE_NOT_FOUND = -32002;
    /// A URL elicitation has to be completed first (revision 2025-11-25).
    URL_ELICITATION_REQUIRED = -32042;
    /// A header and the body disagree.
    HEADER_MISMATCH = -32020;
    /// The request needs a capability that its client did not declare.
    MISSING_CAPABILITY = -32021;
    /// The revision is not spoken here.
    UNSUPPORTED_VERSION = -32022;
    /// A limit on the rate of requests is used up (SEP-3304, draft).
    DRAFT_RATE_LIMIT = -32023;

    /// The call needs a credential.
    UNAUTHENTICATED = -31001;
    /// The caller may not do this.
    PERMISSION_DENIED = -31003;
    /// A limit on the caller's rate is used up.
    RATE_LIMITED = -31029;
    /// Too much work is in progress or queued.
    OVERLOADED = -31030;
    /// A circuit breaker rejects calls for now.
    CIRCUIT_OPEN = -31031;
    /// A quota or an amount of money is used up.
    BUDGET_EXHAUSTED = -31032;
    /// The call took longer than it may.
    TIMEOUT = -31040;
    /// The call was cancelled.
    CANCELLED = -31041;
    /// The client does not read what it asked for.
    STALLED = -31042;
    /// The upstream cannot be reached.
    UNAVAILABLE = -31050;
    /// The upstream answered something that is not MCP.
    BAD_UPSTREAM = -31051;
    /// A message is larger than it may be.
    TOO_LARGE = -31052;
    /// The user has to give an authorisation first.
    CONSENT_REQUIRED = -31060;
}

impl RpcCode {
    /// Wraps a code.
    #[must_use]
    pub const fn new(code: i64) -> Self {
        Self(code)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Returns the HTTP status that revision 2026-07-28 gives to a code; 200 where it gives none.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            Self::HEADER_MISMATCH
            | Self::MISSING_CAPABILITY
            | Self::UNSUPPORTED_VERSION
            | Self::PARSE_ERROR
            | Self::INVALID_REQUEST => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        }
    }
}

impl fmt::Debug for RpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RpcCode({})", self.0)
    }
}

impl fmt::Display for RpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
