use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_core::{Error, ErrorKind, Request, Response};
use tower::ServiceExt;
use tower_service::Service;

use super::layer::Choice;
use super::{Breaker, BreakerLayer, ResponseFuture};

/// Stops calling what keeps failing.
#[derive(Debug, Clone)]
pub struct BreakerService<S> {
    inner: S,
    layer: Arc<BreakerLayer>,
}

impl<S> BreakerService<S> {
    pub(super) const fn new(inner: S, layer: Arc<BreakerLayer>) -> Self {
        Self { inner, layer }
    }

    mcp_core::inner_service!();
}

impl<S> Service<Request> for BreakerService<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let chosen;
        let breaker = match &self.layer.choice {
            Choice::One(breaker) => breaker,
            Choice::Each(choose) => match choose(&request) {
                Some(breaker) => {
                    chosen = breaker;
                    &chosen
                }
                None => return ResponseFuture::forward(self.inner.call(request), None),
            },
        };
        match (breaker.admit(), &self.layer.fallback) {
            (Ok(guard), _) => {
                let layer = Arc::clone(&self.layer);
                ResponseFuture::forward(self.inner.call(request), Some((guard, layer)))
            }
            (Err(_), Some(fallback)) => {
                ResponseFuture::fallback(Box::pin(fallback.clone().oneshot(request)))
            }
            (Err(wait), None) => ResponseFuture::rejected(reject(breaker, wait)),
        }
    }
}

fn reject(breaker: &Breaker, wait: Duration) -> Error {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let message = format!(
        "{} has failed repeatedly and is not called for now; try again in {seconds} s, or do without it",
        breaker.name()
    );
    Error::new(ErrorKind::CircuitOpen, message).with_retry_after(wait)
}
