use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Change, Cursor, Entry, Expected, Page, StateStore, StoreError, StoreErrorKind, StoreKey,
    StorePrefix, Swap, Version, ttl_millis,
};
use crate::clock::{Clock, SystemClock};

const DEFAULT_MAX_ENTRIES: usize = 100_000;
const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;
/// What an entry costs beside its key (kept twice when it expires) and value.
const ENTRY_OVERHEAD: usize = 128;
/// How many expired entries a write removes at most, so that no single write pays for all.
const SWEEP_PER_WRITE: usize = 64;

/// Keeps entries in memory; clones share them.
///
/// Bounded: by default 100,000 entries and 256 MiB of keys and values (with 128 bytes added for each entry). A
/// write beyond a bound first removes everything expired and is then refused with [`StoreErrorKind::Full`];
/// live entries are never evicted.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use mcp_core::store::{MemoryStore, Namespace, StateStore, StoreKey};
///
/// let store = MemoryStore::new();
/// let key = StoreKey::new(&Namespace::new("demo")?, ["alice"])?;
/// store.put(&key, "hello".into(), None).await?;
/// assert_eq!(store.get(&key).await?.unwrap().value, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<StoreKey, Stored>,
    by_expiry: BTreeSet<(Instant, StoreKey)>,
    bytes: usize,
    last_version: u64,
}

#[derive(Debug)]
struct Stored {
    entry: Entry,
    expires: Option<Instant>,
}

impl MemoryStore {
    /// Makes an empty store with the default bounds.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            clock: Arc::new(SystemClock::new()),
            max_entries: DEFAULT_MAX_ENTRIES,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }

    /// Bounds the number of entries. Default is 100,000; zero refuses every new entry.
    #[must_use]
    pub const fn with_max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// Bounds keys and values together, in bytes. Default is 256 MiB; zero refuses every new entry.
    #[must_use]
    pub const fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Counts times to live by another clock. Default is [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How many entries are held, expired ones not yet removed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Tells if nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the state whole at each step that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        state: &mut State,
        key: &StoreKey,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let now = self.clock.now();
        let expires = match ttl {
            Some(ttl) => now.checked_add(Duration::from_millis(ttl_millis(ttl)?)),
            None => None,
        };
        state.sweep(now, SWEEP_PER_WRITE);
        if !self.has_room(state, key, &value) {
            state.sweep(now, usize::MAX);
            if !self.has_room(state, key, &value) {
                return Err(StoreError::new(
                    StoreErrorKind::Full,
                    "the memory store is full",
                ));
            }
        }
        state.remove(key);
        state.last_version += 1;
        let version = Version::from_u64(state.last_version);
        state.bytes += size(key, &value);
        if let Some(at) = expires {
            state.by_expiry.insert((at, key.clone()));
        }
        let entry = Entry::new(value, version);
        state.entries.insert(key.clone(), Stored { entry, expires });
        Ok(version)
    }

    fn has_room(&self, state: &State, key: &StoreKey, value: &Bytes) -> bool {
        let (count, freed) = match state.entries.get(key) {
            Some(old) => (state.entries.len(), size(key, &old.entry.value)),
            None => (state.entries.len() + 1, 0),
        };
        count <= self.max_entries && state.bytes - freed + size(key, value) <= self.max_bytes
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn live(&self, key: &StoreKey, now: Instant) -> Option<&Entry> {
        self.entries
            .get(key)
            .filter(|stored| stored.is_live(now))
            .map(|stored| &stored.entry)
    }

    fn remove(&mut self, key: &StoreKey) -> Option<Stored> {
        let stored = self.entries.remove(key)?;
        self.bytes -= size(key, &stored.entry.value);
        if let Some(at) = stored.expires {
            self.by_expiry.remove(&(at, key.clone()));
        }
        Some(stored)
    }

    fn sweep(&mut self, now: Instant, most: usize) {
        for _ in 0..most {
            match self.by_expiry.first() {
                Some((at, key)) if *at <= now => {
                    let key = key.clone();
                    self.remove(&key);
                }
                _ => return,
            }
        }
    }
}

impl Stored {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|at| now < at)
    }
}

fn size(key: &StoreKey, value: &Bytes) -> usize {
    key.as_str().len() + value.len() + ENTRY_OVERHEAD
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &StoreKey) -> Result<Option<Entry>, StoreError> {
        let now = self.clock.now();
        Ok(self.lock().live(key, now).cloned())
    }

    async fn put(
        &self,
        key: &StoreKey,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        self.write(&mut self.lock(), key, value, ttl)
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool, StoreError> {
        let now = self.clock.now();
        Ok(self
            .lock()
            .remove(key)
            .is_some_and(|stored| stored.is_live(now)))
    }

    async fn compare_and_swap(
        &self,
        key: &StoreKey,
        expected: Expected,
        change: Change,
    ) -> Result<Swap, StoreError> {
        let mut state = self.lock();
        let found = state.live(key, self.clock.now());
        if !expected.matches(found.map(|entry| entry.version)) {
            return Ok(Swap::Conflict(found.cloned()));
        }
        match change {
            Change::Put { value, ttl } => {
                self.write(&mut state, key, value, ttl).map(Swap::Written)
            }
            Change::Delete => {
                state.remove(key);
                Ok(Swap::Deleted)
            }
        }
    }

    async fn scan(
        &self,
        prefix: &StorePrefix,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let now = self.clock.now();
        let start = match &cursor {
            Some(cursor) => Bound::Excluded(cursor_key(cursor)?),
            None => Bound::Included(prefix_key(prefix)?),
        };
        let state = self.lock();
        let mut found = state
            .entries
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix.as_str()))
            .filter(|(_, stored)| stored.is_live(now));
        let entries: Vec<_> = found
            .by_ref()
            .take(limit.max(1))
            .map(|(key, stored)| (key.clone(), stored.entry.clone()))
            .collect();
        let more = found.next().is_some();
        let next = entries
            .last()
            .filter(|_| more)
            .map(|(key, _)| Cursor::new(key.as_str()));
        Ok(Page::new(entries, next))
    }
}

/// A prefix is written like a key, so it is its own first possible key.
fn prefix_key(prefix: &StorePrefix) -> Result<StoreKey, StoreError> {
    StoreKey::parse(prefix.as_str())
        .map_err(|error| StoreError::invalid("malformed prefix").with_source(error))
}

fn cursor_key(cursor: &Cursor) -> Result<StoreKey, StoreError> {
    StoreKey::parse(cursor.as_str())
        .map_err(|error| StoreError::invalid("foreign cursor").with_source(error))
}
