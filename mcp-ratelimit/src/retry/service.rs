use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use mcp_core::{Error, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::policy::RetryPolicy;
use crate::timeout::Timeout;

/// Repeats calls that failed and may succeed another time.
#[derive(Debug, Clone)]
pub struct Retry<S> {
    retry: tower::retry::Retry<RetryPolicy, Timeout<S>>,
}

impl<S> Retry<S> {
    pub(super) const fn new(inner: Timeout<S>, policy: RetryPolicy) -> Self {
        Self {
            retry: tower::retry::Retry::new(policy, inner),
        }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        self.retry.get_ref().get_ref()
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        self.retry.get_mut().get_mut()
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.retry.into_inner().into_inner()
    }
}

impl<S> Service<Request> for Retry<S>
where
    S: Service<Request, Response = Response, Error = Error> + Clone,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.retry.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        ResponseFuture {
            future: self.retry.call(request),
        }
    }
}

pin_project! {
    /// The answer of a [`Retry`].
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped is not repeated.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S>
    where
        S: Service<Request, Response = Response, Error = Error>,
    {
        #[pin]
        future: tower::retry::future::ResponseFuture<RetryPolicy, Timeout<S>, Request>,
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Request, Response = Response, Error = Error> + Clone,
{
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx)
    }
}

impl<S> fmt::Debug for ResponseFuture<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("retry::ResponseFuture")
    }
}
