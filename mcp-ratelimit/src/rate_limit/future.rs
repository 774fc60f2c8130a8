use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mcp_core::{Error, Request};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::service::{Seat, refuse};
use super::{Limiter, RateLimitLayer};

pin_project! {
    /// The answer of a [`RateLimit`](super::RateLimit).
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped while it waits is not charged and gives up its place.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S: Service<Request>> {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S: Service<Request>> {
        // The limits allowed the call.
        Forward { #[pin] future: S::Future },
        // The call waits for its turn; boxed, since few calls do and the rest should not carry its size.
        Waiting { waiting: Option<Box<Waiting<S>>> },
        // The limits refused the call.
        Refused { error: Option<Error> },
    }
}

impl<S: Service<Request>> ResponseFuture<S> {
    pub(super) const fn forward(future: S::Future) -> Self {
        Self {
            state: State::Forward { future },
        }
    }

    pub(super) fn waiting(waiting: Waiting<S>) -> Self {
        Self {
            state: State::Waiting {
                waiting: Some(Box::new(waiting)),
            },
        }
    }

    pub(super) const fn refused(error: Error) -> Self {
        Self {
            state: State::Refused { error: Some(error) },
        }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Request, Error = Error>,
{
    type Output = Result<S::Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let future = match self.as_mut().project().state.project() {
                StateProj::Forward { future } => return future.poll(cx),
                StateProj::Refused { error } => {
                    return Poll::Ready(Err(error.take().expect("polled after it was ready")));
                }
                StateProj::Waiting { waiting } => {
                    let turn = ready!(
                        waiting
                            .as_mut()
                            .expect("waiting until replaced")
                            .poll_turn(cx)
                    );
                    let Waiting {
                        mut service,
                        request,
                        ..
                    } = *waiting.take().expect("waiting until replaced");
                    turn.map(|()| service.call(request))
                }
            };
            let state = match future {
                Ok(future) => State::Forward { future },
                Err(error) => State::Refused { error: Some(error) },
            };
            self.as_mut().project().state.set(state);
        }
    }
}

/// A call that waits, with the service that was ready for it.
pub(super) struct Waiting<S> {
    service: S,
    request: Request,
    limiter: Limiter<Request>,
    draft: bool,
    sleep: Pin<Box<Sleep>>,
    until: Option<Instant>,
    _seat: Seat,
}

impl<S> Waiting<S> {
    pub(super) fn new(
        service: S,
        request: Request,
        layer: &RateLimitLayer,
        seat: Seat,
        wait: Duration,
        up_to: Duration,
    ) -> Self {
        let until = Instant::now().checked_add(up_to);
        Self {
            service,
            draft: layer.draft_code && request.upstream().is_none(),
            request,
            limiter: layer.limiter.clone(),
            sleep: Box::pin(sleep(wait)),
            until,
            _seat: seat,
        }
    }

    /// Waits until the limits allow the call or the wait would become too long.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let Err(refusal) = self.limiter.check(&self.request) else {
                return Poll::Ready(Ok(()));
            };
            // Another call came first: wait again if there is time left.
            let next = refusal
                .wait()
                .and_then(|wait| Instant::now().checked_add(wait));
            match next {
                Some(next) if self.until.is_none_or(|until| next <= until) => {
                    // Timers have a resolution of a millisecond; an early one must not spin.
                    self.sleep.as_mut().reset(next);
                }
                _ => return Poll::Ready(Err(refuse(&refusal, self.draft))),
            }
        }
    }
}

impl<S: Service<Request>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rate_limit::ResponseFuture")
    }
}
