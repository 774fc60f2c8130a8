use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};

use super::{
    Change, Cursor, Entry, Expected, Page, StateStore, StoreError, StoreErrorKind, StoreKey,
    StorePrefix, Swap, Version, ttl_millis,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often entries past their time to live are removed.
const SWEEP: Duration = Duration::from_secs(60);

const CREATE: &str = "\
create table if not exists mcp_state (
  key text collate \"C\" primary key, version bigint not null, value bytea not null, ends timestamptz);
create sequence if not exists mcp_state_version;
create index if not exists mcp_state_ends on mcp_state (ends) where ends is not null";

/// Keeps entries in a table of PostgreSQL, `mcp_state`, for any number of processes; clones share the connection.
///
/// Every operation is one statement, and none is prepared: a pool between, such as PgBouncer, may change the server connection
/// after each transaction. The server counts times to live and removes entries past theirs once a minute. The
/// connection is made when it is first used, and again after it was lost. The connection is not encrypted: use a Unix
/// socket, this machine, a network that is, or `with_tls` of the feature `postgres-tls`.
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    config: Config,
    #[cfg(feature = "postgres-tls")]
    tls: Option<Arc<rustls::ClientConfig>>,
    timeout: Duration,
    connection: Arc<Mutex<Option<Arc<Connection>>>>,
}

struct Connection {
    client: Client,
    driver: AbortHandle,
    sweeper: OnceCell<AbortHandle>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.abort();
        }
    }
}

impl PostgresStore {
    /// Reads an address such as `postgres://user:password@host/database`. Does not connect.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Invalid`] if the address cannot be read.
    pub fn new(address: &str) -> Result<Self, StoreError> {
        // The source is left out: it may quote the address and with it the password.
        let config = address
            .parse::<Config>()
            .map_err(|_| StoreError::invalid("the postgres address cannot be read"))?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                #[cfg(feature = "postgres-tls")]
                tls: None,
                timeout: DEFAULT_TIMEOUT,
                connection: Arc::default(),
            }),
        })
    }

    /// Bounds one attempt to connect and one answer. Default is 2 s; zero fails every call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.with(|shared| shared.timeout = timeout)
    }

    /// Connects over TLS and never without: the server has to show a certificate that the configuration accepts.
    #[cfg(feature = "postgres-tls")]
    #[must_use]
    pub fn with_tls(self, tls: Arc<rustls::ClientConfig>) -> Self {
        self.with(|shared| {
            shared
                .config
                .ssl_mode(tokio_postgres::config::SslMode::Require);
            shared.tls = Some(tls);
        })
    }

    /// Changes the settings, for a connection of its own.
    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Shared::clone(&self.shared);
        shared.connection = Arc::default();
        change(&mut shared);
        Self {
            shared: Arc::new(shared),
        }
    }

    async fn connect(&self) -> Result<(Client, AbortHandle), StoreError> {
        #[cfg(feature = "postgres-tls")]
        if let Some(tls) = &self.shared.tls {
            let tls = tokio_postgres_rustls::MakeRustlsConnect::new((**tls).clone());
            let (client, driver) = self.within(self.shared.config.connect(tls)).await?;
            return Ok((client, drive(driver)));
        }
        let (client, driver) = self.within(self.shared.config.connect(NoTls)).await?;
        Ok((client, drive(driver)))
    }

    async fn connection(&self) -> Result<Arc<Connection>, StoreError> {
        let mut held = self.shared.connection.lock().await;
        if let Some(connection) = held.as_ref()
            && !connection.client.is_closed()
        {
            return Ok(Arc::clone(connection));
        }
        let (client, driver) = self.connect().await?;
        let connection = Arc::new(Connection {
            client,
            driver,
            sweeper: OnceCell::new(),
        });
        self.within(connection.client.batch_execute(CREATE)).await?;
        let swept = Arc::downgrade(&connection);
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(connection) = swept.upgrade() else {
                    return;
                };
                let sweep = "delete from mcp_state where ends <= now()";
                // What is left is swept the next time.
                let _ = connection.client.batch_execute(sweep).await;
            }
        });
        let _ = connection.sweeper.set(sweeper.abort_handle());
        *held = Some(Arc::clone(&connection));
        Ok(connection)
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.shared.timeout, work).await {
            Ok(done) => done.map_err(unavailable),
            Err(late) => {
                let message = "postgres did not answer in time";
                Err(StoreError::new(StoreErrorKind::Unavailable, message).with_source(late))
            }
        }
    }

    async fn query(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let connection = self.connection().await?;
        self.within(connection.client.query_typed(statement, values))
            .await
    }
}

