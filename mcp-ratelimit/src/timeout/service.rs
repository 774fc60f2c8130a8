use std::task::{Context, Poll};

use mcp_core::{Error, Notifier, Request};
use tokio::time::Instant;
use tower_service::Service;

use super::asked::Asked;
use super::future::Watch;
use super::{ResponseFuture, TimeoutLayer};

/// Ends calls that take too long.
#[derive(Debug, Clone)]
pub struct Timeout<S> {
    inner: S,
    layer: TimeoutLayer,
}

impl<S> Timeout<S> {
    pub(super) const fn new(inner: S, layer: TimeoutLayer) -> Self {
        Self { inner, layer }
    }

    mcp_core::inner_service!();
}

impl<S> Service<Request> for Timeout<S>
where
    S: Service<Request, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let TimeoutLayer {
            longest,
            idle,
            longest_pause,
        } = self.layer;
        let carried = request.deadline().map(|deadline| deadline.instant());
        if longest.is_none() && idle.is_none() {
            let watch = Watch {
                deadline: carried,
                own: None,
                idle,
                asked: None,
                seen: 0,
                notifier: Notifier::none(),
                alive: None,
            };
            return ResponseFuture::new(self.inner.call(request), watch);
        }
        let now = Instant::now();
        let asker = request.asker().cloned();
        let asker = asker.filter(|_| !longest_pause.is_zero());
        let (request, asked) = match asker {
            Some(asker) => {
                let asked = Asked::new(longest_pause);
                (request.with_asker(asked.watch(asker)), Some(asked))
            }
            None => (request, None),
        };
        let notifier = if idle.is_some() {
            request.notifier().clone()
        } else {
            Notifier::none()
        };
        let watch = Watch {
            deadline: carried,
            own: longest.and_then(|longest| now.checked_add(longest)),
            idle,
            asked,
            seen: notifier.sent(),
            notifier,
            alive: Some(now),
        };
        ResponseFuture::new(self.inner.call(request), watch)
    }
}
