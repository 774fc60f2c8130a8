use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::http::request::Parts;
use ::http::{Request, Response, StatusCode};
use mcp_core::clock::SystemClock;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::refusal::fields;
use super::{Allowance, Limit, Limiter, Refusal};

/// Applies a [`HttpRateLimit`].
#[must_use]
#[derive(Debug, Clone)]
pub struct HttpRateLimitLayer {
    limiter: Limiter<Parts>,
}

impl HttpRateLimitLayer {
    /// Enforces one limit on plain HTTP requests.
    pub fn new(limit: Limit<Parts>) -> Self {
        Self::all([limit])
    }

    /// Enforces several limits: a request has to pass them all.
    pub fn all(limits: impl IntoIterator<Item = Limit<Parts>>) -> Self {
        Self {
            limiter: Limiter::new(limits, Arc::new(SystemClock::new())),
        }
    }

    /// Enforces a limiter that someone else may hold too.
    pub const fn with_limiter(limiter: Limiter<Parts>) -> Self {
        Self { limiter }
    }
}

impl<S> Layer<S> for HttpRateLimitLayer {
    type Service = HttpRateLimit<S>;

    fn layer(&self, inner: S) -> HttpRateLimit<S> {
        HttpRateLimit {
            inner,
            limiter: self.limiter.clone(),
        }
    }
}

/// Answers plain HTTP requests beyond a quota with 429, and tells the rest what is left.
///
/// A refused answer carries the [`Refusal`] in its extensions.
#[derive(Debug, Clone)]
pub struct HttpRateLimit<S> {
    inner: S,
    limiter: Limiter<Parts>,
}

impl<S> HttpRateLimit<S> {
    mcp_core::inner_service!();
}

impl<S, Q, B> Service<Request<Q>> for HttpRateLimit<S>
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
        let (parts, body) = request.into_parts();
        let state = match self.limiter.check(&parts) {
            Ok(left) => State::Forward {
                future: self.inner.call(Request::from_parts(parts, body)),
                left,
            },
            Err(refusal) => State::Refused {
                refusal: Some(refusal),
            },
        };
        HttpResponseFuture { state }
    }
}

pin_project! {
    /// The answer of a [`HttpRateLimit`].
    #[must_use = "futures do nothing unless polled"]
    #[derive(Debug)]
    pub struct HttpResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        // The limits allowed the request; the answer will say what is left.
        Forward { #[pin] future: F, left: Option<Allowance> },
        // The limits refused it.
        Refused { refusal: Option<Box<Refusal>> },
    }
}

impl<F, B, E> Future for HttpResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forward { future, left } => {
                let mut response = ready!(future.poll(cx))?;
                if let Some(left) = left.take() {
                    response.headers_mut().extend(fields(
                        &left.limit,
                        left.quota,
                        left.remaining,
                        None,
                    ));
                }
                Poll::Ready(Ok(response))
            }
            StateProj::Refused { refusal } => {
                let refusal = refusal.take().expect("polled after it was ready");
                let mut response = Response::new(B::default());
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                response.headers_mut().extend(refusal.headers());
                response.extensions_mut().insert(*refusal);
                Poll::Ready(Ok(response))
            }
        }
    }
}
