use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::WWW_AUTHENTICATE;
use mcp_core::clock::{SystemWallClock, WallClock};
use mcp_core::{
    Error, ErrorClass, ErrorKind, Method, Request, RequestId, Response, ToolFailureClass, meta,
};
use pin_project_lite::pin_project;
use serde_json::json;
use tower_layer::Layer;
use tower_service::Service;

use super::Diagnosis;

/// Applies a [`ToolFailureService`].
///
/// Put it outside the layers that refuse (limits, budgets, breakers, timeouts, validation, policy) and inside the ones that
/// count or record errors, which see a refusal as an answer otherwise.
///
/// # Examples
///
/// ```
/// use mcp_core::{Error, ErrorKind, Json, Method, Request, Response, ToolFailureClass};
/// use mcp_ratelimit::diagnose::ToolFailureLayer;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let busy = service_fn(|_: Request| async {
///     Err::<Response, _>(Error::new(ErrorKind::CircuitOpen, "the upstream failed 5 times in a row"))
/// });
/// let params = Json::parse(r#"{"name":"search"}"#)?;
/// let call = Request::new(Method::TOOLS_CALL, Some(params))?;
/// let answer = ToolFailureLayer::new().layer(busy).oneshot(call).await?;
/// let failure = answer.tool_failure().unwrap();
/// assert_eq!(failure.class(), Some(ToolFailureClass::Reliability));
/// assert_eq!(failure.code().as_deref(), Some("circuit_open"));
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[must_use]
#[derive(Debug, Clone)]
pub struct ToolFailureLayer {
    clock: Arc<dyn WallClock>,
}

impl ToolFailureLayer {
    /// Answers refused tool calls as results.
    pub fn new() -> Self {
        Self {
            clock: Arc::new(SystemWallClock::new()),
        }
    }

    /// Dates `retryNotBefore` by another clock. Default is the system's.
    pub fn with_clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Writes an error as the result of a tool; `None` for one that has to stay an error.
    fn result(&self, error: &Error, request: &Request) -> Option<Response> {
        let class = class_of(error)?;
        let diagnosis = Diagnosis::of(error, request);
        let correlation = request.request_id().unwrap_or_else(RequestId::next);
        tracing::debug!(%correlation, ?error, "a tool call is answered with its failure");
        let mut failure = json!({
            "class": class_name(class),
            "code": error.kind().name(),
            "retryable": error.class() != ErrorClass::Permanent,
            "correlationId": correlation.to_string(),
            "agentGuidance": diagnosis.guidance(),
        });
        let date = error
            .retry_after()
            .and_then(|wait| self.clock.now().checked_add(wait));
        if let Some(date) = date {
            failure["retryNotBefore"] = humantime::format_rfc3339_millis(date).to_string().into();
        }
        let result = json!({
            "content": [{ "type": "text", "text": diagnosis.for_model() }],
            "isError": true,
            "_meta": { meta::TOOL_FAILURE: failure },
        });
        Some(Response::new(result.into()))
    }
}

impl Default for ToolFailureLayer {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns what kind of failure an error is to a model; `None` for what the client itself has to see: protocol errors,
/// sign-in and consent, a challenge, an end that nobody waits for, and errors that the upstream answered.
fn class_of(error: &Error) -> Option<ToolFailureClass> {
    if error.headers().contains_key(WWW_AUTHENTICATE) {
        return None;
    }
    match error.kind() {
        ErrorKind::RateLimited | ErrorKind::BudgetExhausted | ErrorKind::PermissionDenied => {
            Some(ToolFailureClass::Governance)
        }
        ErrorKind::Overloaded
        | ErrorKind::CircuitOpen
        | ErrorKind::Timeout
        | ErrorKind::Unavailable
        | ErrorKind::NotSent
        | ErrorKind::BadUpstream
        | ErrorKind::Internal => Some(ToolFailureClass::Reliability),
        ErrorKind::InvalidParams | ErrorKind::TooLarge => Some(ToolFailureClass::Capability),
        _ => None,
    }
}

fn class_name(class: ToolFailureClass) -> &'static str {
    match class {
        ToolFailureClass::Governance => "governance",
        ToolFailureClass::Capability => "capability",
        _ => "reliability",
    }
}

impl<S> Layer<S> for ToolFailureLayer {
    type Service = ToolFailureService<S>;

    fn layer(&self, inner: S) -> ToolFailureService<S> {
        ToolFailureService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Answers a `tools/call` that was refused or failed on the way with a result that says so (`isError`), which a model reads,
/// in the place of a JSON-RPC error, which many clients hide from it.
///
/// `_meta` of the result has the member `io.modelcontextprotocol/toolFailure` of SEP-3313 (draft): `class` (`governance` for
/// limits, budgets and policy, `reliability` for what failed or was not tried, `capability` for a call that does not fit), `code`
/// (the name of the [`ErrorKind`]), `retryable`, `retryNotBefore` (RFC 3339) where the time is known, `correlationId` (the id
/// of the call in logs and audit records, and in a debug event that this layer writes), and `agentGuidance`.
///
/// Errors that an upstream answered pass unchanged, and so do protocol errors, `unauthenticated`, consents, and refusals
/// with a `WWW-Authenticate` header, which the client acts on. Other methods are not looked at.
///
/// # Security
///
/// The text names the tool and the upstream and has the message of the error; sources of errors are not shown.
#[derive(Debug, Clone)]
pub struct ToolFailureService<S> {
    inner: S,
    layer: ToolFailureLayer,
}

impl<S> ToolFailureService<S> {
    mcp_core::inner_service!();
}

impl<S> Service<Request> for ToolFailureService<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = ToolFailureFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let kept = (*request.method() == Method::TOOLS_CALL)
            .then(|| Box::new((self.layer.clone(), request.clone())));
        ToolFailureFuture {
            future: self.inner.call(request),
            kept,
        }
    }
}

pin_project! {
    /// The answer of a [`ToolFailureService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ToolFailureFuture<F> {
        #[pin]
        future: F,
        kept: Option<Box<(ToolFailureLayer, Request)>>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ToolFailureFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        Poll::Ready(result.or_else(|error| {
            let kept = this.kept.as_deref();
            let answer = kept.and_then(|(layer, request)| layer.result(&error, request));
            answer.ok_or(error)
        }))
    }
}

impl<F> fmt::Debug for ToolFailureFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("diagnose::ToolFailureFuture")
    }
}
