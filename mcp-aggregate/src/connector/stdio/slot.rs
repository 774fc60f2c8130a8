//! The place of one process, which is started again when it has ended.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use mcp_core::{Backoff, Error, ErrorKind, Request, Timing};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::{Process, Settings};
use crate::connector::{handshake, pool::Pooled, start::StartCell};

/// The longest backoff before a process is started again that had answered its handshake.
const SERVED: Duration = Duration::from_millis(500);

/// A process that ran this long has not failed.
const STABLE: Duration = Duration::from_secs(5);

/// The longest backoff that a call waits for; during a longer one it is refused.
const WAIT: Duration = Duration::from_secs(1);

pub(super) struct ProcessSlot {
    settings: Arc<Settings>,
    tasks: TaskTracker,
    cell: Arc<StartCell<Process, Error>>,
    history: Arc<Mutex<History>>,
}

/// How the last processes have ended.
struct History {
    backoff: Backoff,
    failure: Option<Failure>,
}

struct Failure {
    /// When the next start may be.
    next: Instant,
    error: Option<Error>,
}

impl ProcessSlot {
    pub(super) fn new(settings: Arc<Settings>, tasks: TaskTracker) -> Self {
        Self {
            history: Arc::new(Mutex::new(History::new(&settings.timing))),
            settings,
            tasks,
            cell: StartCell::new(),
        }
    }

    /// Returns the process, starting it where none runs.
    pub(super) async fn process(&self, request: &Request) -> Result<Arc<Process>, Error> {
        let is_running = |process: &Process| !process.has_ended();
        let begin = || self.begin(request);
        self.cell.get(&self.tasks, is_running, begin).await
    }

    /// Returns whether a process has answered its handshake and not ended.
    pub(super) fn is_running(&self) -> bool {
        let current = self.cell.current();
        current.is_some_and(|process| !process.has_ended())
    }

    fn begin(
        &self,
        request: &Request,
    ) -> Result<impl Future<Output = Result<Arc<Process>, Error>> + Send + use<>, Error> {
        let next = {
            let mut history = self.history();
            if let Some(process) = self.cell.take() {
                history.note_end(process.end());
            }
            history.next_start()?
        };
        let (settings, tasks) = (Arc::clone(&self.settings), self.tasks.clone());
        let (history, request) = (Arc::clone(&self.history), handshake::lasting(request)?);
        Ok(async move {
            sleep_until(next).await;
            let start = Process::start(&settings, &tasks, &request);
            let started = settings.processes.start(start).await;
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            match &started {
                Ok(_) => history.failure = None,
                Err(error) => history.note_failure(error),
            }
            started
        })
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn new(timing: &Timing) -> Self {
        Self {
            backoff: Backoff::new(timing.backoff_first, timing.backoff_longest),
            failure: None,
        }
    }

    /// Notes the end of a process that had answered its handshake.
    fn note_end(&mut self, (served, ended, error): (Duration, Instant, Option<Error>)) {
        if served >= STABLE {
            self.backoff.reset();
            self.failure = None;
            return;
        }
        let pause = self.backoff.pause().min(SERVED);
        self.failure = Some(Failure {
            next: ended + pause,
            error,
        });
    }

    /// Notes a start that failed.
    fn note_failure(&mut self, error: &Error) {
        self.failure = Some(Failure {
            next: Instant::now() + self.backoff.pause(),
            error: Some(error.clone()),
        });
    }

    /// Returns when the next start may be, or refuses a call that would have to wait for too long.
    fn next_start(&self) -> Result<Instant, Error> {
        let now = Instant::now();
        let Some(failure) = &self.failure else {
            return Ok(now);
        };
        let pause = failure.next.saturating_duration_since(now);
        if pause <= WAIT {
            return Ok(failure.next);
        }
        let why = failure.error.as_ref().map(Error::message);
        let why = why.unwrap_or("it ended soon after its last start");
        let message =
            format!("the server keeps failing and is started again in {pause:.1?}; last: {why}");
        let error = Error::new(ErrorKind::NotSent, message).with_retry_after(pause);
        Err(match &failure.error {
            Some(source) => error.with_source(source.clone()),
            None => error,
        })
    }
}

impl Pooled for ProcessSlot {
    fn end(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.cell.abort();
            if let Some(process) = self.cell.take() {
                process.stop().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(served: Duration) -> (Duration, Instant, Option<Error>) {
        let why = Error::new(ErrorKind::Unavailable, "exit status: 3");
        (served, Instant::now(), Some(why))
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_had_served_is_started_again_within_a_second_however_often_it_ends() {
        let mut history = History::new(&Timing::default());
        for round in 0..10 {
            history.note_end(ended(Duration::from_millis(300)));
            let next = history.next_start().unwrap();
            assert!(next <= Instant::now() + SERVED, "{round}");
            sleep_until(next).await;
        }
        for round in 0..10 {
            history.note_end(ended(STABLE));
            let next = history.next_start().unwrap();
            assert_eq!(next, Instant::now(), "at once, time {round}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_start_is_left_alone_for_longer_and_longer() {
        let mut history = History::new(&Timing::default());
        let error = Error::new(ErrorKind::NotSent, "exit status: 3");
        let mut refused = 0;
        for _ in 0..12 {
            history.note_failure(&error);
            if let Err(later) = history.next_start() {
                refused += 1;
                assert!(later.message().contains("exit status: 3"), "{later}");
                assert!(later.retry_after().unwrap() <= Timing::default().backoff_longest);
                tokio::time::advance(later.retry_after().unwrap()).await;
                assert!(history.next_start().is_ok());
            }
        }
        assert!(refused >= 8, "{refused}");
    }
}
