use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use mcp_core::clock::Clock;

use super::clock::TickClock;
use super::store::BoundedStore;
use super::{Limit, Quota, Refusal};
use crate::keys::{Key, random_secret};

type Governor = governor::RateLimiter<Key, BoundedStore, TickClock, StateInformationMiddleware>;

/// Several limits that a call must pass together; clones count together.
///
/// This is the decision behind the layers, for callers that have no service to wrap.
pub struct Limiter<R>(Arc<Inner<R>>);

struct Inner<R> {
    limits: Box<[Counted<R>]>,
    secret: [u64; 2],
    clock: TickClock,
}

struct Counted<R> {
    limit: Limit<R>,
    governor: Governor,
    store: BoundedStore,
}

/// What is left after a call was allowed, of the limit that leaves least.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowance {
    /// The limit's name.
    pub limit: Arc<str>,
    /// Its quota.
    pub quota: Quota,
    /// How many more calls of cost 1 may come at once.
    pub remaining: u32,
}

impl<R> Limiter<R> {
    /// Makes a limiter that has counted nothing yet.
    #[must_use]
    pub fn new(limits: impl IntoIterator<Item = Limit<R>>, clock: Arc<dyn Clock>) -> Self {
        let clock = TickClock::new(clock);
        let limits = limits
            .into_iter()
            .map(|limit| Counted::new(limit, &clock))
            .collect();
        Self(Arc::new(Inner {
            limits,
            secret: random_secret(),
            clock,
        }))
    }

    /// Counts the call if every limit allows it, and counts nothing otherwise.
    ///
    /// A call that all limits would allow one after the other may be refused while another call, refused in the
    /// same moment, is being taken back.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] of the limit that has to be waited for longest.
    pub fn check(&self, request: &R) -> Result<Option<Allowance>, Box<Refusal>> {
        match &*self.0.limits {
            [only] => match only.limit.charge(request, self.0.secret) {
                Some((key, cost)) => only
                    .take(key, cost, &self.0.clock)
                    .map(|left| Some(only.allowance(left))),
                None => Ok(None),
            },
            limits => self.check_all(limits, request),
        }
    }

    fn check_all(
        &self,
        limits: &[Counted<R>],
        request: &R,
    ) -> Result<Option<Allowance>, Box<Refusal>> {
        let mut least: Option<Allowance> = None;
        let mut worst: Option<Box<Refusal>> = None;
        for (index, counted) in limits.iter().enumerate() {
            let Some((key, cost)) = counted.limit.charge(request, self.0.secret) else {
                continue;
            };
            match counted.take(key, cost, &self.0.clock) {
                Err(refusal) => {
                    if worst.is_none() {
                        self.take_back(&limits[..index], request);
                    }
                    if worst
                        .as_ref()
                        .is_none_or(|worst| refusal.is_longer_than(worst))
                    {
                        worst = Some(refusal);
                    }
                }
                // Already refused: this limit was only asked how long it would take.
                Ok(_) if worst.is_some() => counted.refund(key, cost),
                Ok(left) => {
                    if least.as_ref().is_none_or(|least| left < least.remaining) {
                        least = Some(counted.allowance(left));
                    }
                }
            }
        }
        worst.map_or(Ok(least), Err)
    }

    fn take_back(&self, limits: &[Counted<R>], request: &R) {
        for counted in limits {
            if let Some((key, cost)) = counted.limit.charge(request, self.0.secret) {
                counted.refund(key, cost);
            }
        }
    }

    /// Takes back what an allowed call was charged.
    #[cfg(feature = "redis")]
    pub(super) fn give_back(&self, request: &R) {
        self.take_back(&self.0.limits, request);
    }

    /// Forgets keys whose burst has refilled and gives their memory back. Happens by itself while calls come.
    pub fn sweep(&self) {
        self.0
            .limits
            .iter()
            .for_each(|counted| counted.store.sweep());
    }

    /// How many keys are held by all limits together.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0
            .limits
            .iter()
            .map(|counted| counted.store.len())
            .sum()
    }

    pub(super) fn limits(&self) -> impl Iterator<Item = &Limit<R>> {
        self.0.limits.iter().map(|counted| &counted.limit)
    }
}

impl<R> Counted<R> {
    fn new(limit: Limit<R>, clock: &TickClock) -> Self {
        let store = BoundedStore::new(limit.max_keys, clock.clone());
        let governor = Governor::new(limit.quota.to_governor(), store.clone(), clock.clone());
        Self {
            limit,
            governor,
            store,
        }
    }

    /// Counts the call and tells what is left of the burst.
    fn take(&self, key: Key, cost: NonZeroU32, clock: &TickClock) -> Result<u32, Box<Refusal>> {
        let refused = |wait| {
            Box::new(Refusal::new(
                Arc::clone(&self.limit.name),
                self.limit.quota,
                wait,
            ))
        };
        let outcome = if cost == NonZeroU32::MIN {
            Ok(self.governor.check_key(&key))
        } else {
            self.governor.check_key_n(&key, cost)
        };
        match outcome {
            Ok(Ok(left)) => Ok(left.remaining_burst_capacity()),
            Ok(Err(not_until)) => Err(refused(Some(not_until.wait_time_from(clock.now())))),
            Err(_beyond_burst) => Err(refused(None)),
        }
    }

    fn refund(&self, key: Key, cost: NonZeroU32) {
        let interval = u64::try_from(self.limit.quota.interval().as_nanos()).unwrap_or(u64::MAX);
        self.store
            .refund(key, interval.saturating_mul(cost.get().into()));
    }

    fn allowance(&self, remaining: u32) -> Allowance {
        Allowance {
            limit: Arc::clone(&self.limit.name),
            quota: self.limit.quota,
            remaining,
        }
    }
}

impl<R> Clone for Limiter<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> fmt::Debug for Limiter<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.limits()).finish()
    }
}
