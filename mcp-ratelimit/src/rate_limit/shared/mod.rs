//! One count over many processes, on Redis.
//!
//! A decision is one round trip, atomic, by the server's clock. [`WhenAway`] says what happens while Redis does
//! not answer within the timeout; one call in a second then looks if it is back, and the others do not wait.
//! The gauge `mcp_limit_shared_away` is 1 for as long as that lasts.
//!
//! How far the quota can be exceeded: not at all while one Redis keeps its data, whatever the processes do and
//! whatever their clocks say. Each time Redis loses its data, by the burst. Each time it goes away, under
//! [`WhenAway::Local`], by the burst, since the processes begin to count from zero (and by one call for each process
//! that shares a burst smaller than their number); under [`WhenAway::Open`] without bound.
//!
//! Several limits in one layer ([`SharedRateLimitLayer::all`]) are asked at once, each where its key lives, so that they
//! may be on different nodes of a cluster. If one refuses, the others are given back what they counted, by a second
//! round trip: until then another call may be refused that would have been allowed, never the other way round.

mod decide;
mod limiter;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::join_all;
use mcp_core::{Error, Request};
use tower_layer::Layer;
use tower_service::Service;

pub use self::limiter::{SharedLimiter, WhenAway};
use super::Refusal;
use super::service::refuse;

/// Applies a [`SharedRateLimit`].
#[must_use]
#[derive(Debug, Clone)]
pub struct SharedRateLimitLayer(Arc<[SharedLimiter]>);

impl SharedRateLimitLayer {
    /// Enforces a limit that is counted on Redis.
    pub fn new(limiter: SharedLimiter) -> Self {
        Self::all([limiter])
    }

    /// Enforces several limits: a call has to pass them all, and one that is refused is counted by none.
    pub fn all(limiters: impl IntoIterator<Item = SharedLimiter>) -> Self {
        Self(limiters.into_iter().collect())
    }
}

impl<S> Layer<S> for SharedRateLimitLayer {
    type Service = SharedRateLimit<S>;

    fn layer(&self, inner: S) -> SharedRateLimit<S> {
        SharedRateLimit {
            inner,
            limiters: Arc::clone(&self.0),
        }
    }
}

/// Refuses calls beyond a quota that many processes share.
#[derive(Debug, Clone)]
pub struct SharedRateLimit<S> {
    inner: S,
    limiters: Arc<[SharedLimiter]>,
}

impl<S> SharedRateLimit<S> {
    mcp_core::inner_service!();
}

impl<S> Service<Request> for SharedRateLimit<S>
where
    S: Service<Request, Error = Error, Future: Send> + Clone + Send + 'static,
    S::Response: 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let limiters = Arc::clone(&self.limiters);
        // Boxed: it asks over the network, and the types of that are the client's own.
        ResponseFuture(Box::pin(async move {
            match check(&limiters, &request).await {
                Ok(()) => ready.call(request).await,
                Err(refusal) => Err(refuse(&refusal, false)),
            }
        }))
    }
}

/// Asks all limits at once; the refusal is that of the limit that has to be waited for longest.
async fn check(limiters: &[SharedLimiter], request: &Request) -> Result<(), Box<Refusal>> {
    if let [only] = limiters {
        return only.check(request).await;
    }
    let asked = join_all(limiters.iter().map(|limiter| limiter.take(request))).await;
    let mut worst: Option<Box<Refusal>> = None;
    let mut allowed = Vec::with_capacity(limiters.len());
    for (limiter, answer) in limiters.iter().zip(asked) {
        match answer {
            Ok(taken) => allowed.push((limiter, taken)),
            Err(refusal)
                if worst
                    .as_ref()
                    .is_none_or(|worst| refusal.is_longer_than(worst)) =>
            {
                worst = Some(refusal);
            }
            Err(_) => {}
        }
    }
    let Some(refusal) = worst else {
        return Ok(());
    };
    let back = allowed
        .into_iter()
        .map(|(limiter, taken)| limiter.give_back(taken, request));
    join_all(back).await;
    Err(refusal)
}

/// The answer of a [`SharedRateLimit`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<T>(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>);

impl<T> Future for ResponseFuture<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for ResponseFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shared::ResponseFuture")
    }
}
