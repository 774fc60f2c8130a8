use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// Identifies the session of the session era that a request came in on.
///
/// Whatever belongs to a session (an upstream's session, a child process, a listing) is kept under this key, and is let
/// go of when the session ends: see [`SessionKey::on_close`]. Clones name the same session.
///
/// # Security
///
/// The id is not the `Mcp-Session-Id` of the wire and authenticates no client.
#[derive(Clone)]
pub struct SessionKey(Arc<KeyState>);

struct KeyState {
    id: Box<str>,
    closed: AtomicBool,
    waiting: Notify,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    hooks: Vec<(u64, Hook)>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl SessionKey {
    /// Creates the key of a session. The id must differ from the id of every other session.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(Arc::new(KeyState {
            id: id.into(),
            closed: AtomicBool::new(false),
            waiting: Notify::new(),
            hooks: Mutex::default(),
        }))
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Ends the session: runs what [`SessionKey::on_close`] has registered and completes [`SessionKey::closed`].
    /// Later calls do nothing.
    pub fn close(&self) {
        let hooks = {
            let mut hooks = self.0.lock();
            if self.0.closed.swap(true, Ordering::AcqRel) {
                return;
            }
            std::mem::take(&mut hooks.hooks)
        };
        self.0.waiting.notify_waiters();
        for (_, hook) in hooks {
            hook();
        }
    }

    /// Returns whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Waits until the session has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn closed(&self) {
        let waiting = self.0.waiting.notified();
        tokio::pin!(waiting);
        // Registers before the flag is read, so that no end is missed.
        waiting.as_mut().enable();
        if !self.is_closed() {
            waiting.await;
        }
    }

    /// Runs a hook once when the session ends; at once where it has ended already.
    ///
    /// The hook runs on the thread that ends the session, and must neither block nor wait. Hooks run in the order in
    /// which they were registered. Dropping the guard unregisters the hook; [`OnClose::keep`] leaves it registered for
    /// as long as the session lives.
    pub fn on_close(&self, hook: impl FnOnce() + Send + 'static) -> OnClose {
        let mut hooks = self.0.lock();
        if self.is_closed() {
            drop(hooks);
            hook();
            return OnClose {
                key: Weak::new(),
                number: 0,
            };
        }
        let number = hooks.next;
        hooks.next += 1;
        hooks.hooks.push((number, Box::new(hook)));
        OnClose {
            key: Arc::downgrade(&self.0),
            number,
        }
    }
}

impl KeyState {
    fn lock(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hook that runs when a session ends. Dropping it unregisters the hook. Made by [`SessionKey::on_close`].
#[must_use = "dropping it unregisters the hook"]
pub struct OnClose {
    key: Weak<KeyState>,
    number: u64,
}

impl OnClose {
    /// Leaves the hook registered for as long as the session lives.
    pub fn keep(mut self) {
        self.key = Weak::new();
    }
}

impl Drop for OnClose {
    fn drop(&mut self) {
        let Some(key) = self.key.upgrade() else {
            return;
        };
        let mut hooks = key.lock();
        let at = hooks.hooks.iter().position(|(own, _)| *own == self.number);
        let hook = at.map(|at| hooks.hooks.remove(at));
        // What a hook holds may unregister another when it is dropped.
        drop(hooks);
        drop(hook);
    }
}

impl fmt::Debug for OnClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnClose")
    }
}

impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for SessionKey {}

impl std::hash::Hash for SessionKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({})", self.0.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seen: &Arc<Mutex<Vec<u8>>>, number: u8) -> impl FnOnce() + Send + use<> {
        let seen = Arc::clone(seen);
        move || seen.lock().unwrap().push(number)
    }

    #[test]
    fn hooks_run_once_in_order_unless_their_guard_is_dropped() {
        let key = SessionKey::new("s");
        let seen = Arc::default();
        let _first = key.on_close(record(&seen, 1));
        drop(key.on_close(record(&seen, 2)));
        key.on_close(record(&seen, 3)).keep();
        key.close();
        key.clone().close();
        assert_eq!(*seen.lock().unwrap(), [1, 3]);
        key.on_close(record(&seen, 4)).keep();
        assert_eq!(*seen.lock().unwrap(), [1, 3, 4], "the session has ended");
    }

    #[test]
    fn a_hook_may_use_the_key_and_other_guards() {
        let key = SessionKey::new("s");
        let seen = Arc::default();
        let other = key.on_close(record(&seen, 1));
        let (own, record) = (key.clone(), record(&seen, 2));
        let inner = key.on_close(move || {
            drop(other);
            assert!(own.is_closed());
            record();
        });
        drop(inner);
        assert!(key.on_close(|| ()).key.upgrade().is_some());
        key.close();
        assert!(seen.lock().unwrap().is_empty(), "both were unregistered");
    }

    #[tokio::test]
    async fn all_who_wait_learn_of_the_end() {
        let key = SessionKey::new("s");
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let key = key.clone();
                tokio::spawn(async move { key.closed().await })
            })
            .collect();
        tokio::task::yield_now().await;
        key.close();
        for waiting in waiting {
            waiting.await.unwrap();
        }
        key.closed().await;
    }
}
