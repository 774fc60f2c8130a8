//! What may be spent: by each principal and by all together, on each day and in total, and how fast.

mod ledger;

use std::{sync::Arc, time::Duration};

use mcp_core::{
    Amount, Partition,
    clock::{SystemWallClock, WallClock},
    store::{Change, Expected, Namespace, StateStore, StoreError, StoreKey, Swap},
};

use self::ledger::{Ledger, Over};
use crate::{CaptchaError, CaptchaErrorKind, RetryAdvice};

/// How often to try when others write the same account at the same time.
const TRIES: u32 = 200;

/// Limits on one account. Unset limits do not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    day: Option<Amount>,
    total: Option<Amount>,
    rate: Option<(u32, Duration)>,
}

impl Limits {
    /// No limit yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            day: None,
            total: None,
            rate: None,
        }
    }

    /// At most this on each calendar day in UTC.
    #[must_use]
    pub const fn with_day(mut self, amount: Amount) -> Self {
        self.day = Some(amount);
        self
    }

    /// At most this in all.
    #[must_use]
    pub const fn with_total(mut self, amount: Amount) -> Self {
        self.total = Some(amount);
        self
    }

    /// At most so many solves begun in each window of `per`. Zero solves refuses all; a window of zero is one
    /// millisecond.
    #[must_use]
    pub const fn with_rate(mut self, solves: u32, per: Duration) -> Self {
        self.rate = Some((solves, per));
        self
    }
}

/// Keeps account of what captchas cost, on any [`StateStore`]: in memory, in a file, on Redis for many processes.
///
/// 1. Before anything is sent, what the solve may cost is set aside in the account of all and in the principal's.
///    Where that oversteps a limit the solve is refused and nothing is spent.
/// 2. Afterwards what it really cost is booked, once.
/// 3. What is set aside and never settled (a dropped call, a process that died) is booked in full after ten
///    minutes: the service has probably charged it.
/// 4. While the store is unavailable nothing is spent.
#[derive(Debug, Clone)]
pub struct Spending {
    store: Arc<dyn StateStore>,
    namespace: Namespace,
    principal: Limits,
    all: Limits,
    clock: Arc<dyn WallClock>,
}

/// An amount that is set aside.
#[derive(Debug)]
#[must_use = "what is not settled is booked in full"]
pub struct Held {
    id: u64,
    keys: [StoreKey; 2],
    amount: Amount,
}

/// What an account has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// Today, in UTC.
    pub day: Amount,
    /// Ever.
    pub total: Amount,
    /// How many solves were settled.
    pub solves: u64,
}

