use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_core::{Error, Request};
use tower_service::Service;

use super::future::Waiting;
use super::{Overflow, RateLimitLayer, Refusal, ResponseFuture};

/// Refuses or delays calls beyond a quota.
#[derive(Debug, Clone)]
pub struct RateLimit<S> {
    inner: S,
    layer: RateLimitLayer,
}

impl<S> RateLimit<S> {
    pub(super) const fn new(inner: S, layer: RateLimitLayer) -> Self {
        Self { inner, layer }
    }

    mcp_core::inner_service!();
}

impl<S> Service<Request> for RateLimit<S>
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
        let Err(refusal) = self.layer.limiter.check(&request) else {
            return ResponseFuture::forward(self.inner.call(request));
        };
        let Some((wait, seat)) = self.seat(&refusal) else {
            let draft = self.layer.draft_code && request.upstream().is_none();
            return ResponseFuture::refused(refuse(&refusal, draft));
        };
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let up_to = match self.layer.overflow {
            Overflow::Wait { up_to, .. } => up_to,
            Overflow::Shed => Duration::ZERO,
        };
        let waiting = Waiting::new(ready, request, &self.layer, seat, wait, up_to);
        ResponseFuture::waiting(waiting)
    }
}

impl<S> RateLimit<S> {
    /// Finds a seat in the waiting room, if the layer has one and it is of use.
    fn seat(&self, refusal: &Refusal) -> Option<(Duration, Seat)> {
        let Overflow::Wait { up_to, waiting } = self.layer.overflow else {
            return None;
        };
        let wait = refusal.wait().filter(|wait| *wait <= up_to)?;
        Seat::take(&self.layer.waiting, waiting).map(|seat| (wait, seat))
    }
}

pub(super) fn refuse(refusal: &Refusal, draft: bool) -> Error {
    let limit = metrics::SharedString::from(refusal.limit().to_owned());
    metrics::counter!("mcp_limit_refusals_total", "limit" => limit).increment(1);
    tracing::debug!(limit = refusal.limit(), wait = ?refusal.wait(), "rate limit refused a call");
    match draft {
        true => refusal.draft(),
        false => Error::from(refusal),
    }
}

/// One place among the waiting, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(room: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            (taken < most).then_some(taken + 1)
        })
        .ok()
        .map(|_| Self(Arc::clone(room)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
