//! Connections that wait for their next request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::uri::Authority;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::driven::Connection;

/// How often unused connections are looked at. Only while there are any.
const LOOK: Duration = Duration::from_secs(1);

/// The unused connections of a client.
pub(super) struct Idle {
    kept: Mutex<Kept>,
    time: Duration,
    /// For each origin.
    most: usize,
}

#[derive(Default)]
struct Kept {
    /// Few: they are those that the operator allowed. Of each, the longest unused first.
    origins: Vec<(Authority, Vec<Unused>)>,
    /// Whether a task looks after them.
    looked_after: bool,
}

struct Unused {
    connection: Box<Connection>,
    until: Instant,
}

impl Idle {
    pub(super) fn new(time: Duration, most: usize) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            time,
            most,
        })
    }

    /// Takes the connection that was used last.
    pub(super) fn take(&self, origin: &Authority) -> Option<Box<Connection>> {
        let mut kept = self.lock();
        let mut origins = kept.origins.iter_mut();
        let found = origins.find(|(own, _)| own == origin)?.1.pop()?;
        drop(kept);
        (Instant::now() < found.until).then_some(found.connection)
    }

    /// Keeps a connection, if there is room.
    pub(super) fn put(self: Arc<Self>, origin: Authority, connection: Box<Connection>) {
        // Without a runtime it could not be used anyway.
        let (Ok(runtime), Some(until)) =
            (Handle::try_current(), Instant::now().checked_add(self.time))
        else {
            return;
        };
        let mut kept = self.lock();
        let one = Unused { connection, until };
        let mut origins = kept.origins.iter_mut();
        match origins.find(|(own, _)| *own == origin) {
            Some((_, unused)) if unused.len() < self.most => unused.push(one),
            None if self.most > 0 => kept.origins.push((origin, vec![one])),
            _ => {
                // Closed outside of the lock.
                drop(kept);
                return;
            }
        }
        let is_looked_after = std::mem::replace(&mut kept.looked_after, true);
        // A runtime that shuts down drops the task at once, which takes the lock.
        drop(kept);
        if !is_looked_after {
            runtime.spawn(look_after(LookedAfter(Arc::downgrade(&self))));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what has been unused for too long and what its server has closed.
    fn remove_useless(&self) -> Vec<Unused> {
        let now = Instant::now();
        let mut useless = Vec::new();
        self.lock().origins.retain_mut(|(_, unused)| {
            useless
                .extend(unused.extract_if(.., |one| one.until <= now || !one.connection.is_open()));
            !unused.is_empty()
        });
        useless
    }
}

/// Clears [`Kept::looked_after`] when the task ends or is dropped with its runtime.
struct LookedAfter(Weak<Idle>);

impl Drop for LookedAfter {
    fn drop(&mut self) {
        if let Some(idle) = self.0.upgrade() {
            idle.lock().looked_after = false;
        }
    }
}

async fn look_after(looked_after: LookedAfter) {
    loop {
        sleep(LOOK).await;
        let Some(idle) = looked_after.0.upgrade() else {
            return;
        };
        // Closed outside of the lock.
        drop(idle.remove_useless());
        let mut kept = idle.lock();
        if kept.origins.is_empty() {
            kept.looked_after = false;
            return;
        }
    }
}
