//! Bounds on what connectors keep for their clients.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp_core::{Error, ErrorKind, Partition};
use tokio::time::Instant;

/// A bound on sessions with servers, or on child processes: for each principal, and for all together.
///
/// One that is given to several connectors bounds what they keep together. At a bound, the one that has been idle for
/// longest makes room: among those of the principal, or among those of the principals that have most. Where none is idle
/// the call is refused with an error of kind [`ErrorKind::Overloaded`] that names the bound. Clones share the count.
#[derive(Clone)]
pub struct Allowance(Arc<Shared>);

struct Shared {
    what: &'static str,
    total: usize,
    per_principal: usize,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    last: u64,
    tenants: BTreeMap<u64, Tenant>,
    by_owner: HashMap<Partition, usize>,
    evicted: u64,
    refused: u64,
}

struct Tenant {
    owner: Partition,
    evict: Arc<dyn Evict>,
}

/// What can be ended to make room.
pub(crate) trait Evict: Send + Sync {
    /// Returns since when it has not been in use; `None` if it is.
    fn idle_since(&self) -> Option<Instant>;

    /// Ends it.
    fn evict(&self);
}

/// How much of an [`Allowance`] is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllowanceCounts {
    /// How many there are now.
    pub used: usize,
    /// How many were ended while they were idle, to make room.
    pub evicted: u64,
    /// How many calls were refused because of a bound.
    pub refused: u64,
}

impl Allowance {
    /// Creates a bound on child processes. Defaults of a connector that is given none are 256 and 64.
    #[must_use]
    pub fn of_processes(total: NonZeroUsize, per_principal: NonZeroUsize) -> Self {
        Self::new("child processes", total, per_principal)
    }

    /// Creates a bound on sessions with servers. Defaults of a connector that is given none are 10,000 and 256.
    #[must_use]
    pub fn of_sessions(total: NonZeroUsize, per_principal: NonZeroUsize) -> Self {
        Self::new("sessions with servers", total, per_principal)
    }

    fn new(what: &'static str, total: NonZeroUsize, per_principal: NonZeroUsize) -> Self {
        Self(Arc::new(Shared {
            what,
            total: total.get(),
            per_principal: per_principal.get(),
            ledger: Mutex::default(),
        }))
    }

    /// Returns how much is used.
    #[must_use]
    pub fn counts(&self) -> AllowanceCounts {
        let ledger = self.0.lock();
        AllowanceCounts {
            used: ledger.tenants.len(),
            evicted: ledger.evicted,
            refused: ledger.refused,
        }
    }

