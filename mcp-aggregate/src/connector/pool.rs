//! The sessions or processes of a connector, by the key of who shares each.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use mcp_core::{Error, ErrorKind, OnClose, Request};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use super::{
    ScopeKey, SessionScope,
    allowance::{Allowance, Evict, Share},
};

/// What a pool keeps.
pub(crate) trait Pooled: Send + Sync + 'static {
    /// Ends it. The future completes when it has ended.
    fn end(&self) -> BoxFuture<'_, ()>;
}

/// Sessions or processes by key. Each is made by the first call that needs it and ended when its session ends, when it has
/// been idle for a while, to make room at a bound, and when the pool is shut down.
pub(crate) struct Pool<T>(Arc<State<T>>);

struct State<T> {
    places: Mutex<HashMap<ScopeKey, Place<T>>>,
    allowance: Allowance,
    idle: Duration,
    /// Everything that has to end before the pool has.
    tasks: TaskTracker,
    is_shut: AtomicBool,
    is_swept: AtomicBool,
}

struct Place<T> {
    kept: Arc<Kept<T>>,
    _share: Share,
    /// Takes the place out when its session ends.
    _on_close: Option<OnClose>,
}

/// Something that is kept, and how it is used.
struct Kept<T> {
    value: T,
    users: AtomicUsize,
    last_used: Mutex<Instant>,
}

impl<T> Kept<T> {
    fn idle_since(&self) -> Option<Instant> {
        let last_used = *self.lock();
        (self.users.load(Ordering::Acquire) == 0).then_some(last_used)
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The use of something that a pool keeps, which is not idle meanwhile.
pub(crate) struct Lease<T>(Arc<Kept<T>>);

impl<T> Lease<T> {
    fn new(kept: Arc<Kept<T>>) -> Self {
        kept.users.fetch_add(1, Ordering::AcqRel);
        Self(kept)
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        *self.0.lock() = Instant::now();
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One place of a pool, as the allowance sees it.
struct Resident<T> {
    pool: Weak<State<T>>,
    key: ScopeKey,
    kept: Weak<Kept<T>>,
}

impl<T: Pooled> Evict for Resident<T> {
    fn idle_since(&self) -> Option<Instant> {
        self.kept.upgrade()?.idle_since()
    }

    fn evict(&self) {
        if let (Some(pool), Some(kept)) = (self.pool.upgrade(), self.kept.upgrade()) {
            pool.remove(&self.key, Some(&kept));
        }
    }
}

impl<T: Pooled> Pool<T> {
    /// Creates an empty pool whose members end after an idle time.
    pub(crate) fn new(allowance: Allowance, idle: Duration) -> Self {
        Self(Arc::new(State {
            places: Mutex::default(),
            allowance,
            idle,
            tasks: TaskTracker::new(),
            is_shut: AtomicBool::new(false),
            is_swept: AtomicBool::new(false),
        }))
    }

    /// Returns where tasks are tracked that have to end before the pool has.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Returns whether something is kept for the client of a request.
    pub(crate) fn has(&self, scope: SessionScope, request: &Request) -> bool {
        let key = scope.key(request);
        key.is_ok_and(|key| self.0.lock().contains_key(&key))
    }

    /// Returns whether what is kept for the client of a request fulfils a condition.
    pub(crate) fn is(
        &self,
        scope: SessionScope,
        request: &Request,
        condition: impl FnOnce(&T) -> bool,
    ) -> bool {
        let Ok(key) = scope.key(request) else {
            return false;
        };
        let kept = self.0.lock().get(&key).map(|place| Arc::clone(&place.kept));
        kept.is_some_and(|kept| condition(&kept.value))
    }

    /// Returns what is kept for the client of a request, making it where there is nothing.
    ///
    /// # Errors
    ///
    /// The request has no principal, its session or the pool has ended, or a bound is reached.
    pub(crate) fn lease(
        &self,
        scope: SessionScope,
        request: &Request,
        make: impl FnOnce() -> T,
    ) -> Result<Lease<T>, Error> {
        let key = scope.key(request)?;
        if let Some(place) = self.0.lock().get(&key) {
            return Ok(Lease::new(Arc::clone(&place.kept)));
        }
        self.insert(&key, request, make())
    }

    fn insert(&self, key: &ScopeKey, request: &Request, value: T) -> Result<Lease<T>, Error> {
        if self.0.is_shut.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::NotSent, "the upstream was shut down"));
        }
        let kept = Arc::new(Kept {
            value,
            users: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
        });
        let resident = Arc::new(Resident {
            pool: Arc::downgrade(&self.0),
            key: key.clone(),
            kept: Arc::downgrade(&kept),
        });
        let share = self
            .0
            .allowance
            .admit(request.principal().partition(), resident)?;
        let lease = {
            let mut places = self.0.lock();
            if let Some(place) = places.get(key) {
                // Another call was quicker. The share is given back after the lock.
                let lease = Lease::new(Arc::clone(&place.kept));
                drop(places);
                return Ok(lease);
            }
            let lease = Lease::new(Arc::clone(&kept));
            let place = Place {
                kept,
                _share: share,
                _on_close: None,
            };
            places.insert(key.clone(), place);
            lease
        };
        self.end_with_session(key, &lease)?;
        self.sweep();
        // A shutdown that came meanwhile has not seen it.
        if self.0.is_shut.load(Ordering::Acquire) {
            self.0.remove(key, Some(&lease.0));
        }
        Ok(lease)
    }

    fn end_with_session(&self, key: &ScopeKey, lease: &Lease<T>) -> Result<(), Error> {
        let ScopeKey::Session(session) = key else {
            return Ok(());
        };
        let (pool, own) = (Arc::downgrade(&self.0), key.clone());
        let hook = session.on_close(move || {
            if let Some(pool) = pool.upgrade() {
                pool.remove(&own, None);
            }
        });
        if session.is_closed() {
            self.0.remove(key, None);
            return Err(Error::new(
                ErrorKind::NotSent,
                "the session of this call has ended",
            ));
        }
        let unused = {
            let mut places = self.0.lock();
            match places.get_mut(key) {
                Some(place) if Arc::ptr_eq(&place.kept, &lease.0) => place._on_close.replace(hook),
                _ => Some(hook),
            }
        };
        drop(unused);
        Ok(())
    }

    /// Starts the one task that ends what has been idle for too long, unless it runs.
    fn sweep(&self) {
        if self.0.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            self.0.is_swept.store(false, Ordering::Release);
            return;
        };
        let (pool, idle) = (Arc::downgrade(&self.0), self.0.idle);
        let pause = (idle / 4).clamp(Duration::from_millis(50), Duration::from_secs(60));
        runtime.spawn(async move {
            loop {
                sleep(pause).await;
                let Some(pool) = pool.upgrade() else { return };
                if !pool.end_idle(idle) {
                    return;
                }
            }
        });
    }