/// A value and its type. A statement whose types are given need not be prepared.
type Value<'a> = (&'a (dyn ToSql + Sync), Type);

fn drive(
    driver: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
) -> AbortHandle {
    let driver = tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "the connection to postgres ended");
        }
    });
    driver.abort_handle()
}

/// When an entry ends, as milliseconds for the server to add to its own time.
fn millis(ttl: Option<Duration>) -> Result<Option<i64>, StoreError> {
    let millis = ttl.map(ttl_millis).transpose()?;
    Ok(millis.map(|millis| i64::try_from(millis).unwrap_or(i64::MAX)))
}

fn entry(row: &Row) -> Result<Entry, StoreError> {
    let corrupt =
        |error| StoreError::corrupt("the table of the store has another shape").with_source(error);
    let version: i64 = row.try_get("version").map_err(corrupt)?;
    let value: Vec<u8> = row.try_get("value").map_err(corrupt)?;
    Ok(Entry::new(value.into(), number(version)))
}

fn number(version: i64) -> Version {
    Version::from_u64(version.cast_unsigned())
}

const LIVE: &str = "(ends is null or ends > clock_timestamp())";
const ENDS: &str = "clock_timestamp() + $3::bigint * interval '1 millisecond'";

#[async_trait]
impl StateStore for PostgresStore {
    async fn get(&self, key: &StoreKey) -> Result<Option<Entry>, StoreError> {
        let statement = format!("select version, value from mcp_state where key = $1 and {LIVE}");
        let rows = self
            .query(&statement, &[(&key.as_str(), Type::TEXT)])
            .await?;
        rows.first().map(entry).transpose()
    }

