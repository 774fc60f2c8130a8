use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use mcp_core::{AuditEvent, AuditSink, ConfigError, Error, ErrorKind};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::AbortHandle,
};
use tokio_postgres::{Client, Config, NoTls, config::SslMode, types::Type};
use tokio_rustls::rustls::ClientConfig;

use super::{
    OnFailure,
    chain::{self, AuditBreak, GENESIS, Verified},
};

/// How long connecting, and one write, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many events are written at once, and how many may wait.
const BATCH: usize = 512;
const WAITING: usize = 16_384;

/// How many events are read at once by the verifier.
const PAGE: i64 = 1000;

/// Held while the end of the chain is read and written, by all processes; any number that no one else uses.
const LOCK: i64 = 0x6d63_705f_6175_6474;

/// Takes the lock until the transaction ends.
const TAKE: &str = "select pg_advisory_xact_lock($1)";

const CREATE: &str = "\
create table mcp_audit (
  position bigint primary key, event text not null, hash bytea not null check (length(hash) = 32));
create function mcp_audit_refuse() returns trigger language plpgsql as
  $$ begin raise exception 'the audit record is append-only'; end $$;
create trigger mcp_audit_append_only before update or delete or truncate on mcp_audit
  for each statement execute function mcp_audit_refuse();";

/// Records events into the table `mcp_audit` of PostgreSQL, chained by hashes like the lines of a file. Clones share it.
///
/// Any number of processes may write: the chain has one end, and they take turns at it. [`AuditSink::record`] returns
/// when the event is committed; events that come at the same time are committed together. Nothing is lost by a crash of
/// this process. A trigger refuses changes of what is there; an administrator of the database can remove it, and then
/// [`SqlAudit::verify`] finds what was changed.
///
/// No statement is prepared and locks last as long as a transaction: a pool between, such as PgBouncer, may change the server
/// connection after each transaction.
///
/// The table is made if it is not there. Give the role of the gateway only `select` and `insert` on a table that was made
/// beforehand to keep it from more.
///
/// # Cancel safety
///
/// An event whose `record` is dropped may be recorded all the same.
#[derive(Clone)]
pub struct SqlAudit {
    link: Arc<Link>,
    jobs: mpsc::Sender<Job>,
    on_failure: OnFailure,
    dropped: Arc<AtomicU64>,
}

/// An event that waits to be committed.
struct Job {
    text: String,
    done: oneshot::Sender<bool>,
}

/// The way to the server.
struct Link {
    config: Config,
    tls: Option<Arc<ClientConfig>>,
    connection: Mutex<Option<Connection>>,
}

struct Connection {
    client: Client,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl SqlAudit {
    /// Records into a database, by an address such as `postgres://user:password@host/database`. Nothing is sent yet.
    ///
    /// The connection is not encrypted: use a Unix socket, this machine, or [`SqlAudit::new_with_tls`].
    ///
    /// # Errors
    ///
    /// The address cannot be read.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(address: &str, on_failure: OnFailure) -> Result<Self, ConfigError> {
        Self::start(address, None, on_failure)
    }

