//! Where the limiter keeps one number for each key, in bounded memory.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::{Clock as _, Reference as _};
use governor::nanos::Nanos;
use governor::state::StateStore;

use super::clock::TickClock;
use crate::keys::{Key, KeyHasher};

const SHARDS: usize = 64;
/// A shard is swept when it has grown to twice what the last sweep left, and at least this often.
const SWEEP_EVERY: u64 = 60_000_000_000;
const SMALLEST_SWEEP: usize = 64;
/// Governor counts from the moment it was made, a little after our clock began: a margin far above that.
const MARGIN: u64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot([u64; 2]);

impl std::hash::Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[1]);
    }
}

/// All keys that found no room count together here.
const OVERFLOW: Slot = Slot([0, 0]);

struct Shard {
    /// The theoretical arrival time of the next call, in nanoseconds of the limiter's clock.
    arrivals: HashMap<Slot, u64, KeyHasher>,
    sweep_at_len: usize,
    sweep_at: u64,
}

/// Clones share their keys.
#[derive(Clone)]
pub(super) struct BoundedStore {
    shards: Arc<[Mutex<Shard>]>,
    max_in_shard: usize,
    clock: TickClock,
}

impl BoundedStore {
    pub(super) fn new(max_keys: usize, clock: TickClock) -> Self {
        let shard = || {
            Mutex::new(Shard {
                arrivals: HashMap::default(),
                sweep_at_len: SMALLEST_SWEEP,
                sweep_at: SWEEP_EVERY,
            })
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            max_in_shard: max_keys.div_ceil(SHARDS).max(1),
            clock,
        }
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[key.halves()[0] as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what one call took: exactly, since every call adds to the arrival time and nothing else does.
    pub(super) fn refund(&self, key: Key, taken: u64) {
        let mut shard = self.shard(key);
        let own = Slot(key.halves());
        let slot = if shard.arrivals.contains_key(&own) {
            own
        } else {
            OVERFLOW
        };
        if let Some(arrival) = shard.arrivals.get_mut(&slot) {
            *arrival = arrival.saturating_sub(taken);
        }
    }

    pub(super) fn sweep(&self) {
        let now = self.clock.now().as_u64();
        for shard in self.shards.iter() {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .sweep(now);
        }
    }

    pub(super) fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .arrivals
                .len()
        };
        self.shards.iter().map(len).sum()
    }
}

impl Shard {
    /// The key's own slot, or the common one if there is no room for it.
    fn slot(&self, key: Key, most: usize) -> Slot {
        let own = Slot(key.halves());
        if self.arrivals.len() < most || self.arrivals.contains_key(&own) {
            own
        } else {
            OVERFLOW
        }
    }

    fn sweep(&mut self, now: u64) {
        self.arrivals
            .retain(|_, arrival| arrival.saturating_add(MARGIN) > now);
        self.sweep_at_len = (self.arrivals.len() * 2).max(SMALLEST_SWEEP);
        self.sweep_at = now.saturating_add(SWEEP_EVERY);
        if self.arrivals.capacity() > self.sweep_at_len * 2 {
            self.arrivals.shrink_to(self.sweep_at_len);
        }
    }
}

impl StateStore for BoundedStore {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.shard(*key);
        let (answer, arrival) = match shard.arrivals.get_mut(&Slot(key.halves())) {
            Some(held) => {
                let (answer, arrival) = f(Some(Nanos::new(*held)))?;
                *held = arrival.as_u64();
                (answer, arrival.as_u64())
            }
            None => {
                let len = shard.arrivals.len();
                if len >= shard.sweep_at_len || len >= self.max_in_shard {
                    shard.sweep(self.clock.now().as_u64());
                }
                let slot = shard.slot(*key, self.max_in_shard);
                let known = shard.arrivals.get(&slot).copied();
                let (answer, arrival) = f(known.map(Nanos::new))?;
                shard.arrivals.insert(slot, arrival.as_u64());
                (answer, arrival.as_u64())
            }
        };
        // An arrival time runs ahead of now by no more than the burst, so it can stand in for the clock.
        if arrival >= shard.sweep_at {
            let now = self.clock.now();
            if now.duration_since(Nanos::new(shard.sweep_at)).as_u64() > 0 {
                shard.sweep(now.as_u64());
            }
        }
        Ok(answer)
    }
}

impl std::fmt::Debug for BoundedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundedStore")
            .field("max_in_shard", &self.max_in_shard)
            .finish_non_exhaustive()
    }
}
