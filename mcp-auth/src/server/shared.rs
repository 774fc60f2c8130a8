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

use super::ResourceServer;

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

async fn read(server: &ResourceServer, store: &Arc<dyn StateStore>) -> Result<(), StoreError> {
    let prefix = StorePrefix::new::<&str>(&namespace()?, []).map_err(|_| invalid())?;
    let now = server.0.wall.now();
    let mut cursor = None;
    loop {
        let page = store.scan(&prefix, cursor, PAGE).await?;
        for (key, entry) in page.entries {
            let Some((time, owner)) = entry.value.split_first_chunk::<8>() else {
                continue;
            };
            let time = u64::from_be_bytes(*time).min(1 << 52);
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(time);
            match (key.parts().as_slice(), <[u8; 16]>::try_from(owner)) {
                ([kind, _], Ok(owner)) if kind == "owner" => {
                    server.0.revoked.add_principal(owner, time);
                }
                ([kind, id], _) if kind == "id" => {
                    let keep = time.duration_since(now).unwrap_or_default();
                    server.0.revoked.add_id(id, now, keep);
                }
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
        let end = millis(self.server.0.wall.now()).saturating_add(millis_of(keep));
        let value = Bytes::copy_from_slice(&end.to_be_bytes());
        self.store.put(&key("id", id)?, value, Some(keep)).await?;
        Ok(())
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
        self.server.revoke_all(principal);
        let owner = principal.partition();
        let now = millis(self.server.0.wall.now());
        let value = [&now.to_be_bytes()[..], owner.as_bytes()].concat();
        let key = key("owner", &owner.to_string())?;
        self.store.put(&key, value.into(), Some(keep)).await?;
        Ok(())
    }
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
