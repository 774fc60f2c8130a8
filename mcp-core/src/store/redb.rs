use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::{
    Change, Cursor, Entry, Expected, Page, StateStore, StoreError, StoreErrorKind, StoreKey,
    StorePrefix, Swap, Version, ttl_millis,
};
use crate::clock::{SystemWallClock, WallClock};

/// Version and expiry (milliseconds since 1970, zero for none), both little endian, then the value.
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
const BY_EXPIRY: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("by_expiry");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const LAST_VERSION: &str = "last_version";
const HEADER_LEN: usize = 16;
const SWEEP_PER_WRITE: usize = 64;

/// Keeps entries in one file on disk; clones share it.
///
/// One process may have the file open at a time. A write returns when the data is on disk. Work runs on tokio's
/// blocking threads. On Unix the file is readable and writable by its owner alone; an existing file with wider
/// permissions is narrowed.
///
/// Times to live are counted by the wall clock, since they outlive the process: setting the clock forward ends
/// them early, setting it back prolongs them.
#[derive(Debug, Clone)]
pub struct RedbStore {
    database: Arc<Database>,
    clock: Arc<dyn WallClock>,
}

impl RedbStore {
    /// Opens the file, or makes it; its folder must exist.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`] if the file cannot be opened, for instance because another process has
    /// it; [`StoreErrorKind::Corrupt`] if it is not such a file.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with_clock(path, Arc::new(SystemWallClock::new())).await
    }

    /// Opens the file like [`open`](Self::open) and counts times to live by the given clock.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub async fn open_with_clock(
        path: impl AsRef<Path>,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let database = blocking(move || open_database(&path)).await?;
        Ok(Self {
            database: Arc::new(database),
            clock,
        })
    }

    fn now(&self) -> u64 {
        millis(self.clock.now())
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        let now = self.now();
        blocking(move || {
            let transaction = database.begin_write().map_err(unavailable)?;
            let result = {
                let mut writer = Writer::open(&transaction, now)?;
                writer.sweep(SWEEP_PER_WRITE)?;
                work(&mut writer)?
            };
            transaction.commit().map_err(unavailable)?;
            Ok(result)
        })
        .await
    }
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    own_file(path).map_err(unavailable)?;
    let database = Database::create(path).map_err(|error| match error {
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(_))
        | redb::DatabaseError::UpgradeRequired(_) => {
            StoreError::corrupt("the file is not a store").with_source(error)
        }
        redb::DatabaseError::Storage(redb::StorageError::Io(ref io))
            if io.kind() == io::ErrorKind::InvalidData =>
        {
            StoreError::corrupt("the file is not a store").with_source(error)
        }
        error => unavailable(error),
    })?;
    let transaction = database.begin_write().map_err(unavailable)?;
    Writer::open(&transaction, 0)?;
    transaction.commit().map_err(unavailable)?;
    Ok(database)
}

/// Makes the file if need be, readable by its owner alone.
#[cfg(unix)]
fn own_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(not(unix))]
fn own_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// The open tables of one write transaction.
struct Writer<'t> {
    entries: Table<'t, &'static str, &'static [u8]>,
    by_expiry: Table<'t, (u64, &'static str), ()>,
    meta: Table<'t, &'static str, u64>,
    now: u64,
}

impl<'t> Writer<'t> {
    fn open(transaction: &'t WriteTransaction, now: u64) -> Result<Self, StoreError> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES).map_err(unavailable)?,
            by_expiry: transaction.open_table(BY_EXPIRY).map_err(unavailable)?,
            meta: transaction.open_table(META).map_err(unavailable)?,
            now,
        })
    }

    /// The entry and its expiry, expired or not.
    fn find(&self, key: &str) -> Result<Option<(Entry, u64)>, StoreError> {
        let found = self.entries.get(key).map_err(unavailable)?;
        found.map(|bytes| decode(bytes.value())).transpose()
    }

    fn live(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self
            .find(key)?
            .filter(|(_, expires)| is_live(*expires, self.now))
            .map(|(entry, _)| entry))
    }

    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let expires = match ttl {
            Some(ttl) => self.now.saturating_add(ttl_millis(ttl)?),
            None => 0,
        };
        self.remove(key)?;
        let last = self
            .meta
            .get(LAST_VERSION)
            .map_err(unavailable)?
            .map_or(0, |guard| guard.value());
        let version = last.wrapping_add(1);
        self.meta
            .insert(LAST_VERSION, version)
            .map_err(unavailable)?;
        let mut bytes = Vec::with_capacity(HEADER_LEN + value.len());
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&expires.to_le_bytes());
        bytes.extend_from_slice(value);
        self.entries
            .insert(key, bytes.as_slice())
            .map_err(unavailable)?;
        if expires != 0 {
            self.by_expiry
                .insert((expires, key), ())
                .map_err(unavailable)?;
        }
        Ok(Version::from_u64(version))
    }

    /// Removes an entry and tells if it was alive.
    fn remove(&mut self, key: &str) -> Result<bool, StoreError> {
        let Some((_, expires)) = self.find(key)? else {
            return Ok(false);
        };
        self.entries.remove(key).map_err(unavailable)?;
        if expires != 0 {
            self.by_expiry.remove((expires, key)).map_err(unavailable)?;
        }
        Ok(is_live(expires, self.now))
    }

    fn sweep(&mut self, most: usize) -> Result<(), StoreError> {
        for _ in 0..most {
            let first = match self.by_expiry.first().map_err(unavailable)? {
                Some((guard, _)) => {
                    let (expires, key) = guard.value();
                    if is_live(expires, self.now) {
                        return Ok(());
                    }
                    (expires, key.to_owned())
                }
                None => return Ok(()),
            };
            self.by_expiry
                .remove((first.0, first.1.as_str()))
                .map_err(unavailable)?;
            self.entries.remove(first.1.as_str()).map_err(unavailable)?;
        }
        Ok(())
    }
}

