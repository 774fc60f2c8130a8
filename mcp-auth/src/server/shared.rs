use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use mcp_core::{
    Principal,
    store::{Namespace, StateStore, StoreError, StoreErrorKind, StoreKey, StorePrefix},
};
use tokio::task::AbortHandle;

use super::{ResourceServer, revoked::LONGEST};

/// What stands before the id of an entry: a credential's, or a principal's partition.
const ID: &str = "id";
const OWNER: &str = "owner";
const AGAIN: &str = "again";

/// How many revocations are read at once.
const PAGE: usize = 500;

/// Revocations that several processes share through a store. Dropping it stops the reading.
///
/// What one process revokes here it refuses at once, and the others when they read the next time. While the store is unavailable
/// each continues with what it has read.
pub struct SharedRevocations {
    server: ResourceServer,
    store: Arc<dyn StateStore>,
    reading: AbortHandle,
}

fn namespace() -> Result<Namespace, StoreError> {
    Namespace::new("revoked").map_err(|error| invalid().with_source(error))
}

fn invalid() -> StoreError {
    StoreError::new(
        StoreErrorKind::Invalid,
        "the id of a credential is too long",
    )
}

fn key(kind: &str, id: &str) -> Result<StoreKey, StoreError> {
    StoreKey::new(&namespace()?, [kind, id]).map_err(|error| invalid().with_source(error))
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl ResourceServer {
    /// Shares what is revoked with the other processes that do so through the same store, and reads what they have revoked:
    /// now, and then each time that `every` has passed, which is how long a revocation may take to reach all. Each process
    /// reads all revocations that are kept; 5 s is a good pace for some thousands.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or if `every` is zero.
    pub async fn share_revocations(
        &self,
        store: Arc<dyn StateStore>,
        every: Duration,
    ) -> Result<SharedRevocations, StoreError> {
        read(self, &store).await?;
        let (server, from) = (self.clone(), Arc::clone(&store));
        let reading = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                if let Err(error) = read(&server, &from).await {
                    tracing::warn!(%error, "revocations were not read");
                }
            }
        });
        Ok(SharedRevocations {
            server: self.clone(),
            store,
            reading: reading.abort_handle(),
        })
    }
}

/// What is stored: when it may be forgotten, and for orders about a principal whom and when.
struct Entry {
    end: SystemTime,
    order: Option<([u8; 16], SystemTime)>,
}

fn date(millis: [u8; 8]) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::from_be_bytes(millis).min(1 << 52))
}

impl Entry {
    fn read(value: &[u8]) -> Option<Self> {
        let (end, rest) = value.split_first_chunk::<8>()?;
        let order = match rest.split_first_chunk::<8>() {
            Some((time, owner)) => Some((owner.try_into().ok()?, date(*time))),
            None => None,
        };
        let end = date(*end);
        Some(Self { end, order })
    }

    fn write(&self) -> Bytes {
        let mut value = millis(self.end).to_be_bytes().to_vec();
        if let Some((owner, time)) = &self.order {
            value.extend(millis(*time).to_be_bytes());
            value.extend(owner);
        }
        value.into()
    }
}

async fn read(server: &ResourceServer, store: &Arc<dyn StateStore>) -> Result<(), StoreError> {
    let prefix = StorePrefix::new::<&str>(&namespace()?, []).map_err(|_| invalid())?;
    let now = server.0.wall.now();
    let mut cursor = None;
    loop {
        let page = store.scan(&prefix, cursor, PAGE).await?;
        for (key, entry) in page.entries {
            let parts = key.parts();
            let ([kind, id], Some(entry)) = (parts.as_slice(), Entry::read(&entry.value)) else {
                continue;
            };
            let keep = entry.end.duration_since(now).unwrap_or_default();
            let revoked = &server.0.revoked;
            match (kind.as_str(), entry.order) {
                (ID, None) => revoked.add_id(id, now, keep),
                (OWNER, Some((owner, time))) => revoked.add_principal(owner, time, now, keep),
                (AGAIN, Some((owner, time))) => revoked.add_again(owner, time, now, keep),
                _ => {}
            }
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

impl SharedRevocations {
    /// As [`ResourceServer::revoke`], for all processes.
    ///
    /// # Errors
    ///
    /// The store is unavailable: the credential is refused by this process only.
    pub async fn revoke(&self, id: &str, keep: Duration) -> Result<(), StoreError> {
        self.server.revoke(id, keep);
        self.write(key(ID, id)?, None, keep).await
    }

    /// As [`ResourceServer::revoke_all`], for all processes. `keep` should be the longest life of a credential.
    ///
    /// # Errors
    ///
    /// The store is unavailable: the credentials are refused by this process only.
    pub async fn revoke_all(
        &self,
        principal: &Principal,
        keep: Duration,
    ) -> Result<(), StoreError> {
        self.server.revoke_all(principal, keep);
        self.order(OWNER, principal, keep).await
    }

    /// As [`ResourceServer::judge_again`], for all processes.
    ///
    /// # Errors
    ///
    /// The store is unavailable: the credentials are judged anew by this process only.
    pub async fn judge_again(
        &self,
        principal: &Principal,
        keep: Duration,
    ) -> Result<(), StoreError> {
        self.server.judge_again(principal, keep);
        self.order(AGAIN, principal, keep).await
    }

    async fn order(
        &self,
        kind: &str,
        principal: &Principal,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let owner = principal.partition();
        let now = self.server.0.wall.now();
        let key = key(kind, &owner.to_string())?;
        self.write(key, Some((*owner.as_bytes(), now)), keep).await
    }

    async fn write(
        &self,
        key: StoreKey,
        order: Option<([u8; 16], SystemTime)>,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let keep = keep.min(LONGEST);
        let end = self.server.0.wall.now() + keep;
        let value = Entry { end, order }.write();
        self.store.put(&key, value, Some(keep)).await?;
        Ok(())
    }
}

impl Drop for SharedRevocations {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl fmt::Debug for SharedRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRevocations").finish_non_exhaustive()
    }
}
