use std::task::{Context, Poll};

use mcp_core::{Error, Request};
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::future::Waiting;
use super::{Priority, QueueLayer, ResponseFuture};

/// Lets a bounded number of calls through at once and a bounded number wait.
#[derive(Debug, Clone)]
pub struct Queue<S> {
    inner: S,
    layer: QueueLayer,
}

impl<S> Queue<S> {
    pub(super) const fn new(inner: S, layer: QueueLayer) -> Self {
        Self { inner, layer }
    }

    mcp_core::inner_service!();
}

impl<S> Service<Request> for Queue<S>
where
    S: Service<Request, Error = Error> + Clone,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let core = &self.layer.core;
        if let Some(permit) = core.try_enter() {
            return ResponseFuture::forward(self.inner.call(request), permit);
        }
        let priority = self
            .layer
            .priority
            .as_ref()
            .map_or(Priority::Normal, |priority| priority(&request));
        let now = Instant::now();
        let own = now.checked_add(self.layer.deadline);
        let carried = request.deadline().map(|deadline| deadline.instant());
        let until = own.into_iter().chain(carried).min();
        if until.is_some_and(|until| until <= now) {
            return ResponseFuture::refused(core.refuse(None));
        }
        let Some(ticket) = core.enqueue(priority, request.principal().partition()) else {
            return ResponseFuture::refused(core.refuse(None));
        };
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        let sleep = until.map(|until| Box::pin(sleep_until(until)));
        ResponseFuture::waiting(Waiting {
            service,
            request,
            ticket,
            sleep,
            since: now,
        })
    }
}
