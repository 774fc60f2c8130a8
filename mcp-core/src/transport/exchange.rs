use std::{
    future::{Future, poll_fn},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tower::ServiceExt;

use crate::{
    Asker, Error, ErrorKind, NotificationStream, Notifier, Request, Response, Seam,
    notifier::Outgoing,
};

/// How many notifications of one call may wait for its client.
const WAITING: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// A call in progress and what it sends before its answer. Dropping it cancels the call.
pub(super) struct Exchange {
    call: Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>,
    outgoing: NotificationStream,
    answer: Option<Result<Response, Error>>,
}

/// What happens next in an exchange.
pub(super) enum Step {
    Outgoing(Outgoing),
    Answer(Result<Response, Error>),
}

impl Exchange {
    /// Starts a call; its client can be asked back if `ask`.
    pub(super) fn start<S: Seam>(service: &S, request: Request, ask: bool) -> Self {
        let (notifier, outgoing) = Notifier::channel(WAITING);
        let mut request = request.with_notifier(notifier.clone());
        if ask {
            request = request.with_asker(Asker::from(notifier));
        }
        Self {
            call: Box::pin(service.clone().oneshot(request)),
            outgoing,
            answer: None,
        }
    }

    /// Returns the next step, the answer last.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(super) async fn next(&mut self) -> Step {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Awaits the answer; what is sent before goes nowhere.
    pub(super) async fn answer(mut self) -> Result<Response, Error> {
        loop {
            if let Step::Answer(answer) = self.next().await {
                return answer;
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.answer.is_none() {
            // The call first: most calls answer without sending anything before.
            let call = &mut self.call;
            let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
            if let Poll::Ready(answer) = polled.unwrap_or_else(|_| Poll::Ready(Err(panicked()))) {
                self.answer = Some(answer);
            } else {
                return match self.outgoing.receiver().poll_recv(cx) {
                    Poll::Ready(Some(outgoing)) => Poll::Ready(Step::Outgoing(outgoing)),
                    // All senders gone without an answer: the call itself will wake us.
                    Poll::Ready(None) | Poll::Pending => Poll::Pending,
                };
            }
        }
        // What was sent before the answer goes out before the answer.
        if let Some(outgoing) = self.outgoing.receiver().try_recv() {
            return Poll::Ready(Step::Outgoing(outgoing));
        }
        match self.answer.take() {
            Some(answer) => {
                self.outgoing.receiver().close();
                Poll::Ready(Step::Answer(answer))
            }
            None => Poll::Pending,
        }
    }
}

/// A call that panics is answered and takes no other call of its client with it.
fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the server panicked")
}
