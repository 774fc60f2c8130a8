use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

/// Applies a [`HttpTimeout`].
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct HttpTimeoutLayer(Duration);

impl HttpTimeoutLayer {
    /// Bounds the time until the headers of the answer are there. The body is not bounded.
    pub const fn new(longest: Duration) -> Self {
        Self(longest)
    }
}

impl<S> Layer<S> for HttpTimeoutLayer {
    type Service = HttpTimeout<S>;

    fn layer(&self, inner: S) -> HttpTimeout<S> {
        HttpTimeout {
            inner,
            longest: self.0,
        }
    }
}

/// Answers plain HTTP requests that take too long with 504.
#[derive(Debug, Clone)]
pub struct HttpTimeout<S> {
    inner: S,
    longest: Duration,
}

impl<S> HttpTimeout<S> {
    mcp_core::inner_service!();
}

impl<S, Q, B> Service<Request<Q>> for HttpTimeout<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = HttpResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        HttpResponseFuture {
            future: self.inner.call(request),
            sleep: sleep(self.longest),
        }
    }
}

pin_project! {
    /// The answer of a [`HttpTimeout`].
    #[must_use = "futures do nothing unless polled"]
    pub struct HttpResponseFuture<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Sleep,
    }
}

impl<F, B, E> Future for HttpResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.future.poll(cx) {
            return Poll::Ready(result);
        }
        this.sleep.poll(cx).map(|()| {
            let mut response = Response::new(B::default());
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            Ok(response)
        })
    }
}

impl<F> fmt::Debug for HttpResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timeout::HttpResponseFuture")
    }
}
