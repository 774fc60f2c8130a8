//! A deadline for calls that are silent: no answer, no notification, no server-initiated request for so long.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use mcp_core::{Ask, Asker, Error, ErrorKind, Json, Method, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// Makes a call that fails when the upstream has been silent for `limit`. While the client is asked something, the call is
/// not silent: a person may need time.
///
/// No `async fn`: its future would hold the request several times, and this is on the way of every call.
pub(super) fn bounded<F>(
    limit: Duration,
    request: Request,
    call: impl FnOnce(Request) -> F,
) -> Bounded<F> {
    let signs = Arc::new(Signs::default());
    let started = Instant::now();
    let seen = Arc::clone(&signs);
    let notifier = request.notifier().map(move |notification| {
        seen.note(started);
        Some(notification)
    });
    let mut request = request.with_notifier(notifier);
    if let Some(asker) = request.asker().cloned() {
        let watched = Watched {
            asker,
            signs: Arc::clone(&signs),
            started,
        };
        request = request.with_asker(Asker::new(watched));
    }
    Bounded {
        call: call(request),
        silent: sleep_until(later(started, limit)),
        limit,
        started,
        signs,
    }
}

pin_project! {
    /// A call that may be silent for so long.
    #[must_use = "futures do nothing unless polled"]
    pub(super) struct Bounded<F> {
        #[pin]
        call: F,
        #[pin]
        silent: Sleep,
        limit: Duration,
        started: Instant,
        signs: Arc<Signs>,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for Bounded<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(answer) = this.call.poll(cx) {
            return Poll::Ready(answer);
        }
        loop {
            ready!(this.silent.as_mut().poll(cx));
            if this.signs.asking.load(Ordering::Acquire) > 0 {
                this.signs.note(*this.started);
            }
            let last = Duration::from_millis(this.signs.last.load(Ordering::Acquire));
            let until = later(*this.started + last, *this.limit);
            if until <= Instant::now() {
                return Poll::Ready(Err(Error::new(
                    ErrorKind::Timeout,
                    format!("the upstream gave no sign of life for {:?}", this.limit),
                )));
            }
            this.silent.as_mut().reset(until);
        }
    }
}

/// Adds a limit that may be of any size.
fn later(at: Instant, limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    at.checked_add(limit).unwrap_or_else(|| at + YEAR)
}

/// Signs of life of a call.
#[derive(Default)]
struct Signs {
    /// Milliseconds from the start of the call to the last sign.
    last: AtomicU64,
    /// How many server-initiated requests wait for the client.
    asking: AtomicUsize,
}

impl Signs {
    fn note(&self, started: Instant) {
        let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::AcqRel);
    }
}

struct Watched {
    asker: Asker,
    signs: Arc<Signs>,
    started: Instant,
}

/// Counts a request to the client while it waits, also when it is dropped.
struct Asking<'a>(&'a Watched);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.signs.note(self.0.started);
        self.0.signs.asking.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl Ask for Watched {
    async fn ask(&self, method: Method, params: Option<Json>) -> Result<Json, Error> {
        self.signs.asking.fetch_add(1, Ordering::AcqRel);
        let _asking = Asking(self);
        self.asker.ask(method, params).await
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::{Notification, Notifier};
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn request() -> Request {
        Request::new(Method::PING, None).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_says_nothing_fails_at_the_limit() {
        let started = Instant::now();
        let silent = bounded(LIMIT, request(), |_| std::future::pending());
        assert_eq!(silent.await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(started.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_any_size_is_a_limit() {
        let call = bounded(Duration::MAX, request(), |_| async {
            sleep(Duration::from_secs(1_000)).await;
            Ok(Response::empty())
        });
        assert!(call.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn progress_prolongs_a_call() {
        let (notifier, mut stream) = Notifier::channel(std::num::NonZeroUsize::MIN);
        let drain = tokio::spawn(async move { while stream.recv().await.is_some() {} });
        let answer = bounded(
            LIMIT,
            request().with_notifier(notifier),
            |request| async move {
                for _ in 0..5 {
                    sleep(Duration::from_secs(8)).await;
                    let progress = Notification::new(Method::PROGRESS, None);
                    request.notifier().notify(progress).await?;
                }
                Ok(Response::empty())
            },
        );
        assert!(answer.await.is_ok());
        drain.await.unwrap();
    }

    struct Slow;

    #[async_trait]
    impl Ask for Slow {
        async fn ask(&self, _: Method, _: Option<Json>) -> Result<Json, Error> {
            sleep(Duration::from_secs(100)).await;
            Ok(Json::NULL)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_a_person_needs_does_not_count() {
        let request = request().with_asker(Asker::new(Slow));
        let answer = bounded(LIMIT, request, |request| async move {
            let asker = request.asker().cloned().expect("it has one");
            asker.ask(Method::new("elicitation/create"), None).await?;
            sleep(Duration::from_secs(9)).await;
            Ok(Response::empty())
        });
        assert!(answer.await.is_ok());
    }
}