    /// Takes a share for a principal, ending another's idle one if need be.
    pub(crate) fn admit(&self, owner: Partition, evict: Arc<dyn Evict>) -> Result<Share, Error> {
        let mut evicted = Vec::new();
        let admitted = self.0.admit(owner, evict, &mut evicted);
        // Not before the lock is given back: the end of one gives its share back.
        for tenant in evicted {
            tenant.evict.evict();
        }
        admitted.map(|number| Share {
            number,
            shared: Arc::clone(&self.0),
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(
        &self,
        owner: Partition,
        evict: Arc<dyn Evict>,
        evicted: &mut Vec<Tenant>,
    ) -> Result<u64, Error> {
        let mut ledger = self.lock();
        let own = ledger.by_owner.get(&owner).copied().unwrap_or_default();
        let room = match () {
            () if own >= self.per_principal => ledger.make_room(Some(owner)).ok_or((
                self.per_principal,
                "one principal may have",
                "per principal",
            )),
            () if ledger.tenants.len() >= self.total => {
                ledger
                    .make_room(None)
                    .ok_or((self.total, "there may be", "in all"))
            }
            () => return Ok(ledger.insert(owner, evict)),
        };
        match room {
            Ok(tenant) => {
                ledger.evicted += 1;
                evicted.push(tenant);
                Ok(ledger.insert(owner, evict))
            }
            Err((bound, may, which)) => {
                ledger.refused += 1;
                let what = self.what;
                Err(Error::new(
                    ErrorKind::Overloaded,
                    format!(
                        "{bound} {what} are in use, the most that {may}: end sessions that are not needed, \
                         or let the operator raise the bound on {what} {which}"
                    ),
                ))
            }
        }
    }
}

impl Ledger {
    fn insert(&mut self, owner: Partition, evict: Arc<dyn Evict>) -> u64 {
        self.last += 1;
        *self.by_owner.entry(owner).or_default() += 1;
        self.tenants.insert(self.last, Tenant { owner, evict });
        self.last
    }

    fn remove(&mut self, number: u64) -> Option<Tenant> {
        let tenant = self.tenants.remove(&number)?;
        if let Some(count) = self.by_owner.get_mut(&tenant.owner) {
            *count -= 1;
            if *count == 0 {
                self.by_owner.remove(&tenant.owner);
            }
        }
        Some(tenant)
    }

    /// Takes out the one that has been idle for longest, of one principal or of those that have most.
    fn make_room(&mut self, of: Option<Partition>) -> Option<Tenant> {
        let idle = self.tenants.iter().filter_map(|(number, tenant)| {
            if of.is_some_and(|of| of != tenant.owner) {
                return None;
            }
            let count = self.by_owner.get(&tenant.owner).copied();
            let idle_since = tenant.evict.idle_since()?;
            Some((std::cmp::Reverse(count), idle_since, *number))
        });
        let (_, _, number) = idle.min()?;
        self.remove(number)
    }
}

/// A part of an allowance. Dropping it gives it back.
pub(crate) struct Share {
    number: u64,
    shared: Arc<Shared>,
}

impl Drop for Share {
    fn drop(&mut self) {
        // Of one that was evicted nothing is left.
        let gone = self.shared.lock().remove(self.number);
        drop(gone);
    }
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowance")
            .field("of", &self.0.what)
            .field("total", &self.0.total)
            .field("per_principal", &self.0.per_principal)
            .field("counts", &self.counts())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use mcp_core::{Principal, SessionKey};

    use super::*;

    struct One {
        idle_since: Option<Instant>,
        evicted: AtomicBool,
    }

    impl Evict for One {
        fn idle_since(&self) -> Option<Instant> {
            self.idle_since
        }

        fn evict(&self) {
            self.evicted.store(true, Ordering::SeqCst);
        }
    }

    fn one(idle_since: Option<Instant>) -> Arc<One> {
        Arc::new(One {
            idle_since,
            evicted: AtomicBool::new(false),
        })
    }

    fn owner(name: &str) -> Partition {
        Principal::session(&SessionKey::new(name)).partition()
    }

    fn allowance(total: usize, per_principal: usize) -> Allowance {
        let of = |count| NonZeroUsize::new(count).unwrap();
        Allowance::of_processes(of(total), of(per_principal))
    }

    #[tokio::test(start_paused = true)]
    async fn at_a_bound_the_longest_idle_of_the_principal_makes_room() {
        let allowance = allowance(10, 2);
        let old = Instant::now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let others = one(Some(old));
        let _others = allowance.admit(owner("b"), others.clone()).unwrap();
        let (new, old) = (one(Some(Instant::now())), one(Some(old)));
        let _shares = [&new, &old].map(|one| allowance.admit(owner("a"), one.clone()).unwrap());
        let _third = allowance.admit(owner("a"), one(None)).unwrap();
        assert!(old.evicted.load(Ordering::SeqCst));
        assert!(!new.evicted.load(Ordering::SeqCst) && !others.evicted.load(Ordering::SeqCst));
        assert_eq!(allowance.counts().used, 3);
    }

    #[test]
    fn in_all_the_principal_with_most_makes_room() {
        let allowance = allowance(3, 3);
        let now = Instant::now();
        let (many, single) = ([one(Some(now)), one(Some(now))], one(Some(now)));
        let _single = allowance.admit(owner("b"), single.clone()).unwrap();
        let _many = many
            .each_ref()
            .map(|one| allowance.admit(owner("a"), one.clone()).unwrap());
        let _new = allowance.admit(owner("c"), one(None)).unwrap();
        assert!(!single.evicted.load(Ordering::SeqCst));
        assert!(many.iter().any(|one| one.evicted.load(Ordering::SeqCst)));
    }

    #[test]
    fn where_none_is_idle_the_bound_is_named_and_what_is_given_back_can_be_had() {
        for (total, per_principal, words) in [
            (
                5,
                1,
                "1 child processes are in use, the most that one principal may have",
            ),
            (
                1,
                5,
                "1 child processes are in use, the most that there may be",
            ),
        ] {
            let allowance = allowance(total, per_principal);
            let share = allowance.admit(owner("a"), one(None)).unwrap();
            let error = allowance.admit(owner("a"), one(None)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Overloaded);
            assert!(error.message().starts_with(words), "{error}");
            assert_eq!(allowance.counts().refused, 1);
            drop(share);
            assert!(allowance.admit(owner("a"), one(None)).is_ok());
            assert_eq!(allowance.counts().used, 0, "it was dropped");
        }
    }
}