    /// Ends everything and waits until it has ended. Later calls are refused.
    pub(crate) async fn shut_down(&self) {
        self.0.is_shut.store(true, Ordering::Release);
        let all = std::mem::take(&mut *self.0.lock());
        for (_, place) in all {
            self.0.end(place);
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl<T: Pooled> State<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<ScopeKey, Place<T>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what is kept under a key, if it is still this, and ends it.
    fn remove(&self, key: &ScopeKey, kept: Option<&Arc<Kept<T>>>) {
        let place = {
            let mut places = self.lock();
            let is_it = places
                .get(key)
                .is_some_and(|place| kept.is_none_or(|kept| Arc::ptr_eq(&place.kept, kept)));
            is_it.then(|| places.remove(key)).flatten()
        };
        if let Some(place) = place {
            self.end(place);
        }
    }

    /// Ends something by a task of its own. Its share is given back when it has ended.
    fn end(&self, place: Place<T>) {
        if let Ok(runtime) = Handle::try_current() {
            let ending = async move { place.kept.value.end().await };
            self.tasks.spawn_on(ending, &runtime);
        }
    }

    /// Ends what has been idle for too long. Returns whether anything is left to look after.
    fn end_idle(&self, idle: Duration) -> bool {
        let is_over = |place: &Place<T>| {
            let idle_since = place.kept.idle_since();
            idle_since.is_some_and(|since| since.elapsed() >= idle)
        };
        let (over, is_empty): (Vec<_>, _) = {
            let mut places = self.lock();
            let over = places
                .extract_if(|_, place| is_over(place))
                .map(|(_, place)| place)
                .collect();
            let is_empty = places.is_empty();
            if is_empty {
                // Under the lock: who inserts next sees it.
                self.is_swept.store(false, Ordering::Release);
            }
            (over, is_empty)
        };
        for place in over {
            self.end(place);
        }
        !is_empty
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
