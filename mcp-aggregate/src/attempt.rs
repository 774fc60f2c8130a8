//! One span for each attempt at an upstream.

use std::task::{Context, Poll};

use mcp_core::{Error, Request, Response};
use tower_service::Service;
use tracing::{Instrument, Span, instrument::Instrumented};

/// Returns the span of an attempt, below the span of its call.
pub(crate) fn span(upstream: &str, request: &Request) -> Span {
    tracing::debug_span!(
        parent: request.span(),
        "mcp.attempt",
        upstream,
        method = %request.method(),
    )
}

/// Puts each call of a service into a span of its own. Innermost, so that each attempt of a retry layer is seen.
#[derive(Clone, Debug)]
pub(crate) struct Attempt<S> {
    inner: S,
    upstream: std::sync::Arc<str>,
}

impl<S> Attempt<S> {
    pub(crate) fn new(upstream: &str, inner: S) -> Self {
        Self {
            inner,
            upstream: upstream.into(),
        }
    }
}

impl<S> Service<Request> for Attempt<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let span = span(&self.upstream, &request);
        self.inner.call(request).instrument(span)
    }
}
