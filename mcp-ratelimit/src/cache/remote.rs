//! A second shelf that many processes share, on a state store.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use data_encoding::HEXLOWER;
use mcp_core::store::{Change, Expected, Namespace, StateStore, StoreError, StoreKey, Swap};
use mcp_core::{Json, Partition, Request, Response};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

/// How long another process may serve what one has invalidated.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A store that does not answer in this time is left alone for [`LOOK_AGAIN`].
const PATIENCE: Duration = Duration::from_millis(50);

/// Answers on a store. All keys hold a generation, which an invalidation changes: what was kept before is found
/// no more and ends by its time to live.
#[derive(Clone)]
pub(super) struct Remote(Arc<Inner>);

struct Inner {
    store: Arc<dyn StateStore>,
    namespace: Namespace,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    generation: Option<u64>,
    looked: Option<Instant>,
    /// A change of ours that is not in the store yet.
    pending: u32,
    away_until: Option<Instant>,
}

impl Remote {
    pub(super) fn new(store: Arc<dyn StateStore>, namespace: Namespace) -> Self {
        Self(Arc::new(Inner {
            store,
            namespace,
            known: Mutex::default(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the store, unless it has just not answered.
    async fn ask<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        if self
            .known()
            .away_until
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the shared cache does not answer");
                self.known().away_until = Some(Instant::now() + LOOK_AGAIN);
                None
            }
            Err(_) => {
                self.known().away_until = Some(Instant::now() + LOOK_AGAIN);
                None
            }
        }
    }

    fn generation_key(&self) -> Option<StoreKey> {
        StoreKey::new(&self.0.namespace, ["generation"]).ok()
    }

    /// The generation that is valid now, as far as known for a second.
    async fn generation(&self) -> Option<u64> {
        {
            let known = self.known();
            let fresh = known.looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN);
            if known.pending > 0 || fresh {
                return known.generation;
            }
        }
        let key = self.generation_key()?;
        let made: u64 = rand::random();
        let change = Change::Put {
            value: Bytes::copy_from_slice(&made.to_le_bytes()),
            ttl: None,
        };
        let swap = self
            .ask(
                self.0
                    .store
                    .compare_and_swap(&key, Expected::Absent, change),
            )
            .await?;
        let found = match swap {
            Swap::Conflict(Some(entry)) => {
                u64::from_le_bytes(entry.value.as_ref().try_into().ok()?)
            }
            _ => made,
        };
        let mut known = self.known();
        if known.pending == 0 {
            known.generation = Some(found);
            known.looked = Some(Instant::now());
        }
        known.generation
    }

    /// Leaves all that was kept behind: here at once, in other processes within a second. Returns what has to be
    /// done for the others.
    pub(super) fn renew(&self) -> impl Future<Output = ()> + Send + use<> {
        let made: u64 = rand::random();
        {
            let mut known = self.known();
            known.generation = Some(made);
            known.pending += 1;
        }
        let remote = self.clone();
        async move {
            if let Some(key) = remote.generation_key() {
                let value = Bytes::copy_from_slice(&made.to_le_bytes());
                if let Err(error) = remote.0.store.put(&key, value, None).await {
                    tracing::warn!(%error, "an invalidation did not reach the shared cache");
                }
            }
            remote.known().pending -= 1;
        }
    }

    async fn key(&self, owner: &Partition, digest: &str) -> Option<StoreKey> {
        let generation = format!("{:016x}", self.generation().await?);
        StoreKey::new(
            &self.0.namespace,
            ["answer", &generation, &owner.to_string(), digest],
        )
        .ok()
    }

    /// Finds an answer, and for how long it is fresh.
    pub(super) async fn get(
        &self,
        owner: &Partition,
        digest: &str,
    ) -> Option<(Response, Duration)> {
        let key = self.key(owner, digest).await?;
        let entry = self.ask(self.0.store.get(&key)).await??;
        let (until, text) = entry.value.split_first_chunk::<8>()?;
        let left = u64::from_le_bytes(*until).checked_sub(now_millis())?;
        let response = Response::new(Json::parse(entry.value.slice_ref(text)).ok()?);
        (left > 0).then(|| (response, Duration::from_millis(left)))
    }

    pub(super) async fn put(
        &self,
        owner: &Partition,
        digest: &str,
        response: &Response,
        ttl: Duration,
    ) {
        let Some(key) = self.key(owner, digest).await else {
            return;
        };
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let mut record = BytesMut::with_capacity(8 + response.result().len());
        record.put_u64_le(now_millis().saturating_add(millis));
        record.put_slice(response.result().as_bytes());
        // Nothing is lost if it cannot be kept.
        let _ = self
            .ask(self.0.store.put(&key, record.freeze(), Some(ttl)))
            .await;
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("namespace", &self.0.namespace)
            .finish_non_exhaustive()
    }
}

/// What decides a call's answer besides its owner, the same in every process and safe from chosen collisions.
pub(super) fn digest(request: &Request) -> String {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(request.method().as_str().as_bytes());
    add(request
        .upstream()
        .map_or("", |upstream| upstream.as_str())
        .as_bytes());
    add(request.name().unwrap_or_default().as_bytes());
    add(request.version().as_str().as_bytes());
    add(request.capabilities().as_json().as_bytes());
    for scope in request.principal().scopes() {
        add(scope.as_bytes());
    }
    add(b"");
    if let Some(params) = request.params() {
        for (name, value) in params.members().filter(|(name, _)| name != "_meta") {
            add(name.as_bytes());
            add(value.as_bytes());
        }
    }
    HEXLOWER.encode(&hash.finalize())
}

fn now_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
