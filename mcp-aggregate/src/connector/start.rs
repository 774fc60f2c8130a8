//! Something that takes a while to start, and is shared by all who wait for it.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwapOption;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use mcp_core::{Error, ErrorKind};
use tokio::{sync::oneshot, task::AbortHandle};
use tokio_util::task::TaskTracker;

/// The place of a session or a process. A task of its own starts it, so that a caller who gives up does not end the start
/// for the others; dropping the place does.
pub(crate) struct StartCell<T, E> {
    current: ArcSwapOption<T>,
    starting: Mutex<Option<Starting<E>>>,
}

struct Starting<E> {
    result: Shared<BoxFuture<'static, Result<(), E>>>,
    task: AbortHandle,
}

impl<E> Drop for Starting<E> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T, E> StartCell<T, E>
where
    T: Send + Sync + 'static,
    E: From<Error> + Clone + Send + Sync + 'static,
{
    /// Creates an empty place.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwapOption::empty(),
            starting: Mutex::default(),
        })
    }

    /// Returns what was started last.
    pub(crate) fn current(&self) -> Option<Arc<T>> {
        self.current.load_full()
    }

    /// Takes out what was started last.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.current.swap(None)
    }

    /// Takes out a value, unless it is another one by now.
    #[cfg(feature = "http")]
    pub(crate) fn forget(&self, value: &Arc<T>) {
        let current = self.current.load();
        if current.as_ref().is_some_and(|own| Arc::ptr_eq(own, value)) {
            self.current.compare_and_swap(&current, None);
        }
    }

    /// Ends a start that is in progress.
    pub(crate) fn abort(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Starting<E>>> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was started last if it is of use, or starts it by `begin` and waits.
    ///
    /// # Errors
    ///
    /// That of `begin`, or of the start.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves the start in progress, and the next caller shares it.
    pub(crate) async fn get<F>(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        is_usable: impl Fn(&T) -> bool,
        begin: impl FnOnce() -> Result<F, E>,
    ) -> Result<Arc<T>, E>
    where
        F: Future<Output = Result<Arc<T>, E>> + Send + 'static,
    {
        let usable = || self.current().filter(|value| is_usable(value));
        if let Some(value) = usable() {
            return Ok(value);
        }
        let result = {
            let mut starting = self.lock();
            if let Some(value) = usable() {
                return Ok(value);
            }
            let in_progress = starting.as_ref().filter(|own| !own.task.is_finished());
            match in_progress {
                Some(own) => own.result.clone(),
                None => {
                    let own = self.spawn(tasks, begin()?);
                    let result = own.result.clone();
                    *starting = Some(own);
                    result
                }
            }
        };
        result.await?;
        self.current().ok_or_else(|| given_up().into())
    }

    fn spawn(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        start: impl Future<Output = Result<Arc<T>, E>> + Send + 'static,
    ) -> Starting<E> {
        let (sender, result) = oneshot::channel();
        let place = Arc::downgrade(self);
        let task = tasks.spawn(async move {
            let started = start.await.map(|value| {
                if let Some(place) = place.upgrade() {
                    place.current.store(Some(value));
                }
            });
            // All who waited may be gone.
            let _ = sender.send(started);
        });
        let result = async move { result.await.unwrap_or_else(|_| Err(given_up().into())) };
        Starting {
            result: result.boxed().shared(),
            task: task.abort_handle(),
        }
    }
}

fn given_up() -> Error {
    Error::new(
        ErrorKind::NotSent,
        "the upstream was stopped while it was started",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Duration, sleep};

    use super::*;

    type Numbers = StartCell<usize, Error>;

    async fn get(cell: &Arc<Numbers>, tasks: &TaskTracker, count: &Arc<AtomicUsize>) -> Arc<usize> {
        let count = Arc::clone(count);
        let begin = || {
            Ok(async move {
                sleep(Duration::from_secs(10)).await;
                Ok(Arc::new(count.fetch_add(1, Ordering::SeqCst)))
            })
        };
        cell.get(tasks, |_| true, begin).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_gives_up_leaves_the_start_to_the_others() {
        let (cell, tasks, count) = (Numbers::new(), TaskTracker::new(), Arc::default());
        let impatient = tokio::time::timeout(Duration::from_secs(1), get(&cell, &tasks, &count));
        assert!(impatient.await.is_err());
        // Without a caller the start runs to its end.
        sleep(Duration::from_secs(20)).await;
        let started = tokio::time::Instant::now();
        let (first, second) = tokio::join!(get(&cell, &tasks, &count), get(&cell, &tasks, &count));
        assert_eq!((*first, *second), (0, 0));
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_place_ends_the_start() {
        let (cell, tasks, count) = (Numbers::new(), TaskTracker::new(), Arc::default());
        let impatient = tokio::time::timeout(Duration::from_secs(1), get(&cell, &tasks, &count));
        assert!(impatient.await.is_err());
        drop(cell);
        tasks.close();
        tasks.wait().await;
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_and_the_next_caller_starts_again() {
        let (cell, tasks) = (Numbers::new(), TaskTracker::new());
        let fails = || {
            cell.get(
                &tasks,
                |_| true,
                || Ok(async { Err(Error::new(ErrorKind::Timeout, "slow")) }),
            )
        };
        let (first, second) = tokio::join!(fails(), fails());
        for error in [first.unwrap_err(), second.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Timeout);
        }
        tokio::task::yield_now().await;
        assert_eq!(*get(&cell, &tasks, &Arc::default()).await, 0);
    }
}
