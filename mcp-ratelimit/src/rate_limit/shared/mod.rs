//! One count over many processes, on Redis.
//!
//! A decision is one round trip, atomic, by the server's clock. [`WhenAway`] says what happens while Redis does
//! not answer within the timeout; one call in a second then looks if it is back, and the others do not wait.
//! The gauge `mcp_limit_shared_away` is 1 for as long as that lasts.
//!
//! How far the quota can be exceeded: not at all while one Redis keeps its data, whatever the processes do and
//! whatever their clocks say. Each time Redis loses its data, by the burst. Each time it goes away, under
//! [`WhenAway::Local`], by the burst, since the processes begin to count anew (and by one call for each process
//! that shares a burst smaller than their number); under [`WhenAway::Open`] without bound.
//!
//! Stack several layers for several limits: a call refused by an inner one has then been counted by the outer.

mod decide;
mod limiter;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use mcp_core::{Error, Request};
use tower_layer::Layer;
use tower_service::Service;

pub use self::limiter::{SharedLimiter, WhenAway};
use super::service::refuse;

/// Applies a [`SharedRateLimit`].
#[must_use]
#[derive(Debug, Clone)]
pub struct SharedRateLimitLayer(SharedLimiter);

impl SharedRateLimitLayer {
    /// Enforces a limit that is counted on Redis.
    pub const fn new(limiter: SharedLimiter) -> Self {
        Self(limiter)
    }
}

impl<S> Layer<S> for SharedRateLimitLayer {
    type Service = SharedRateLimit<S>;

    fn layer(&self, inner: S) -> SharedRateLimit<S> {
        SharedRateLimit {
            inner,
            limiter: self.0.clone(),
        }
    }
}

/// Refuses calls beyond a quota that many processes share.
#[derive(Debug, Clone)]
pub struct SharedRateLimit<S> {
    inner: S,
    limiter: SharedLimiter,
}

impl<S> SharedRateLimit<S> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
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
        let limiter = self.limiter.clone();
        // Boxed: it asks over the network, and the types of that are the client's own.
        ResponseFuture(Box::pin(async move {
            match limiter.check(&request).await {
                Ok(()) => ready.call(request).await,
                Err(refusal) => Err(refuse(&refusal)),
            }
        }))
    }
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
