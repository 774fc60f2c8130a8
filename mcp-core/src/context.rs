use std::sync::Arc;

use tokio::time::Instant;
use tracing::Span;

use crate::{
    Asker, AuthContext, ClientCapabilities, Json, LogLevel, Principal, ProtocolVersion, RequestId,
    SessionKey, ToolAnnotations, ToolSchemas, TraceContext, UpstreamId, Visibility,
    mirror::Mirrors,
};

/// When the answer to a request stops being of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline at this instant.
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// A deadline this long from now.
    #[must_use]
    pub fn after(duration: std::time::Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// Returns the instant.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// The call context that every layer may ask for. Shared by clones of a request.
#[derive(Clone, Debug)]
pub(crate) struct CallContext {
    pub(crate) principal: Principal,
    pub(crate) version: ProtocolVersion,
    pub(crate) capabilities: ClientCapabilities,
    pub(crate) client_info: Option<Json>,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) trace: TraceContext,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) session: Option<SessionKey>,
    pub(crate) asker: Option<Asker>,
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) annotations: Option<ToolAnnotations>,
    pub(crate) schemas: Option<Arc<ToolSchemas>>,
    pub(crate) mirrors: Option<Arc<Mirrors>>,
    pub(crate) visibility: Visibility,
    pub(crate) mirrored: Option<Mirrored>,
    pub(crate) auth_context: AuthContext,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) span: Span,
}

/// Parameters that HTTP headers mirror (`Mcp-Param-*`): header name without the prefix, decoded value.
pub(crate) type Mirrored = Arc<[(Box<str>, Box<str>)]>;

impl Default for CallContext {
    fn default() -> Self {
        Self {
            principal: Principal::anonymous(),
            version: ProtocolVersion::LATEST,
            capabilities: ClientCapabilities::NONE,
            client_info: None,
            log_level: None,
            trace: TraceContext::default(),
            deadline: None,
            session: None,
            asker: None,
            upstream: None,
            annotations: None,
            schemas: None,
            mirrors: None,
            visibility: Visibility::all(),
            mirrored: None,
            auth_context: AuthContext::new(),
            request_id: None,
            span: Span::none(),
        }
    }
}

pub(crate) type SharedContext = Arc<CallContext>;