    async fn put(
        &self,
        key: &StoreKey,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let statement = format!(
            "insert into mcp_state values ($1, nextval('mcp_state_version'), $2, {ENDS}) \
             on conflict (key) do update set version = excluded.version, value = excluded.value, \
             ends = excluded.ends returning version"
        );
        let values: [Value<'_>; 3] = [
            (&key.as_str(), Type::TEXT),
            (&&value[..], Type::BYTEA),
            (&millis(ttl)?, Type::INT8),
        ];
        let rows = self.query(&statement, &values).await?;
        written(&rows).ok_or_else(|| StoreError::corrupt("postgres did not say what it wrote"))
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool, StoreError> {
        let statement = format!("delete from mcp_state where key = $1 returning {LIVE} as live");
        let rows = self
            .query(&statement, &[(&key.as_str(), Type::TEXT)])
            .await?;
        Ok(rows
            .first()
            .is_some_and(|row| row.try_get("live").unwrap_or(false)))
    }

    async fn compare_and_swap(
        &self,
        key: &StoreKey,
        expected: Expected,
        change: Change,
    ) -> Result<Swap, StoreError> {
        let done = match (expected, change) {
            (Expected::Absent, Change::Put { value, ttl }) => {
                // A row past its end counts as absent and is written over.
                let statement = format!(
                    "insert into mcp_state values ($1, nextval('mcp_state_version'), $2, {ENDS}) \
                     on conflict (key) do update set version = excluded.version, \
                     value = excluded.value, ends = excluded.ends \
                     where mcp_state.ends <= clock_timestamp() returning version"
                );
                let values: [Value<'_>; 3] = [
                    (&key.as_str(), Type::TEXT),
                    (&&value[..], Type::BYTEA),
                    (&millis(ttl)?, Type::INT8),
                ];
                written(&self.query(&statement, &values).await?).map(Swap::Written)
            }
            (Expected::Version(version), Change::Put { value, ttl }) => {
                let statement = format!(
                    "update mcp_state set version = nextval('mcp_state_version'), value = $2, \
                     ends = {ENDS} where key = $1 and version = $4 and {LIVE} returning version"
                );
                let version = version.as_u64().cast_signed();
                let values: [Value<'_>; 4] = [
                    (&key.as_str(), Type::TEXT),
                    (&&value[..], Type::BYTEA),
                    (&millis(ttl)?, Type::INT8),
                    (&version, Type::INT8),
                ];
                written(&self.query(&statement, &values).await?).map(Swap::Written)
            }
            (Expected::Version(version), Change::Delete) => {
                let statement = format!(
                    "delete from mcp_state where key = $1 and version = $2 and {LIVE} returning 1"
                );
                let version = version.as_u64().cast_signed();
                let values: [Value<'_>; 2] = [(&key.as_str(), Type::TEXT), (&version, Type::INT8)];
                let rows = self.query(&statement, &values).await?;
                (!rows.is_empty()).then_some(Swap::Deleted)
            }
            (Expected::Absent, Change::Delete) => {
                return Ok(match self.get(key).await? {
                    None => Swap::Deleted,
                    found => Swap::Conflict(found),
                });
            }
        };
        match done {
            Some(done) => Ok(done),
            None => Ok(Swap::Conflict(self.get(key).await?)),
        }
    }

    async fn scan(
        &self,
        prefix: &StorePrefix,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let after = cursor.as_ref().map_or(prefix.as_str(), Cursor::as_str);
        if !after.starts_with(prefix.as_str()) {
            return Err(StoreError::invalid("foreign cursor"));
        }
        // `starts_with` cannot use the order of the keys; what lies between the prefix and the next one can.
        let statement = format!(
            "select key, version, value from mcp_state where key >= $1 and key < $1 || chr(127) \
             and key > $2 and starts_with(key, $1) and {LIVE} order by key limit $3"
        );
        let limit = limit.clamp(1, 1000);
        let wanted = i64::try_from(limit).unwrap_or(1000);
        let from = match cursor {
            Some(_) => after,
            None => "",
        };
        let values: [Value<'_>; 3] = [
            (&prefix.as_str(), Type::TEXT),
            (&from, Type::TEXT),
            (&wanted, Type::INT8),
        ];
        let rows = self.query(&statement, &values).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let name: &str = row.try_get("key").unwrap_or_default();
            let key = StoreKey::parse(name).map_err(|error| {
                StoreError::corrupt("the store holds a malformed key").with_source(error)
            })?;
            entries.push((key, entry(row)?));
        }
        let next = entries.last().filter(|_| rows.len() >= limit);
        let next = next.map(|(key, _)| Cursor::new(key.as_str()));
        Ok(Page::new(entries, next))
    }
}

fn written(rows: &[Row]) -> Option<Version> {
    let version: i64 = rows.first()?.try_get("version").ok()?;
    Some(number(version))
}

fn unavailable(error: tokio_postgres::Error) -> StoreError {
    use tokio_postgres::error::SqlState;
    let kind = match error.code() {
        Some(code) if *code == SqlState::DISK_FULL || *code == SqlState::OUT_OF_MEMORY => {
            StoreErrorKind::Full
        }
        Some(code) if *code == SqlState::UNDEFINED_COLUMN => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, "postgres did not do as asked").with_source(error)
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("timeout", &self.shared.timeout)
            .finish_non_exhaustive()
    }
}
