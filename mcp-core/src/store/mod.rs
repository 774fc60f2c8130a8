//! Small durable state behind one trait: get, put, delete, compare-and-swap, scan, time to live.
//!
//! [`StateStore`] is what budgets, sessions, recorders and workflow histories write to. Four implementations:
//!
//! | Type | Feature | For |
//! |---|---|---|
//! | [`MemoryStore`] | none | one process, nothing survives a restart |
//! | `RedbStore` | `redb` | one process, one file |
//! | `RedisStore` | `redis` | many processes |
//! | `PostgresStore` | `postgres` | many processes, durable |
//!
//! Keys are [`StoreKey`]s: a [`Namespace`] and a list of parts, written so that no two different lists meet in
//! one key. Every stored value has a [`Version`], which changes with every write and is not used again for that
//! key, not even after a delete.

mod error;
mod key;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::error::{StoreError, StoreErrorKind};
pub use self::key::{KeyError, MAX_KEY_LEN, Namespace, StoreKey, StorePrefix};
pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redb")]
pub use self::redb::RedbStore;
#[cfg(feature = "redis")]
pub use self::redis::{RedisConfig, RedisConnection, RedisStore};

/// Keeps small values under keys.
///
/// Writes are atomic for each key and visible to the next read through the same store. There are no
/// transactions over several keys; use [`compare_and_swap`](Self::compare_and_swap) in a loop.
///
/// A time to live is counted by the store. An entry past it is never returned, and its space is reclaimed
/// sooner or later. A time to live of zero is refused with [`StoreErrorKind::Invalid`]. Resolution is a
/// millisecond, rounded up.
///
/// # Cancel safety
///
/// A dropped read has no effect. A dropped write may or may not have happened.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync + 'static {
    /// Reads one entry.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable or the stored bytes make no sense.
    async fn get(&self, key: &StoreKey) -> Result<Option<Entry>, StoreError>;

    /// Writes one entry, whatever was there, and returns its new version. Without a `ttl` it never expires.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable, full, or the `ttl` is zero.
    async fn put(
        &self,
        key: &StoreKey,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError>;

    /// Removes one entry and tells if there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable.
    async fn delete(&self, key: &StoreKey) -> Result<bool, StoreError>;

    /// Applies `change` if the entry is still what the caller `expected`; a conflict is a value, not an error.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable, full, or a `ttl` is zero.
    async fn compare_and_swap(
        &self,
        key: &StoreKey,
        expected: Expected,
        change: Change,
    ) -> Result<Swap, StoreError>;

    /// Reads entries whose key begins with `prefix`, a page at a time, in no promised order.
    ///
    /// Pass the cursor of the page before, or `None` to begin. `limit` is a wish: a page may be shorter, even
    /// empty, or longer, and only a page without a cursor is the last. An entry that is there from the first
    /// page to the last is returned at least once; one written or removed meanwhile may be missed, and after
    /// such a change an entry may come twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable or the cursor is not one of its own.
    async fn scan(
        &self,
        prefix: &StorePrefix,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError>;
}

/// Names one state of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// Takes a version from its number, for implementations of [`StateStore`].
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number, which says nothing about order.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// A value and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The stored bytes.
    pub value: Bytes,
    /// The version to expect in a later compare-and-swap.
    pub version: Version,
}

impl Entry {
    /// Joins a value and its version.
    #[must_use]
    pub const fn new(value: Bytes, version: Version) -> Self {
        Self { value, version }
    }
}

/// What a compare-and-swap expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// No entry, or one past its time to live.
    Absent,
    /// An entry in exactly this state.
    Version(Version),
}

impl Expected {
    fn matches(self, found: Option<Version>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Version(version) => found == Some(version),
        }
    }
}

impl From<Option<&Entry>> for Expected {
    fn from(entry: Option<&Entry>) -> Self {
        entry.map_or(Self::Absent, |entry| Self::Version(entry.version))
    }
}

/// What a compare-and-swap does when the entry is as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Writes a value.
    Put {
        /// The bytes to store.
        value: Bytes,
        /// How long until they expire; `None` is never.
        ttl: Option<Duration>,
    },
    /// Removes the entry.
    Delete,
}

/// What became of a compare-and-swap.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Swap {
    /// The value was written; this is its version.
    Written(Version),
    /// The entry was removed.
    Deleted,
    /// The entry is not what was expected; this is what is there now.
    Conflict(Option<Entry>),
}

/// Where the next page of a scan begins; meaningful only to the store and prefix it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// Makes a cursor, for implementations of [`StateStore`].
    #[must_use]
    pub fn new(position: impl Into<String>) -> Self {
        Self(position.into())
    }

    /// The position as the store wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One page of a scan.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Page {
    /// The entries found.
    pub entries: Vec<(StoreKey, Entry)>,
    /// The cursor of the next page; `None` after the last.
    pub next: Option<Cursor>,
}

impl Page {
    /// Joins entries and the place of the next page.
    #[must_use]
    pub const fn new(entries: Vec<(StoreKey, Entry)>, next: Option<Cursor>) -> Self {
        Self { entries, next }
    }
}

/// Milliseconds of a time to live, rounded up; refuses zero.
fn ttl_millis(ttl: Duration) -> Result<u64, StoreError> {
    if ttl.is_zero() {
        return Err(StoreError::invalid("a time to live must be above zero"));
    }
    // A century stands for never: it keeps every sum below in range.
    const CENTURY: u64 = 100 * 366 * 86_400_000;
    let millis = ttl.as_nanos().div_ceil(1_000_000);
    Ok(u64::try_from(millis).map_or(CENTURY, |millis| millis.min(CENTURY)))
}
