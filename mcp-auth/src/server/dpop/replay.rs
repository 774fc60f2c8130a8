use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use mcp_core::store::{Change, Expected, Namespace, StateStore, StoreError, StoreKey, Swap};
use sha2::{Digest as _, Sha256};

use super::{Refusal, invalid};

/// How many proofs are remembered in one window, of one key and of all.
const MOST_OF_ONE: usize = 100_000;
const MOST: usize = 1_000_000;

/// The ids of proofs that have been taken.
pub(super) enum Replays {
    Here(Mutex<Seen>),
    Shared(Arc<dyn StateStore>),
}

/// Two generations of ids. The older is dropped when none of its proofs can be good any more.
#[derive(Default)]
pub(super) struct Seen {
    now: Generation,
    before: Generation,
    /// When the newer has begun.
    since: Option<SystemTime>,
}

#[derive(Default)]
struct Generation {
    of_key: HashMap<[u8; 32], HashSet<[u8; 16]>>,
    count: usize,
}

impl Generation {
    fn has(&self, key: &[u8; 32], id: &[u8; 16]) -> bool {
        self.of_key.get(key).is_some_and(|ids| ids.contains(id))
    }
}

impl Replays {
    pub(super) fn new() -> Self {
        Self::Here(Mutex::default())
    }

    pub(super) fn shared(store: Arc<dyn StateStore>) -> Self {
        Self::Shared(store)
    }

    /// Takes note of a proof that is the first of its id.
    pub(super) async fn first(
        &self,
        key: &[u8; 32],
        id: &str,
        now: SystemTime,
        window: Duration,
    ) -> Result<(), Refusal> {
        const AGAIN: Refusal = invalid("the proof has been used before");
        let mut print = [0; 16];
        print.copy_from_slice(&Sha256::digest(id.as_bytes())[..16]);
        // A proof may be dated up to a window ahead, and is then good for two.
        let life = window * 2;
        let first = match self {
            Self::Here(seen) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.first(key, print, now, life)?
            }
            Self::Shared(store) => put(store, key, &print, life).await.map_err(|error| {
                tracing::warn!(%error, "a proof of possession was not remembered");
                Refusal::unavailable("the proofs that were used cannot be looked up now")
            })?,
        };
        if first { Ok(()) } else { Err(AGAIN) }
    }
}

impl Seen {
    fn first(
        &mut self,
        key: &[u8; 32],
        id: [u8; 16],
        now: SystemTime,
        life: Duration,
    ) -> Result<bool, Refusal> {
        const MANY: Refusal =
            Refusal::unavailable("the key has more requests than proofs can be remembered of");
        const FULL: Refusal =
            Refusal::unavailable("there are more requests than proofs can be remembered of");
        let since = *self.since.get_or_insert(now);
        // A clock that is set back ends nothing early.
        if now.duration_since(since).is_ok_and(|age| age > life) {
            self.before = std::mem::take(&mut self.now);
            self.since = Some(now);
        }
        if self.now.has(key, &id) || self.before.has(key, &id) {
            return Ok(false);
        }
        if self.now.count >= MOST {
            return Err(FULL);
        }
        let ids = self.now.of_key.entry(*key).or_default();
        if ids.len() >= MOST_OF_ONE {
            return Err(MANY);
        }
        ids.insert(id);
        self.now.count += 1;
        Ok(true)
    }
}

/// Writes an id where none is, and returns whether there was none.
async fn put(
    store: &Arc<dyn StateStore>,
    key: &[u8; 32],
    id: &[u8; 16],
    life: Duration,
) -> Result<bool, StoreError> {
    let bad = |error| {
        StoreError::new(
            mcp_core::store::StoreErrorKind::Invalid,
            "the id of a proof",
        )
        .with_source(error)
    };
    let namespace = Namespace::new("dpop-seen").map_err(bad)?;
    let place =
        StoreKey::new(&namespace, [&*HEXLOWER.encode(key), &*HEXLOWER.encode(id)]).map_err(bad)?;
    let change = Change::Put {
        value: Bytes::new(),
        ttl: Some(life),
    };
    let swap = store
        .compare_and_swap(&place, Expected::Absent, change)
        .await?;
    Ok(matches!(swap, Swap::Written(_)))
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replays")
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::store::MemoryStore;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    #[tokio::test]
    async fn an_id_counts_once_for_a_key_as_long_as_its_proof_may_be_good() {
        let stores = [
            Replays::new(),
            Replays::shared(Arc::new(MemoryStore::default())),
        ];
        for replays in stores {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let (a, b) = ([1; 32], [2; 32]);
            assert!(replays.first(&a, "x", now, WINDOW).await.is_ok());
            assert!(replays.first(&a, "x", now, WINDOW).await.is_err());
            assert!(replays.first(&a, "y", now, WINDOW).await.is_ok());
            assert!(replays.first(&b, "x", now, WINDOW).await.is_ok());
        }
    }

    #[tokio::test]
    async fn an_id_outlasts_two_windows_and_is_forgotten_at_last() {
        let replays = Replays::new();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds| start + Duration::from_secs(seconds);
        let key = [1; 32];
        replays.first(&key, "x", at(0), WINDOW).await.unwrap();
        for seconds in [300, 600, 601, 1200] {
            let again = replays.first(&key, "x", at(seconds), WINDOW).await;
            assert!(again.is_err(), "{seconds}");
        }
        // Something has to come for a generation to end.
        replays.first(&key, "y", at(1300), WINDOW).await.unwrap();
        let Replays::Here(seen) = &replays else {
            panic!("kept here")
        };
        assert_eq!(seen.lock().unwrap().before.count, 0);
        assert!(replays.first(&key, "x", at(1300), WINDOW).await.is_ok());
    }

    #[test]
    fn one_key_does_not_use_up_what_there_is_for_all() {
        let mut seen = Seen::default();
        let now = SystemTime::UNIX_EPOCH;
        for id in 0..MOST_OF_ONE {
            let id = (id as u128).to_be_bytes();
            assert!(seen.first(&[1; 32], id, now, WINDOW).unwrap());
        }
        assert!(seen.first(&[1; 32], [9; 16], now, WINDOW).is_err());
        assert!(seen.first(&[2; 32], [9; 16], now, WINDOW).unwrap());
    }
}