#[async_trait]
impl StateStore for RedbStore {
    async fn get(&self, key: &StoreKey) -> Result<Option<Entry>, StoreError> {
        let (database, key, now) = (Arc::clone(&self.database), key.clone(), self.now());
        blocking(move || {
            let transaction = database.begin_read().map_err(unavailable)?;
            let entries = transaction.open_table(ENTRIES).map_err(unavailable)?;
            let Some(bytes) = entries.get(key.as_str()).map_err(unavailable)? else {
                return Ok(None);
            };
            let (entry, expires) = decode(bytes.value())?;
            Ok(is_live(expires, now).then_some(entry))
        })
        .await
    }

    async fn put(
        &self,
        key: &StoreKey,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let key = key.clone();
        self.write(move |writer| writer.put(key.as_str(), &value, ttl))
            .await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool, StoreError> {
        let key = key.clone();
        self.write(move |writer| writer.remove(key.as_str())).await
    }

    async fn compare_and_swap(
        &self,
        key: &StoreKey,
        expected: Expected,
        change: Change,
    ) -> Result<Swap, StoreError> {
        let key = key.clone();
        self.write(move |writer| {
            let found = writer.live(key.as_str())?;
            if !expected.matches(found.as_ref().map(|entry| entry.version)) {
                return Ok(Swap::Conflict(found));
            }
            match change {
                Change::Put { value, ttl } => {
                    writer.put(key.as_str(), &value, ttl).map(Swap::Written)
                }
                Change::Delete => writer.remove(key.as_str()).map(|_| Swap::Deleted),
            }
        })
        .await
    }

    async fn scan(
        &self,
        prefix: &StorePrefix,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let (database, prefix, now) = (Arc::clone(&self.database), prefix.clone(), self.now());
        blocking(move || scan(&database, &prefix, cursor.as_ref(), limit.max(1), now)).await
    }
}

fn scan(
    database: &Database,
    prefix: &StorePrefix,
    cursor: Option<&Cursor>,
    limit: usize,
    now: u64,
) -> Result<Page, StoreError> {
    let transaction = database.begin_read().map_err(unavailable)?;
    let entries = transaction.open_table(ENTRIES).map_err(unavailable)?;
    let start = cursor.map_or(prefix.as_str(), Cursor::as_str);
    let mut page = Page::default();
    for item in entries.range(start..).map_err(unavailable)? {
        let (key, bytes) = item.map_err(unavailable)?;
        let key = key.value();
        if !key.starts_with(prefix.as_str()) {
            break;
        }
        let (entry, expires) = decode(bytes.value())?;
        if !is_live(expires, now) || cursor.is_some_and(|cursor| cursor.as_str() == key) {
            continue;
        }
        if page.entries.len() == limit {
            let last = page.entries.last().map(|(key, _)| key.as_str());
            page.next = last.map(Cursor::new);
            break;
        }
        let key = StoreKey::parse(key).map_err(|error| {
            StoreError::corrupt("the store holds a malformed key").with_source(error)
        })?;
        page.entries.push((key, entry));
    }
    Ok(page)
}

fn decode(bytes: &[u8]) -> Result<(Entry, u64), StoreError> {
    let (Some((version, rest)), true) = (bytes.split_first_chunk::<8>(), bytes.len() >= HEADER_LEN)
    else {
        return Err(StoreError::corrupt(
            "the store holds an entry without its header",
        ));
    };
    let (expires, value) = rest.split_first_chunk::<8>().unwrap_or((&[0; 8], rest));
    let version = Version::from_u64(u64::from_le_bytes(*version));
    Ok((
        Entry::new(Bytes::copy_from_slice(value), version),
        u64::from_le_bytes(*expires),
    ))
}

const fn is_live(expires: u64, now: u64) -> bool {
    expires == 0 || now < expires
}

fn millis(date: SystemTime) -> u64 {
    let since = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "the store's file cannot be used",
    )
    .with_source(error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(unavailable)?
}

#[cfg(test)]
mod tests {
    use crate::store::{Namespace, StateStore, StoreErrorKind, StoreKey};

    use super::RedbStore;

    #[cfg(unix)]
    #[tokio::test]
    async fn the_file_belongs_to_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        for mode in [None, Some(0o644)] {
            if let Some(mode) = mode {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            drop(RedbStore::open(&path).await.unwrap());
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn entries_survive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let key = StoreKey::new(&Namespace::new("t").unwrap(), ["k"]).unwrap();
        let first = RedbStore::open(&path).await.unwrap();
        let version = first.put(&key, "v".into(), None).await.unwrap();
        let busy = RedbStore::open(&path).await.unwrap_err();
        assert_eq!(busy.kind(), StoreErrorKind::Unavailable);
        drop(first);
        let again = RedbStore::open(&path).await.unwrap();
        assert_eq!(again.get(&key).await.unwrap().unwrap().version, version);
        assert_ne!(again.put(&key, "v".into(), None).await.unwrap(), version);
    }

    #[tokio::test]
    async fn another_file_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letter.txt");
        std::fs::write(&path, "Dear reader, ".repeat(1000)).unwrap();
        assert_eq!(
            RedbStore::open(&path).await.unwrap_err().kind(),
            StoreErrorKind::Corrupt
        );
    }
}
