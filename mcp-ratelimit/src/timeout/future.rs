use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_core::{Error, ErrorKind, Notifier};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::asked::Asked;

pin_project! {
    /// The answer of a [`Timeout`](super::Timeout).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        // Made when the call did not answer at once.
        #[pin]
        sleep: Option<Sleep>,
        watch: Watch,
    }
}

/// When a call has taken too long.
pub(super) struct Watch {
    /// The deadline that the request carries.
    pub(super) deadline: Option<Instant>,
    /// The longest time that is set here, put off while a person is asked.
    pub(super) own: Option<Instant>,
    pub(super) idle: Option<Duration>,
    pub(super) notifier: Notifier,
    /// The time that a person has been asked during the call.
    pub(super) asked: Option<Arc<Asked>>,
    /// How many notifications had been sent at the last sign of life, and when that was.
    pub(super) seen: u64,
    pub(super) alive: Option<Instant>,
}

impl Watch {
    /// When time is up, as far as known.
    fn due(&mut self) -> Option<Instant> {
        let paused = self
            .asked
            .as_ref()
            .map_or(Duration::ZERO, |own| own.total());
        let own = self.own.and_then(|own| own.checked_add(paused));
        let deadline = own.into_iter().chain(self.deadline).min();
        let Some(idle) = self.idle else {
            return deadline;
        };
        if self.asked.as_ref().is_some_and(|own| own.is_asking()) {
            self.alive = Some(Instant::now());
        }
        let sent = self.notifier.sent();
        if sent != self.seen {
            self.seen = sent;
            self.alive = Some(Instant::now());
        }
        let silent = self.alive.and_then(|alive| alive.checked_add(idle));
        match (deadline, silent) {
            (Some(deadline), Some(silent)) => Some(deadline.min(silent)),
            (deadline, silent) => deadline.or(silent),
        }
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(future: F, watch: Watch) -> Self {
        Self {
            future,
            sleep: None,
            watch,
        }
    }
}

impl<F, T> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, Error>>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.future.poll(cx) {
            return Poll::Ready(result);
        }
        let Some(due) = this.watch.due() else {
            return Poll::Pending;
        };
        if this.sleep.is_none() {
            this.sleep.set(Some(sleep_until(due)));
        }
        while let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            // The timer is set once and put off only when it fires: signs of life cost nothing.
            if sleep.poll(cx).is_pending() {
                return Poll::Pending;
            }
            match this.watch.due() {
                Some(due) if due > Instant::now() => this.sleep.set(Some(sleep_until(due))),
                _ => break,
            }
        }
        Poll::Ready(Err(too_long(this.watch)))
    }
}

fn too_long(watch: &Watch) -> Error {
    let over = watch
        .deadline
        .into_iter()
        .chain(watch.own.and_then(|own| {
            let paused = watch
                .asked
                .as_ref()
                .map_or(Duration::ZERO, |own| own.total());
            own.checked_add(paused)
        }))
        .any(|deadline| deadline <= Instant::now());
    Error::new(
        ErrorKind::Timeout,
        if over {
            "the call took longer than it may and was cancelled; try again with less work in one call"
        } else {
            "the call showed no sign of life for too long and was cancelled"
        },
    )
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timeout::ResponseFuture")
    }
}
