//! What the child processes of several connectors have in common.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};

use super::guard::Guards;
use crate::connector::allowance::Allowance;

/// How long a start holds up those that wait behind it, at most. Most of a start is waiting: for a package to be installed,
/// for the server to answer.
const PACE: Duration = Duration::from_millis(100);

const TOTAL: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
const PER_PRINCIPAL: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
const STARTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// Bounds on the child processes of one or several connectors, and their end with this program.
///
/// 1. At most so many processes as the [`Allowance`] says run. Default is 256 in all and 64 for each principal.
/// 2. At most 8 start at the same moment, where each counts for its first 100 ms at most, so that a session of many upstreams
///    does not start a process of each at once.
/// 3. On Unix, the process groups that are left when this program ends, be it by SIGKILL, are killed by a shell process that is
///    started beside the first of them.
///
/// Clones share everything.
#[derive(Clone)]
pub struct Processes {
    allowance: Allowance,
    starts: Arc<Semaphore>,
    guards: Guards,
}

impl Processes {
    /// Creates bounds with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            allowance: Allowance::of_processes(TOTAL, PER_PRINCIPAL),
            starts: Arc::new(Semaphore::new(STARTS.get())),
            guards: Guards::new(),
        }
    }

    /// Sets how many processes may run.
    #[must_use]
    pub fn with_allowance(mut self, allowance: Allowance) -> Self {
        self.allowance = allowance;
        self
    }

    /// Sets how many processes may start at the same moment. Default is 8.
    #[must_use]
    pub fn with_starts(mut self, starts: NonZeroUsize) -> Self {
        let starts = starts.get().min(Semaphore::MAX_PERMITS);
        self.starts = Arc::new(Semaphore::new(starts));
        self
    }

    /// Returns how many processes may run, and how many do.
    #[must_use]
    pub fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// Runs a start when it is its turn.
    pub(super) async fn start<T>(&self, start: impl Future<Output = T>) -> T {
        // It is never closed.
        let turn = self.starts.acquire().await.ok();
        tokio::pin!(start);
        tokio::select! {
            started = &mut start => return started,
            () = sleep(PACE) => drop(turn),
        }
        start.await
    }

    pub(super) fn guards(&self) -> &Guards {
        &self.guards
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes")
            .field("allowance", &self.allowance)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_are_bounded_and_a_slow_one_holds_up_the_others_for_a_moment_only() {
        let processes = Processes::new().with_starts(NonZeroUsize::MIN.saturating_add(3));
        let (begun, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let at = Instant::now();
        let starts = (0..36).map(|_| {
            processes.start(async {
                let now = begun.fetch_add(1, Ordering::SeqCst) + 1;
                let periods = usize::try_from(at.elapsed().as_millis() / 100).unwrap() + 1;
                most.fetch_max(now.saturating_sub(4 * (periods - 1)), Ordering::SeqCst);
                sleep(Duration::from_secs(3)).await;
            })
        });
        futures_util::future::join_all(starts).await;
        assert!(most.load(Ordering::SeqCst) <= 4);
        assert!(at.elapsed() < Duration::from_secs(4), "{:?}", at.elapsed());
    }
}
