use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mcp_core::clock::{SystemWallClock, WallClock};
use mcp_core::store::{Change, Expected, Namespace, StateStore, StoreKey, Swap};
use mcp_core::{Account, Amount, Budget, Error, ErrorKind, Json, Reservation};

use super::BudgetPlan;
use super::ledger::{Exhausted, Ledger};

/// How often to try when others write the same account at the same time.
const TRIES: u32 = 100;
/// How long an account that no one uses is remembered: longer than any period.
const KEEP: std::time::Duration = std::time::Duration::from_secs(40 * 86_400);

/// Keeps accounts on a [`StateStore`]: in memory, in a file, or on Redis for many processes.
///
/// While the store is unavailable nothing can be reserved: money that cannot be counted is not spent.
#[derive(Debug)]
pub struct StoreBudget {
    store: Arc<dyn StateStore>,
    namespace: Namespace,
    plan: BudgetPlan,
    services: HashMap<Box<str>, BudgetPlan>,
    clock: Arc<dyn WallClock>,
}

impl StoreBudget {
    /// Gives every account the same plan.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>, namespace: Namespace, plan: BudgetPlan) -> Self {
        Self {
            store,
            namespace,
            plan,
            services: HashMap::new(),
            clock: Arc::new(SystemWallClock::new()),
        }
    }

    /// Gives accounts of one service another plan.
    #[must_use]
    pub fn with_service(mut self, service: &str, plan: BudgetPlan) -> Self {
        self.services.insert(service.into(), plan);
        self
    }

    /// Goes by another clock. Default is the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn WallClock>) -> Self {
        self.clock = clock;
        self
    }

    fn plan(&self, account: &Account) -> BudgetPlan {
        self.services
            .get(&account.service)
            .copied()
            .unwrap_or(self.plan)
    }

    /// Reads an account, changes it and writes it back, as often as it takes.
    async fn change<T>(
        &self,
        account: &Account,
        work: impl Fn(&mut Ledger) -> Result<T, Error> + Send + Sync,
    ) -> Result<T, Error> {
        let owner = account.owner.to_string();
        let key =
            StoreKey::new(&self.namespace, [owner.as_str(), &account.service]).map_err(away)?;
        for _ in 0..TRIES {
            let found = self.store.get(&key).await.map_err(away)?;
            let mut ledger = match &found {
                Some(entry) => serde_json::from_slice(&entry.value).map_err(away)?,
                None => Ledger::default(),
            };
            let result = work(&mut ledger)?;
            let value = serde_json::to_vec(&ledger).map_err(away)?;
            let change = Change::Put {
                value: value.into(),
                ttl: Some(KEEP),
            };
            let swap = self
                .store
                .compare_and_swap(&key, Expected::from(found.as_ref()), change)
                .await;
            if let Swap::Written(_) = swap.map_err(away)? {
                self.show(account, &ledger);
                return Ok(result);
            }
        }
        Err(Error::new(
            ErrorKind::Overloaded,
            "the budget is being written by too many at once",
        ))
    }

    fn show(&self, account: &Account, ledger: &Ledger) {
        let plan = self.plan(account);
        let left = ledger.left(&plan).as_micros() as f64 / 1e6;
        let service = metrics::SharedString::from(account.service.to_string());
        metrics::gauge!("mcp_budget_remaining", "service" => service).set(left);
        if ledger.is_low(&plan) {
            tracing::warn!(service = &*account.service, owner = %account.owner, left, "a budget is running low");
        }
    }
}

fn away(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the budget cannot be read, so nothing is spent",
    )
    .with_source(error)
}

fn refuse(account: &Account, amount: Amount, exhausted: &Exhausted) -> Error {
    let service = metrics::SharedString::from(account.service.to_string());
    metrics::counter!("mcp_budget_refusals_total", "service" => service).increment(1);
    let (period, left) = (exhausted.period.name(), exhausted.left);
    let mut data = serde_json::json!({
        "kind": ErrorKind::BudgetExhausted.name(), "service": *account.service, "period": period, "left": left.to_string(),
    });
    let message = format!(
        "the {period}'s budget for {} has {left} left, and this call may cost {amount}; do without it or ask the user",
        account.service
    );
    let mut error = Error::new(ErrorKind::BudgetExhausted, message);
    if let Some(wait) = exhausted.wait {
        data["retryAfterMs"] = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
        error = error.with_retry_after(wait);
    }
    error.with_data(Json::from(data))
}

#[async_trait]
impl Budget for StoreBudget {
    async fn reserve(&self, account: &Account, amount: Amount) -> Result<Reservation, Error> {
        let (plan, id) = (self.plan(account), rand::random());
        let now = self.clock.now();
        self.change(account, |ledger| {
            ledger
                .reserve(&plan, amount, id, now)
                .map_err(|exhausted| refuse(account, amount, &exhausted))
        })
        .await?;
        Ok(Reservation::new(account.clone(), amount, id))
    }

    async fn settle(&self, reservation: Reservation, spent: Amount) -> Result<(), Error> {
        let now = self.clock.now();
        self.change(reservation.account(), |ledger| {
            ledger.settle(reservation.id(), reservation.amount(), spent, now);
            Ok(())
        })
        .await
    }

    async fn remaining(&self, account: &Account) -> Result<Amount, Error> {
        let owner = account.owner.to_string();
        let key =
            StoreKey::new(&self.namespace, [owner.as_str(), &account.service]).map_err(away)?;
        let mut ledger = match self.store.get(&key).await.map_err(away)? {
            Some(entry) => serde_json::from_slice(&entry.value).map_err(away)?,
            None => Ledger::default(),
        };
        ledger.turn(self.clock.now());
        Ok(ledger.left(&self.plan(account)))
    }
}
