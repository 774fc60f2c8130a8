use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mcp_core::{Error, ErrorClass, Response};
use pin_project_lite::pin_project;

use super::CacheLayer;
use super::entry::{Entry, Topic};
use super::layer::Plan;
use super::shelf::Found;

type Asking = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

pin_project! {
    /// The answer of a [`CacheService`](super::CacheService).
    ///
    /// # Cancel safety
    ///
    /// The answer of a dropped call is not kept.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The call is not one for the cache.
        Forward { #[pin] future: F },
        // The answer will be kept; boxed, since the call itself costs far more.
        Fill { #[pin] future: F, fill: Option<Box<Fill>> },
        // The shared store is asked first; boxed, since it asks over the network.
        Remote { future: Asking },
        // The answer was there.
        Served { response: Option<Response> },
    }
}

/// What is needed to keep an answer.
pub(super) struct Fill {
    pub(super) layer: CacheLayer,
    pub(super) plan: Plan,
    pub(super) topic: Topic,
    pub(super) stale: Option<Arc<Entry>>,
}

impl Fill {
    pub(super) fn finish(self, result: Result<Response, Error>) -> Result<Response, Error> {
        let error = match result {
            Ok(response) => {
                self.layer.store(&self.plan, self.topic, &response);
                return Ok(response);
            }
            Err(error) => error,
        };
        let now = self.layer.settings.clock.now();
        let usable = |entry: &Arc<Entry>| {
            entry
                .stale_for(now)
                .is_some_and(|stale| stale < self.layer.settings.on_error)
        };
        match self.stale.filter(usable) {
            Some(entry) if error.class() != ErrorClass::Permanent => {
                self.layer.cache.count(Found::Stale);
                Ok(entry.serve(now))
            }
            _ => Err(error),
        }
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn forward(future: F) -> Self {
        Self {
            state: State::Forward { future },
        }
    }

    pub(super) fn fill(future: F, fill: Fill) -> Self {
        Self {
            state: State::Fill {
                future,
                fill: Some(Box::new(fill)),
            },
        }
    }

    pub(super) fn remote(future: Asking) -> Self {
        Self {
            state: State::Remote { future },
        }
    }

    pub(super) const fn served(response: Response) -> Self {
        Self {
            state: State::Served {
                response: Some(response),
            },
        }
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ResponseFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forward { future } => future.poll(cx),
            StateProj::Remote { future } => future.as_mut().poll(cx),
            StateProj::Served { response } => {
                Poll::Ready(Ok(response.take().expect("polled after it was ready")))
            }
            StateProj::Fill { future, fill } => {
                let result = ready!(future.poll(cx));
                Poll::Ready(match fill.take() {
                    Some(fill) => fill.finish(result),
                    None => result,
                })
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cache::ResponseFuture")
    }
}