impl Spending {
    /// Keeps accounts in a namespace of a store.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>, namespace: Namespace) -> Self {
        Self {
            store,
            namespace,
            principal: Limits::new(),
            all: Limits::new(),
            clock: Arc::new(SystemWallClock::new()),
        }
    }

    /// Limits each principal. Default is no limit.
    #[must_use]
    pub fn with_principal_limits(mut self, limits: Limits) -> Self {
        self.principal = limits;
        self
    }

    /// Limits all principals together. Default is no limit.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.all = limits;
        self
    }

    /// Goes by another clock. Default is the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets aside what a solve may cost.
    ///
    /// # Errors
    ///
    /// [`CaptchaErrorKind::BudgetExhausted`] or [`CaptchaErrorKind::RateLimited`] if a limit is reached,
    /// [`CaptchaErrorKind::LedgerAway`] if the store is.
    ///
    /// # Cancel safety
    ///
    /// What a dropped future has set aside is booked in full later.
    pub async fn reserve(&self, owner: Partition, amount: Amount) -> Result<Held, CaptchaError> {
        let id = rand::random();
        let keys = self.keys(owner)?;
        for (index, (key, limits)) in [(&keys[0], self.all), (&keys[1], self.principal)]
            .into_iter()
            .enumerate()
        {
            let now = self.clock.now();
            let result = self
                .change(key, |ledger| ledger.reserve(&limits, amount, id, now))
                .await
                .and_then(|over| over.map_err(|over| refuse(&over, amount, index == 0)));
            if let Err(error) = result {
                if index == 1 {
                    let now = self.clock.now();
                    // If this fails the amount stays set aside, and is booked: on the safe side.
                    let _ = self
                        .change(&keys[0], |ledger| ledger.release(id, now))
                        .await;
                }
                return Err(error);
            }
        }
        Ok(Held { id, keys, amount })
    }

    /// Books what a solve really cost.
    ///
    /// # Errors
    ///
    /// [`CaptchaErrorKind::LedgerAway`]; the amount stays set aside then, and is booked in full later.
    pub async fn settle(&self, held: Held, spent: Amount) -> Result<(), CaptchaError> {
        let now = self.clock.now();
        for key in &held.keys {
            self.change(key, |ledger| {
                ledger.settle(held.id, held.amount, spent, now)
            })
            .await?;
        }
        Ok(())
    }

    /// What a principal has spent.
    ///
    /// # Errors
    ///
    /// [`CaptchaErrorKind::LedgerAway`]
    pub async fn of(&self, owner: Partition) -> Result<Spent, CaptchaError> {
        let [_, key] = self.keys(owner)?;
        self.read(&key).await
    }

    /// What all have spent.
    ///
    /// # Errors
    ///
    /// [`CaptchaErrorKind::LedgerAway`]
    pub async fn all(&self) -> Result<Spent, CaptchaError> {
        let key = StoreKey::new(&self.namespace, ["all"]).map_err(away)?;
        self.read(&key).await
    }

    fn keys(&self, owner: Partition) -> Result<[StoreKey; 2], CaptchaError> {
        let all = StoreKey::new(&self.namespace, ["all"]).map_err(away)?;
        let own = StoreKey::new(&self.namespace, ["principal", owner.to_string().as_str()])
            .map_err(away)?;
        Ok([all, own])
    }

    async fn read(&self, key: &StoreKey) -> Result<Spent, CaptchaError> {
        let found = self.store.get(key).await.map_err(away)?;
        let mut ledger: Ledger = match &found {
            Some(entry) => serde_json::from_slice(&entry.value).map_err(away)?,
            None => Ledger::default(),
        };
        Ok(ledger.spent(self.clock.now()))
    }

    async fn change<T>(
        &self,
        key: &StoreKey,
        work: impl Fn(&mut Ledger) -> T + Send + Sync,
    ) -> Result<T, CaptchaError> {
        for _ in 0..TRIES {
            let found = self.store.get(key).await.map_err(away)?;
            let mut ledger = match &found {
                Some(entry) => serde_json::from_slice(&entry.value).map_err(away)?,
                None => Ledger::default(),
            };
            let result = work(&mut ledger);
            let value = serde_json::to_vec(&ledger).map_err(away)?;
            let change = Change::Put {
                value: value.into(),
                ttl: None,
            };
            let swap = self
                .store
                .compare_and_swap(key, Expected::from(found.as_ref()), change)
                .await;
            if let Swap::Written(_) = swap.map_err(away)? {
                return Ok(result);
            }
            // Lets the one that won continue.
            tokio::task::yield_now().await;
        }
        Err(away(StoreError::new(
            mcp_core::store::StoreErrorKind::Unavailable,
            "too many write the account at once",
        )))
    }
}

fn away(error: impl std::error::Error + Send + Sync + 'static) -> CaptchaError {
    let message = "the account of what was spent cannot be kept, so nothing is spent";
    CaptchaError::new(CaptchaErrorKind::LedgerAway, message).with_source(error)
}

fn refuse(over: &Over, amount: Amount, all: bool) -> CaptchaError {
    let whose = if all { "all callers" } else { "this caller" };
    match over {
        Over::Money { what, left } => CaptchaError::new(
            CaptchaErrorKind::BudgetExhausted,
            format!(
                "the {what} captcha budget of {whose} has {left} USD left, and this solve may cost {amount}: do without it or ask the user"
            ),
        ),
        Over::Rate { wait } => CaptchaError::new(
            CaptchaErrorKind::RateLimited,
            format!(
                "{whose} may begin no more captchas for {} s",
                wait.as_secs() + 1
            ),
        )
        .with_retry(RetryAdvice::After(*wait)),
    }
}
