use std::{
    future::{Future, poll_fn},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tower::ServiceExt;
use tracing::{Span, field};

use crate::{
    Asker, Era, Error, ErrorKind, Method, NotificationStream, Notifier, Request, RequestId,
    Response, ResultType, Seam,
    notifier::{Outgoing, STALL},
    shapes::Shape,
};

/// How many notifications of one call may wait for its client.
const WAITING: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// A call in flight and what it sends before its answer. Dropping it cancels the call.
pub(super) struct Exchange {
    call: Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>,
    outgoing: NotificationStream,
    answer: Option<Result<Response, Error>>,
    id: RequestId,
    span: Span,
    /// What the client can read, and the method, where results may have to be adapted.
    shape: Option<(Shape, Method)>,
}

/// What happens next in an exchange.
pub(super) enum Step {
    Outgoing(Outgoing),
    Answer(Result<Response, Error>),
}

impl Exchange {
    /// Starts a call; its client can be asked back if `ask`.
    pub(super) fn start<S: Seam>(service: &S, request: Request, ask: bool) -> Self {
        Self::start_within(STALL, service, request, ask)
    }

    /// Starts a call which a client that does not read may hold up for so long.
    pub(super) fn start_within<S: Seam>(
        stall: Duration,
        service: &S,
        request: Request,
        ask: bool,
    ) -> Self {
        let (notifier, outgoing) = Notifier::channel_within(WAITING, stall);
        let id = RequestId::next();
        let span = span(id, &request);
        let shape = Shape::of(request.version());
        let shape = (shape != Shape::Stateless).then(|| (shape, request.method().clone()));
        let mut request = request
            .with_notifier(notifier.clone())
            .with_call(id, span.clone());
        if ask {
            request = request.with_asker(Asker::from(notifier));
        }
        Self {
            call: Box::pin(service.clone().oneshot(request)),
            outgoing,
            answer: None,
            id,
            span,
            shape,
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
            let _entered = self.span.enter();
            let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
            if let Poll::Ready(answer) = polled.unwrap_or_else(|_| Poll::Ready(Err(panicked()))) {
                let answer = answer.map_err(|error| error.with_request_id(self.id));
                record(&self.span, &answer);
                let answer = answer.map(|answer| match self.shape.take() {
                    Some((shape, method)) => shape.result(&method, answer),
                    None => answer,
                });
                self.answer = Some(answer);
            } else {
                return match self.outgoing.receiver().poll_recv(cx) {
                    Poll::Ready(Some(outgoing)) => Poll::Ready(Step::Outgoing(*outgoing)),
                    // All senders gone without an answer: the call itself will wake us.
                    Poll::Ready(None) | Poll::Pending => Poll::Pending,
                };
            }
        }
        // What was sent before the answer goes out before the answer.
        if let Some(outgoing) = self.outgoing.receiver().try_recv() {
            return Poll::Ready(Step::Outgoing(*outgoing));
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

/// The span of a call. `upstream` and `outcome` are recorded when they are known.
fn span(id: RequestId, request: &Request) -> Span {
    tracing::info_span!(
        "mcp.call",
        id = %id,
        method = start(request.method().as_str()),
        name = request.name().map(start),
        era = match request.era() {
            Era::Stateless => "stateless",
            Era::Session => "session",
        },
        principal = ?request.principal().partition(),
        upstream = field::Empty,
        outcome = field::Empty,
    )
}

/// The first bytes of a name, of which a client may send any number.
fn start(name: &str) -> &str {
    const LONGEST: usize = 128;
    let cut = (0..=LONGEST.min(name.len())).rev();
    let end = cut.into_iter().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}

/// Records what came of a call: `complete`, `tool_error`, another type of result, or the kind of an error.
fn record(span: &Span, answer: &Result<Response, Error>) {
    if span.is_disabled() {
        return;
    }
    let outcome = match answer {
        Err(error) => {
            if let Some(upstream) = error.upstream() {
                span.record("upstream", field::display(upstream));
            }
            error.kind().name()
        }
        Ok(answer) if answer.is_tool_error() => "tool_error",
        Ok(answer) => match answer.result_type() {
            ResultType::Complete => "complete",
            ResultType::InputRequired => "input_required",
            ResultType::Task => "task",
            ResultType::Other(_) => "other",
        },
    };
    span.record("outcome", outcome);
}

/// A call that panics is answered and takes no other call of its client with it.
fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the server panicked")
}
