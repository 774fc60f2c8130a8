//! The seam: everything is a tower service from [`Request`] to [`Response`].

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::{Identity, Layer};
use tower_service::Service;

use crate::{BoxSeam, Error, Request, Response};

/// A service of the seam: an rmcp server, an upstream, a whole gateway.
///
/// Implemented for every matching tower service; there is nothing to implement by hand.
pub trait Seam:
    Service<Request, Response = Response, Error = Error, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Seam for S where
    S: Service<Request, Response = Response, Error = Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service of the seam and the layers around it. The first [`Stack::layer`] is the outermost.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mcp_core::{Error, Json, Method, Request, Response, Stack};
/// use tower::{ServiceExt, limit::ConcurrencyLimitLayer, service_fn, timeout::TimeoutLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let echo = service_fn(|request: Request| async move {
///     Ok::<_, Error>(Response::new(request.param("x").unwrap_or(Json::NULL)))
/// });
/// let service = Stack::new(echo)
///     .layer(TimeoutLayer::new(Duration::from_secs(30)))
///     .layer(ConcurrencyLimitLayer::new(8))
///     .into_service();
///
/// let request = Request::new(Method::new("demo"), Some(Json::parse(r#"{"x":1.0}"#)?))?;
/// assert_eq!(service.oneshot(request).await?.result().as_str(), "1.0");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Stack<S, L = Identity> {
    service: S,
    layers: L,
}

impl<S> Stack<S> {
    /// Starts a stack with its innermost service.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self {
            service,
            layers: Identity::new(),
        }
    }
}

impl<S, L> Stack<S, L> {
    /// Adds a layer inside all layers so far.
    ///
    /// Any tower layer fits whose service takes a [`Request`], answers a [`Response`], and whose error turns
    /// into an [`Error`]: stock tower layers with their boxed errors included.
    #[must_use]
    pub fn layer<M>(self, layer: M) -> Stack<S, Inside<M, L>> {
        Stack {
            service: self.service,
            layers: Inside {
                inner: layer,
                outer: self.layers,
            },
        }
    }

    /// Returns the service with its layers.
    #[must_use]
    pub fn into_service(self) -> L::Service
    where
        L: Layer<S>,
        L::Service: Seam,
    {
        self.layers.layer(self.service)
    }

    /// Returns the service with its layers, its type erased.
    #[must_use]
    pub fn boxed(self) -> BoxSeam
    where
        L: Layer<S>,
        L::Service: Seam,
    {
        BoxSeam::new(self.into_service())
    }
}

/// Two layers, one inside the other, with the inner one's error brought to the seam's.
#[derive(Clone, Debug)]
pub struct Inside<I, O> {
    inner: I,
    outer: O,
}

impl<S, I, O> Layer<S> for Inside<I, O>
where
    I: Layer<S>,
    O: Layer<IntoSeam<I::Service>>,
{
    type Service = O::Service;

    fn layer(&self, service: S) -> Self::Service {
        self.outer.layer(IntoSeam(self.inner.layer(service)))
    }
}

/// Turns a service's error into the seam's [`Error`].
#[derive(Clone, Debug)]
pub struct IntoSeam<S>(S);

impl<S> IntoSeam<S> {
    /// Wraps a service.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self(service)
    }

    /// Returns the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.0
    }

    /// Returns the inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.0
    }
}

impl<S> Service<Request> for IntoSeam<S>
where
    S: Service<Request, Response = Response, Error: Into<Error>>,
{
    type Response = Response;
    type Error = Error;
    type Future = IntoSeamFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        IntoSeamFuture {
            future: self.0.call(request),
        }
    }
}

pin_project! {
    /// The future of [`IntoSeam`].
    #[must_use = "futures do nothing unless polled"]
    pub struct IntoSeamFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, E> Future for IntoSeamFuture<F>
where
    F: Future<Output = Result<Response, E>>,
    E: Into<Error>,
{
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().future.poll(cx)).map_err(Into::into))
    }
}

impl<F> fmt::Debug for IntoSeamFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntoSeamFuture")
    }
}
