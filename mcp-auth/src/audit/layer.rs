use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, Error, ErrorKind, Request, Response, Seam,
    clock::{Clock, SystemClock, SystemWallClock, WallClock},
};
use sha2::{Digest as _, Sha256};
use tower_layer::Layer;
use tower_service::Service;

/// Records every call: who, what, a digest of the arguments, and what came of it. Never the arguments or the result.
///
/// Put it outermost. A call that the sink refuses to record beforehand is not made: a `….begin` event is recorded before
/// calls that act (`tools/call`), and the outcome of every call after it.
#[derive(Clone)]
pub struct AuditLayer {
    sink: Arc<dyn AuditSink>,
    wall: Arc<dyn WallClock>,
    clock: Arc<dyn Clock>,
}

impl AuditLayer {
    /// Records into a sink.
    #[must_use]
    pub fn new(sink: Arc<dyn AuditSink>) -> Self {
        Self {
            sink,
            wall: Arc::new(SystemWallClock::new()),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Uses another clock for dates.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    fn event(&self, request: &Request, outcome: AuditOutcome) -> AuditEvent {
        let action = request.method().as_str().to_owned();
        let principal = request.principal().clone();
        let mut event = AuditEvent::new(self.wall.now(), principal, action, outcome);
        event.request_id = request.request_id();
        event.target = request.name().map(Into::into);
        event.upstream = request.upstream().cloned();
        let arguments = request.param("arguments");
        event.digest = arguments.map(|own| Sha256::digest(own.as_bytes()).into());
        event
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Audit<S> {
        Audit {
            inner,
            layer: self.clone(),
        }
    }
}

/// Applies an [`AuditLayer`].
#[derive(Clone)]
pub struct Audit<S> {
    inner: S,
    layer: AuditLayer,
}

impl<S> Audit<S> {
    mcp_core::inner_service!();
}

fn outcome(answer: &Result<Response, Error>) -> AuditOutcome {
    match answer {
        Ok(answer) if answer.is_tool_error() => AuditOutcome::Failed("tool error".into()),
        Ok(_) => AuditOutcome::Succeeded,
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::RateLimited
            | ErrorKind::BudgetExhausted
            | ErrorKind::ConsentRequired => AuditOutcome::Denied(error.kind().name().into()),
            kind => AuditOutcome::Failed(kind.name().into()),
        },
    }
}

impl<S: Seam> Service<Request> for Audit<S> {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits a sink whose type is not known.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            let mut event = layer.event(&request, AuditOutcome::Succeeded);
            if request.tool().is_some() {
                let mut begin = event.clone();
                begin.action = "tools/call.begin".into();
                layer.sink.record(&begin).await?;
            }
            let started = layer.clock.now();
            let answer = inner.call(request).await;
            event.time = layer.wall.now();
            event.duration = Some(layer.clock.now() - started);
            event.outcome = outcome(&answer);
            if let Err(error) = &answer {
                event.upstream = error.upstream().cloned().or(event.upstream);
            }
            // What has happened has happened: its answer is not kept back for a sink that fails now.
            if let Err(error) = layer.sink.record(&event).await {
                tracing::error!(%error, action = %event.action, "the outcome of a call was not recorded");
            }
            answer
        })
    }
}

impl fmt::Debug for AuditLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for Audit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
