use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script, ScriptInvocation};
use tokio::time::Instant;

use super::{
    Change, Cursor, Entry, Expected, Page, StateStore, StoreError, StoreErrorKind, StoreKey,
    StorePrefix, Swap, Version, ttl_millis,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);
/// The shortest time between two new connections to a server that takes no writes.
const REPLACE: Duration = Duration::from_secs(1);
const MAX_PREFIX_LEN: usize = 64;
/// How many keys one step of a scan looks at.
const SCAN_STEP: usize = 512;
/// How many steps in which nothing matched one page makes before it is returned empty.
const STEPS_PER_PAGE: usize = 32;

/// KEYS\[1\] entry; ARGV: expected version or "", "put" or "del", new record, time to live in ms or "".
/// Answers the record found when it is not as expected, else an empty text.
const CAS: &str = r"
local found = redis.call('GET', KEYS[1])
if (ARGV[1] == '' and found) or (ARGV[1] ~= '' and (not found or string.sub(found, 1, 8) ~= ARGV[1])) then
  return {0, found}
end
if ARGV[2] == 'del' then redis.call('DEL', KEYS[1])
elseif ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return {1, false}";

/// Where a Redis server is and how long to wait for it.
///
/// The address may hold a password and is therefore not shown by `Debug`.
#[derive(Clone)]
pub struct RedisConfig {
    client: Client,
    timeout: Duration,
}

impl RedisConfig {
    /// Reads an address such as `redis://:password@host:6379/0`. Does not connect.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Invalid`] if the address cannot be read.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        // The source is left out: it may quote the address and with it the password.
        let client = Client::open(url)
            .map_err(|_| StoreError::invalid("the redis address cannot be read"))?;
        Ok(Self {
            client,
            timeout: DEFAULT_TIMEOUT,
        })
    }

    /// Bounds one attempt to connect and one answer. Default is 500 ms; zero fails every call.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes a connection that connects when it is first used and again after it was lost.
    ///
    /// Must be called within a tokio runtime, though no traffic happens yet.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`] if the connection cannot be prepared.
    pub fn connect_lazily(&self) -> Result<RedisConnection, StoreError> {
        let manager = self.manager().map_err(unavailable)?;
        Ok(RedisConnection {
            config: self.clone(),
            current: Arc::new(Mutex::new(Current {
                manager,
                replaced: None,
            })),
        })
    }

    fn manager(&self) -> Result<ConnectionManager, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(5))
            .set_max_delay(Duration::from_millis(50));
        ConnectionManager::new_lazy_with_config(self.client.clone(), config)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// One connection, shared by its clones, over which any number of callers ask at once.
///
/// It is made when it is first used and again after it was lost, and another one is made when the server has become a replica
/// that takes no writes: the address then leads to another server before long.
#[derive(Clone)]
pub struct RedisConnection {
    config: RedisConfig,
    current: Arc<Mutex<Current>>,
}

struct Current {
    manager: ConnectionManager,
    /// When it was replaced last.
    replaced: Option<Instant>,
}

impl RedisConnection {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection itself, for commands of one's own. Ask for it again for each command.
    #[must_use]
    pub fn manager(&self) -> ConnectionManager {
        self.lock().manager.clone()
    }

