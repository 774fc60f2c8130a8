//! How long a person has been asked during a call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mcp_core::{Ask, Asker, Error, Json, Method};
use tokio::time::Instant;

/// The times in which a call waited for the answer to a server-initiated request.
#[derive(Debug)]
pub(super) struct Asked {
    longest: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many requests wait for an answer, and since when there has been at least one.
    waiting: usize,
    since: Option<Instant>,
    before: Duration,
}

impl Asked {
    pub(super) fn new(longest: Duration) -> Arc<Self> {
        Arc::new(Self {
            longest,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time so far, up to the longest.
    pub(super) fn total(&self) -> Duration {
        let state = self.lock();
        let now = state.since.map_or(Duration::ZERO, |since| since.elapsed());
        state.before.saturating_add(now).min(self.longest)
    }

    /// Whether a person is being asked, and may be for longer.
    pub(super) fn is_asking(&self) -> bool {
        let waiting = self.lock().waiting > 0;
        waiting && self.total() < self.longest
    }

    fn begin(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        state.since.get_or_insert_with(Instant::now);
    }

    fn end(&self) {
        let mut state = self.lock();
        state.waiting -= 1;
        if state.waiting == 0
            && let Some(since) = state.since.take()
        {
            state.before = state.before.saturating_add(since.elapsed());
        }
    }

    /// Wraps the way to the client, so that what it is asked counts.
    pub(super) fn watch(self: &Arc<Self>, asker: Asker) -> Asker {
        Asker::new(Watched {
            asker,
            asked: Arc::clone(self),
        })
    }
}

struct Watched {
    asker: Asker,
    asked: Arc<Asked>,
}

/// Counts a request while it waits, also when it is dropped.
struct Waiting<'a>(&'a Asked);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[async_trait]
impl Ask for Watched {
    async fn ask(&self, method: Method, params: Option<Json>) -> Result<Json, Error> {
        // Roots are answered by a program; a person may be asked for the others.
        if method == Method::ROOTS_LIST {
            return self.asker.ask(method, params).await;
        }
        self.asked.begin();
        let _waiting = Waiting(&self.asked);
        self.asker.ask(method, params).await
    }
}
