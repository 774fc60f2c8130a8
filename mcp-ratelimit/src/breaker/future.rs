use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mcp_core::{Error, Response};
use pin_project_lite::pin_project;

use super::BreakerLayer;
use super::handle::Guard;

type Fallback = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

pin_project! {
    /// The answer of a [`BreakerService`](super::BreakerService).
    ///
    /// # Cancel safety
    ///
    /// A dropped call counts as neither good nor bad, and a dropped probe gives its place to the next call.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The breaker admitted the call and will be told how it went.
        Forward { #[pin] future: F, guard: Option<(Guard, Arc<BreakerLayer>)> },
        // The breaker rejected the call and another service answers; boxed, since its type is erased.
        Fallback { future: Fallback },
        // The breaker rejected the call.
        Rejected { error: Option<Error> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn forward(future: F, guard: Option<(Guard, Arc<BreakerLayer>)>) -> Self {
        Self {
            state: State::Forward { future, guard },
        }
    }

    pub(super) fn fallback(future: Fallback) -> Self {
        Self {
            state: State::Fallback { future },
        }
    }

    pub(super) const fn rejected(error: Error) -> Self {
        Self {
            state: State::Rejected { error: Some(error) },
        }
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ResponseFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forward { future, guard } => {
                let result = ready!(future.poll(cx));
                if let Some((guard, layer)) = guard.take() {
                    guard.report(layer.judge(&result));
                }
                Poll::Ready(result)
            }
            StateProj::Fallback { future } => future.as_mut().poll(cx),
            StateProj::Rejected { error } => {
                Poll::Ready(Err(error.take().expect("polled after it was ready")))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("breaker::ResponseFuture")
    }
}
