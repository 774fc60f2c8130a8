//! How a transport ends: draining first, then closed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{Backoff, Error, ErrorKind, Timing};

/// Delay after which a client whose call was refused during a drain may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How far a transport has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It takes sessions and calls.
    Open,
    /// It refuses new ones and lets those in flight finish.
    Draining,
    /// Everything has been ended.
    Closed,
}

/// The phase of a transport, its calls in flight and its tasks. Clones share them.
#[derive(Clone)]
pub(super) struct Lifecycle(Arc<Shared>);

struct Shared {
    phase: watch::Sender<Phase>,
    calls: AtomicUsize,
    idle: Notify,
    tasks: TaskTracker,
    stall: Duration,
    backoff: Backoff,
}

impl Lifecycle {
    pub(super) fn new(timing: &Timing) -> Self {
        Self(Arc::new(Shared {
            phase: watch::Sender::new(Phase::Open),
            calls: AtomicUsize::new(0),
            idle: Notify::new(),
            tasks: TaskTracker::new(),
            stall: timing.stall,
            backoff: Backoff::new(timing.backoff_first, timing.backoff_longest),
        }))
    }

    /// Returns how long a client which does not read may hold up its call.
    pub(super) fn stall(&self) -> Duration {
        self.0.stall
    }

    /// Returns a backoff for attempts of the transport's own.
    pub(super) fn backoff(&self) -> Backoff {
        self.0.backoff.clone()
    }

    pub(super) fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Refuses where nothing new may begin.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.phase() {
            Phase::Open => Ok(()),
            Phase::Draining | Phase::Closed => Err(Error::new(
                ErrorKind::Overloaded,
                "the server is shutting down; try again",
            )
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
            .with_retry_after(RETRY_AFTER)),
        }
    }

    /// Counts a call as in flight until the guard is dropped. Fails where no new call may begin.
    pub(super) fn begin(&self) -> Result<InFlight, Error> {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        let guard = InFlight(self.clone());
        self.check()?;
        Ok(guard)
    }

    /// Returns the changes of the phase, and beats of a timer that shares the channel.
    pub(super) fn changes(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Wakes everything that waits in [`Lifecycle::changes`].
    #[cfg(feature = "http")]
    pub(super) fn beat(&self) {
        self.0.phase.send_modify(|_| {});
    }

    /// Spawns a task that ends when the transport is closed, at the latest.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let mut changes = self.changes();
        self.0.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = reached(&mut changes, Phase::Closed) => {}
                () = work => {}
            }
        })
    }

    /// Spawns a task that ends by itself soon after its session is closed.
    #[cfg(feature = "http")]
    pub(super) fn spawn_call<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.tasks.spawn(work)
    }

    /// Counts as a task until it is dropped.
    #[cfg(feature = "stdio")]
    pub(super) fn track(&self) -> tokio_util::task::task_tracker::TaskTrackerToken {
        self.0.tasks.token()
    }

    /// Refuses what is new from now on and waits for the calls in flight. Returns whether all have finished in time.
    pub(super) async fn drain(&self, deadline: Duration) -> bool {
        self.advance(Phase::Draining);
        let idle = async {
            loop {
                let changed = self.0.idle.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.0.calls.load(Ordering::Acquire) == 0 {
                    return;
                }
                changed.await;
            }
        };
        timeout(deadline, idle).await.is_ok()
    }

    pub(super) fn close(&self) {
        self.advance(Phase::Closed);
    }

    /// Waits until every task has ended. To be called after [`Lifecycle::close`].
    pub(super) async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn advance(&self, to: Phase) {
        self.0.phase.send_if_modified(|phase| {
            let later = *phase < to;
            if later {
                *phase = to;
            }
            later
        });
    }
}

/// Waits until a transport has come to a phase.
///
/// # Cancel safety
///
/// This function is cancel safe.
pub(super) async fn reached(changes: &mut watch::Receiver<Phase>, phase: Phase) {
    // An error says that the transport is gone, which is later than any phase.
    drop(changes.wait_for(|own| *own >= phase).await);
}

/// A call in flight. A drain waits until it is dropped.
pub(super) struct InFlight(Lifecycle);

impl InFlight {
    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.idle.notify_waiters();
        }
    }
}

/// The answer to a call that was in flight when its transport was closed.
pub(super) fn closed() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server has shut down before the call finished; whether it has acted is not known",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Default for Lifecycle {
        fn default() -> Self {
            Self::new(&Timing::default())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_calls_and_refuses_new_ones() {
        let lifecycle = Lifecycle::default();
        let call = lifecycle.begin().unwrap();
        let draining = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { lifecycle.drain(Duration::from_secs(30)).await }
        });
        tokio::task::yield_now().await;
        let refused = lifecycle.begin().err().unwrap();
        assert_eq!(refused.class(), crate::ErrorClass::Transient);
        assert_eq!(refused.retry_after(), Some(RETRY_AFTER));
        assert!(!draining.is_finished());
        drop(call);
        assert!(draining.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_at_its_deadline() {
        let lifecycle = Lifecycle::default();
        let _call = lifecycle.begin().unwrap();
        assert!(!lifecycle.drain(Duration::from_secs(30)).await);
    }

    #[tokio::test]
    async fn closing_ends_tasks_and_waits_for_them() {
        let lifecycle = Lifecycle::default();
        let task = lifecycle.spawn(std::future::pending());
        lifecycle.close();
        lifecycle.ended().await;
        assert!(task.is_finished());
    }
}
