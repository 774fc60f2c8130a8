use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mcp_core::{Error, Request};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::core::{Permit, Ticket};

pin_project! {
    /// The answer of a [`Queue`](super::Queue).
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped while it waits leaves the queue; one in flight gives its place to the next.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S: Service<Request>> {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S: Service<Request>> {
        // The call is in flight.
        Forward { #[pin] future: S::Future, permit: Option<Permit> },
        // The call waits; boxed, so that the rest do not carry its size.
        Waiting { waiting: Option<Box<Waiting<S>>> },
        // There was no room, or no turn in time.
        Refused { error: Option<Error> },
    }
}

/// A call that waits, with the service that was ready for it.
pub(super) struct Waiting<S> {
    pub(super) service: S,
    pub(super) request: Request,
    pub(super) ticket: Ticket,
    pub(super) sleep: Option<Pin<Box<Sleep>>>,
    pub(super) since: Instant,
}

impl<S> Waiting<S> {
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Error>> {
        if let Poll::Ready(permit) = self.ticket.poll_turn(cx) {
            return Poll::Ready(Ok(permit));
        }
        match &mut self.sleep {
            Some(sleep) => sleep
                .as_mut()
                .poll(cx)
                .map(|()| Err(self.ticket.core().refuse(Some(self.since.elapsed())))),
            None => Poll::Pending,
        }
    }
}

impl<S: Service<Request>> ResponseFuture<S> {
    pub(super) const fn forward(future: S::Future, permit: Permit) -> Self {
        Self {
            state: State::Forward {
                future,
                permit: Some(permit),
            },
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
            let next = match self.as_mut().project().state.project() {
                StateProj::Forward { future, permit } => {
                    let result = ready!(future.poll(cx));
                    if let Some(mut permit) = permit.take() {
                        permit.note(&result);
                    }
                    return Poll::Ready(result);
                }
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
                    match turn {
                        Ok(permit) => State::Forward {
                            future: service.call(request),
                            permit: Some(permit),
                        },
                        Err(error) => State::Refused { error: Some(error) },
                    }
                }
            };
            self.as_mut().project().state.set(next);
        }
    }
}

impl<S: Service<Request>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("queue::ResponseFuture")
    }
}