    /// Asks once, and once more where the connection was lost before an answer came or the server takes no writes. For
    /// commands that may run twice.
    ///
    /// # Errors
    ///
    /// What the second attempt failed by, or the first where another cannot help.
    pub async fn ask_repeatably<T, F>(
        &self,
        ask: impl Fn(ConnectionManager) -> F,
    ) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        match self.ask_once(&ask).await {
            Err(error) if is_lost(&error) => ask(self.manager()).await,
            done => done,
        }
    }

    /// Asks, and once more only where the server has refused because it takes no writes. For commands that must not run
    /// twice.
    ///
    /// # Errors
    ///
    /// What the last attempt failed by.
    pub async fn ask_once<T, F>(
        &self,
        ask: impl Fn(ConnectionManager) -> F,
    ) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        match ask(self.manager()).await {
            Err(error) if error.code() == Some("READONLY") && self.replace()? => {
                ask(self.manager()).await
            }
            done => done,
        }
    }

    /// Makes another connection, at most once a second; tells if it did.
    fn replace(&self) -> Result<bool, RedisError> {
        let now = Instant::now();
        let mut current = self.lock();
        if current
            .replaced
            .is_some_and(|last| now.duration_since(last) < REPLACE)
        {
            return Ok(false);
        }
        tracing::warn!("redis takes no writes here: connecting again");
        current.manager = self.config.manager()?;
        current.replaced = Some(now);
        Ok(true)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Unavailable`] if it gives none in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.ask_repeatably(async |mut to: ConnectionManager| {
            redis::cmd("PING").query_async::<()>(&mut to).await
        })
        .await
        .map_err(unavailable)
    }
}

/// Whether a connection ended before its answer came, as the one that a server leaves behind by a restart.
fn is_lost(error: &RedisError) -> bool {
    error.is_connection_dropped() || error.is_connection_refusal() || error.is_io_error()
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").finish_non_exhaustive()
    }
}

/// Keeps entries in Redis, for any number of processes; clones share the connection.
///
/// Every operation on one entry is one round trip and touches one key, so it works on a cluster's node. The
/// server counts times to live. A [`scan`](StateStore::scan) walks over all keys of the database, other
/// programs' included: keep it away from hot paths.
///
/// Whether a write survives a crash of Redis is decided by how that server persists.
#[derive(Debug, Clone)]
pub struct RedisStore {
    connection: RedisConnection,
    prefix: String,
}

impl RedisStore {
    /// Stores under keys that begin with `prefix`, which keeps several programs apart on one server.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Invalid`] if `prefix` is longer than 64 bytes or has characters other than ASCII
    /// letters, digits, `-`, `_`, `.` and `:`.
    pub fn new(connection: RedisConnection, prefix: &str) -> Result<Self, StoreError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        if prefix.len() > MAX_PREFIX_LEN || !prefix.bytes().all(plain) {
            return Err(StoreError::invalid(
                "a redis prefix has at most 64 letters, digits, '-', '_', '.' and ':'",
            ));
        }
        Ok(Self {
            connection,
            prefix: prefix.to_owned(),
        })
    }

    fn key(&self, key: &StoreKey) -> String {
        format!("{}{}", self.prefix, key.as_str())
    }

    async fn read<T, F>(&self, ask: impl Fn(ConnectionManager) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        self.connection
            .ask_repeatably(ask)
            .await
            .map_err(unavailable)
    }

    async fn record(&self, key: &StoreKey) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(self.key(key));
        self.read(async |mut to: ConnectionManager| command.query_async(&mut to).await)
            .await
    }

    /// Finds out what became of a compare-and-swap whose answer was lost. Versions are random, so that a record tells who
    /// wrote it; `None` if nothing has been done.
    async fn lost(
        &self,
        key: &StoreKey,
        expected: Expected,
        done: &Swap,
    ) -> Result<Option<Swap>, StoreError> {
        let found = self.record(key).await?.map(decode).transpose()?;
        let now = found.as_ref().map(|entry| entry.version);
        Ok(match done {
            Swap::Written(version) if now == Some(*version) => Some(done.clone()),
            Swap::Deleted if found.is_none() => Some(Swap::Deleted),
            _ if expected.matches(now) => None,
            _ => Some(Swap::Conflict(found)),
        })
    }

    async fn fetch(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        // A pipeline without commands is an error.
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.get(key);
        }
        self.read(async |mut to: ConnectionManager| pipeline.query_async(&mut to).await)
            .await
    }
}

#[async_trait]
impl StateStore for RedisStore {
    async fn get(&self, key: &StoreKey) -> Result<Option<Entry>, StoreError> {
        self.record(key).await?.map(decode).transpose()
    }

