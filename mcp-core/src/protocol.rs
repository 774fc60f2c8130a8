//! Protocol values that travel with each request: revision, capabilities, log level, trace context.

use std::{fmt, sync::Arc};

use crate::{Json, Object};

/// A revision of the Model Context Protocol.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProtocolVersion(Revision);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Revision {
    Known(&'static str),
    Other(Arc<str>),
}

/// How a revision carries state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a third era would change every place that asks"
)]
pub enum Era {
    /// 2026-07-28 and later: each request describes itself.
    Stateless,
    /// 2025-11-25 and earlier: `initialize` opens a session.
    Session,
}

impl ProtocolVersion {
    /// Revision 2024-11-05.
    pub const V_2024_11_05: Self = Self(Revision::Known("2024-11-05"));
    /// Revision 2025-03-26.
    pub const V_2025_03_26: Self = Self(Revision::Known("2025-03-26"));
    /// Revision 2025-06-18.
    pub const V_2025_06_18: Self = Self(Revision::Known("2025-06-18"));
    /// Revision 2025-11-25, the last with sessions.
    pub const V_2025_11_25: Self = Self(Revision::Known("2025-11-25"));
    /// Revision 2026-07-28, stateless.
    pub const V_2026_07_28: Self = Self(Revision::Known("2026-07-28"));

    /// The newest revision that this crate speaks.
    pub const LATEST: Self = Self::V_2026_07_28;
    /// The newest revision with sessions that this crate speaks.
    pub const LATEST_SESSION: Self = Self::V_2025_11_25;

    /// The revisions of the session era that this crate speaks, oldest first.
    pub const SESSION_ERA: [Self; 4] = [
        Self::V_2024_11_05,
        Self::V_2025_03_26,
        Self::V_2025_06_18,
        Self::V_2025_11_25,
    ];

    /// Returns the revision of this name, known or not.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::known(name).unwrap_or_else(|| Self(Revision::Other(name.into())))
    }

    /// Returns the revision of this name when this crate speaks it.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        if name == Self::V_2026_07_28.as_str() {
            return Some(Self::V_2026_07_28);
        }
        Self::SESSION_ERA
            .into_iter()
            .find(|version| version.as_str() == name)
    }

    /// Returns the revision's name, a date.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Revision::Known(name) => name,
            Revision::Other(name) => name,
        }
    }

    /// Returns the revision's era. Dates order revisions, so this holds for unknown ones too.
    #[must_use]
    pub fn era(&self) -> Era {
        if self.as_str() >= Self::V_2026_07_28.as_str() {
            Era::Stateless
        } else {
            Era::Session
        }
    }
}

impl PartialOrd for ProtocolVersion {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ProtocolVersion {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client says it can do, as it said it: a JSON object, forwarded byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCapabilities(Json);

impl ClientCapabilities {
    /// No capability at all.
    pub const NONE: Self = Self(Json::EMPTY_OBJECT);

    /// Wraps a capabilities object; anything else counts as no capability.
    #[must_use]
    pub fn new(json: Json) -> Self {
        if json.is_object() {
            Self(json)
        } else {
            Self::NONE
        }
    }

    /// Returns the object as the client sent it.
    #[must_use]
    pub fn as_json(&self) -> &Json {
        &self.0
    }

    /// Returns whether a capability was declared, for instance `"sampling"`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.member(name).is_some_and(|value| !value.is_null())
    }

    /// Returns whether an extension was declared, for instance `"io.modelcontextprotocol/tasks"`.
    #[must_use]
    pub fn has_extension(&self, name: &str) -> bool {
        self.0
            .member("extensions")
            .and_then(|extensions| extensions.member(name))
            .is_some()
    }
}

impl Default for ClientCapabilities {
    fn default() -> Self {
        Self::NONE
    }
}

/// Severity of a log message, as in RFC 5424, section 6.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "RFC 5424 has eight")]
pub enum LogLevel {
    /// Detail for debugging.
    Debug,
    /// Normal events.
    Info,
    /// Normal but significant events.
    Notice,
    /// Conditions that may need a look.
    Warning,
    /// Failures.
    Error,
    /// A component is failing.
    Critical,
    /// Action is needed at once.
    Alert,
    /// The system is unusable.
    Emergency,
}

impl LogLevel {
    /// Every level, the least severe first.
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// Returns the level of this name.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// Returns the name used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}

/// W3C trace context as it arrived in `_meta` (SEP-414): unprefixed `traceparent`, `tracestate`, `baggage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    parent: Option<Arc<str>>,
    state: Option<Arc<str>>,
    baggage: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads the context of a request's `_meta`. A member that is not a string is left out.
    #[must_use]
    pub fn from_meta(meta: &Object) -> Self {
        let text = |key| meta.text(key).map(Arc::from);
        Self {
            parent: text("traceparent"),
            state: text("tracestate"),
            baggage: text("baggage"),
        }
    }

    /// Returns `traceparent`.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// Returns `tracestate`.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns `baggage`.
    #[must_use]
    pub fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }
}

/// Names of `_meta` members of revision 2026-07-28 (basic, "`_meta`").
pub mod meta {
    /// The revision that a request is written in.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// What the client of this request can do.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Name and version that the client gives itself.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Name and version that the server gives itself.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// The least severe log message that a request wants.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// The `subscriptions/listen` call that a notification belongs to.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// The task that a message of revision 2025-11-25 belongs to.
    pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
    /// Why a tool failed, in a form for programs (SEP-3313, draft).
    pub const TOOL_FAILURE: &str = "io.modelcontextprotocol/toolFailure";
    /// The token that progress notifications carry.
    pub const PROGRESS_TOKEN: &str = "progressToken";
}