    /// As [`SqlAudit::new`], over TLS and never without: the server has to show a certificate that the configuration
    /// accepts.
    ///
    /// # Errors
    ///
    /// The address cannot be read.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new_with_tls(
        address: &str,
        tls: Arc<ClientConfig>,
        on_failure: OnFailure,
    ) -> Result<Self, ConfigError> {
        Self::start(address, Some(tls), on_failure)
    }

    fn start(
        address: &str,
        tls: Option<Arc<ClientConfig>>,
        on_failure: OnFailure,
    ) -> Result<Self, ConfigError> {
        // The address is left out of the error: it may hold the password.
        let bad = |_| {
            ConfigError::new(
                "address",
                "[redacted]",
                "give postgres://user:password@host/database",
            )
        };
        let mut config: Config = address.parse().map_err(bad)?;
        if tls.is_some() {
            config.ssl_mode(SslMode::Require);
        }
        let link = Arc::new(Link {
            config,
            tls,
            connection: Mutex::new(None),
        });
        let (jobs, waiting) = mpsc::channel(WAITING);
        // Ends when the last clone is dropped.
        tokio::spawn(write_all(Arc::clone(&link), waiting));
        Ok(Self {
            link,
            jobs,
            on_failure,
            dropped: Arc::default(),
        })
    }

    /// Returns how many events were not recorded.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Reads the record to its end and checks every event.
    ///
    /// # Errors
    ///
    /// [`AuditBreak`] with the position of the first event that does not fit, or the server does not answer.
    pub async fn verify(&self) -> Result<Verified, AuditBreak> {
        let away = |error| AuditBreak::Io(std::io::Error::other(error));
        let held = self.link.connected().await.map_err(away)?;
        let own = held.as_ref().ok_or_else(|| away("no connection".into()))?;
        let statement = "select position, event, hash from mcp_audit where position > $1 order by position limit $2";
        let (mut before, mut last) = (GENESIS, 0_i64);
        loop {
            let rows = own
                .client
                .query_typed(statement, &[(&last, Type::INT8), (&PAGE, Type::INT8)])
                .await;
            let rows = rows.map_err(|error| away(error.into()))?;
            for row in &rows {
                let line = last.unsigned_abs() + 1;
                let broken = || AuditBreak::Broken { line };
                let position: i64 = row.try_get(0).map_err(|_| broken())?;
                let text: &str = row.try_get(1).map_err(|_| broken())?;
                let hash: &[u8] = row.try_get(2).map_err(|_| broken())?;
                let expected = chain::link(&before, text.as_bytes());
                if position != last + 1 || hash != expected {
                    return Err(broken());
                }
                (before, last) = (expected, position);
            }
            if rows.is_empty() {
                return Ok(Verified {
                    events: last.unsigned_abs(),
                    head: HEXLOWER.encode(&before),
                });
            }
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Link {
    async fn connect(&self) -> Result<Connection, Failure> {
        let mut connection = match &self.tls {
            None => {
                let (client, driver) = self.config.connect(NoTls).await?;
                Connection::new(client, driver)
            }
            Some(tls) => {
                let tls = tokio_postgres_rustls::MakeRustlsConnect::new(ClientConfig::clone(tls));
                let (client, driver) = self.config.connect(tls).await?;
                Connection::new(client, driver)
            }
        };
        let transaction = connection.client.transaction().await?;
        transaction
            .query_typed(TAKE, &[(&LOCK, Type::INT8)])
            .await?;
        let there = "select to_regclass('mcp_audit') is not null";
        let there = transaction.query_typed_one(there, &[]).await?;
        if !there.try_get::<_, bool>(0)? {
            transaction.batch_execute(CREATE).await?;
        }
        transaction.commit().await?;
        Ok(connection)
    }

    async fn connected(&self) -> Result<tokio::sync::MutexGuard<'_, Option<Connection>>, Failure> {
        let mut held = self.connection.lock().await;
        if held.as_ref().is_none_or(|own| own.client.is_closed()) {
            *held = Some(tokio::time::timeout(TIMEOUT, self.connect()).await??);
        }
        Ok(held)
    }

    /// Adds events to the end of the chain, all or none.
    async fn append(&self, jobs: &[Job]) -> Result<(), Failure> {
        let mut held = self.connected().await?;
        let own = held.as_mut().ok_or("no connection")?;
        let done = tokio::time::timeout(TIMEOUT, own.append(jobs)).await;
        let done = done.map_err(Failure::from).and_then(|done| done);
        if done.is_err() {
            // What is left of the transaction ends with the connection.
            *held = None;
        }
        done
    }
}

impl Connection {
    fn new(
        client: Client,
        driver: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    ) -> Self {
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection of the audit record ended");
            }
        });
        Self {
            client,
            driver: driver.abort_handle(),
        }
    }

    async fn append(&mut self, jobs: &[Job]) -> Result<(), Failure> {
        let transaction = self.client.transaction().await?;
        transaction
            .query_typed(TAKE, &[(&LOCK, Type::INT8)])
            .await?;
        let end = "select position, hash from mcp_audit order by position desc limit 1";
        let (mut position, mut before) = match transaction.query_typed_opt(end, &[]).await? {
            Some(row) => (
                row.try_get::<_, i64>(0)?,
                row.try_get::<_, Vec<u8>>(1)?.as_slice().try_into()?,
            ),
            None => (0, GENESIS),
        };
        let mut positions = Vec::with_capacity(jobs.len());
        let mut hashes = Vec::with_capacity(jobs.len());
        for job in jobs {
            position += 1;
            before = chain::link(&before, job.text.as_bytes());
            positions.push(position);
            hashes.push(before.to_vec());
        }
        let texts: Vec<&str> = jobs.iter().map(|job| job.text.as_str()).collect();
        let statement =
            "insert into mcp_audit select * from unnest($1::bigint[], $2::text[], $3::bytea[])";
        let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] = [
            (&positions, Type::INT8_ARRAY),
            (&texts, Type::TEXT_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
        ];
        transaction.execute_typed(statement, &values).await?;
        Ok(transaction.commit().await?)
    }
}

async fn write_all(link: Arc<Link>, mut waiting: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut jobs, BATCH).await > 0 {
        let written = link.append(&jobs).await;
        if let Err(error) = &written {
            tracing::error!(%error, events = jobs.len(), "the audit record cannot be written");
        }
        for job in jobs.drain(..) {
            // Whoever asked may be gone.
            let _ = job.done.send(written.is_ok());
        }
    }
}

#[async_trait]
impl AuditSink for SqlAudit {
    async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        let text = chain::describe(event).to_string();
        let (done, written) = oneshot::channel();
        let sent = self.jobs.try_send(Job { text, done }).is_ok();
        if sent && written.await.unwrap_or(false) {
            return Ok(());
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        match self.on_failure {
            OnFailure::Continue => Ok(()),
            OnFailure::Refuse => Err(Error::new(
                ErrorKind::Unavailable,
                "the call cannot be recorded now, and is refused for it",
            )),
        }
    }
}

impl fmt::Debug for SqlAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlAudit")
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}