    async fn put(
        &self,
        key: &StoreKey,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let (version, record) = encode(&value);
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(record);
        if let Some(ttl) = ttl {
            command.arg("PX").arg(ttl_millis(ttl)?);
        }
        // Twice is as good as once: the record is the same.
        self.read(async |mut to: ConnectionManager| command.query_async::<()>(&mut to).await)
            .await?;
        Ok(version)
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool, StoreError> {
        let mut command = redis::cmd("DEL");
        command.arg(self.key(key));
        let ask = async |mut to: ConnectionManager| command.query_async(&mut to).await;
        match self.connection.ask_once(ask).await {
            // It may have been there and be gone: what is there now is removed, and counts.
            Err(error) if is_lost(&error) => self.read(ask).await,
            done => done.map_err(unavailable),
        }
    }

    async fn compare_and_swap(
        &self,
        key: &StoreKey,
        expected: Expected,
        change: Change,
    ) -> Result<Swap, StoreError> {
        let script = Script::new(CAS);
        let mut call: ScriptInvocation<'_> = script.key(self.key(key));
        match expected {
            Expected::Absent => call.arg(""),
            Expected::Version(version) => call.arg(&version.as_u64().to_le_bytes()[..]),
        };
        let done = match change {
            Change::Put { value, ttl } => {
                let (version, record) = encode(&value);
                call.arg("put").arg(record);
                match ttl {
                    Some(ttl) => call.arg(ttl_millis(ttl)?),
                    None => call.arg(""),
                };
                Swap::Written(version)
            }
            Change::Delete => {
                call.arg("del").arg("").arg("");
                Swap::Deleted
            }
        };
        let ask = async |mut to: ConnectionManager| call.invoke_async(&mut to).await;
        let answer: Result<(bool, Option<Vec<u8>>), _> = self.connection.ask_once(ask).await;
        let (applied, found) = match answer {
            Err(error) if is_lost(&error) => match self.lost(key, expected, &done).await? {
                Some(swap) => return Ok(swap),
                None => self.connection.ask_once(ask).await.map_err(unavailable)?,
            },
            answer => answer.map_err(unavailable)?,
        };
        if applied {
            Ok(done)
        } else {
            Ok(Swap::Conflict(found.map(decode).transpose()?))
        }
    }

    async fn scan(
        &self,
        prefix: &StorePrefix,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let mut position = match cursor {
            Some(cursor) => cursor
                .as_str()
                .parse::<u64>()
                .map_err(|error| StoreError::invalid("foreign cursor").with_source(error))?,
            None => 0,
        };
        // Neither prefix can hold a character that means something in a pattern.
        let pattern = format!("{}{}*", self.prefix, prefix.as_str());
        let mut names: Vec<String> = Vec::new();
        for _ in 0..STEPS_PER_PAGE {
            let mut command = redis::cmd("SCAN");
            command.arg(position).arg("MATCH").arg(&pattern);
            command.arg("COUNT").arg(limit.clamp(10, SCAN_STEP));
            let (next, found): (u64, Vec<String>) = self
                .read(async |mut to: ConnectionManager| command.query_async(&mut to).await)
                .await?;
            names.extend(found);
            position = next;
            if position == 0 || names.len() >= limit {
                break;
            }
        }
        let records = self.fetch(&names).await?;
        let mut entries = Vec::with_capacity(names.len());
        for (name, record) in names.iter().zip(records) {
            // An entry may end between the two commands.
            let Some(record) = record else { continue };
            let key = StoreKey::parse(&name[self.prefix.len()..]).map_err(|error| {
                StoreError::corrupt("the store holds a malformed key").with_source(error)
            })?;
            entries.push((key, decode(record)?));
        }
        let next = (position != 0).then(|| Cursor::new(position.to_string()));
        Ok(Page::new(entries, next))
    }
}

/// A random version needs no counter, so a write touches one key only and no version comes back after a delete.
fn encode(value: &[u8]) -> (Version, Vec<u8>) {
    let version: u64 = rand::random();
    let mut record = Vec::with_capacity(8 + value.len());
    record.extend_from_slice(&version.to_le_bytes());
    record.extend_from_slice(value);
    (Version::from_u64(version), record)
}

fn decode(record: Vec<u8>) -> Result<Entry, StoreError> {
    let Some((version, _)) = record.split_first_chunk::<8>() else {
        return Err(StoreError::corrupt(
            "the store holds an entry without its version",
        ));
    };
    let version = Version::from_u64(u64::from_le_bytes(*version));
    Ok(Entry::new(Bytes::from(record).slice(8..), version))
}

fn unavailable(error: RedisError) -> StoreError {
    let kind = match error.kind() {
        redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType => StoreErrorKind::Corrupt,
        _ if error.code() == Some("WRONGTYPE") => StoreErrorKind::Corrupt,
        _ if error.code() == Some("OOM") => StoreErrorKind::Full,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, "redis did not do as asked").with_source(error)
}
