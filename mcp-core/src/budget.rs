use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;

use crate::{Error, ErrorKind, Partition};

/// Keeps account of what a partition may still spend.
///
/// Spending is in two steps, so that nothing is spent that was not set aside before: [`Budget::reserve`], then
/// [`Budget::settle`] with what it really cost.
#[async_trait]
pub trait Budget: Send + Sync + 'static {
    /// Sets an amount aside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BudgetExhausted`] when less than the amount is left, with the time when more will be.
    async fn reserve(&self, account: &Account, amount: Amount) -> Result<Reservation, Error>;

    /// Books what a reservation really cost, which may differ from what was set aside, and frees the rest.
    ///
    /// # Errors
    ///
    /// The account could not be written; the reservation stands until it expires.
    async fn settle(&self, reservation: Reservation, spent: Amount) -> Result<(), Error>;

    /// Returns what is left.
    ///
    /// # Errors
    ///
    /// The account could not be read.
    async fn remaining(&self, account: &Account) -> Result<Amount, Error>;
}

/// Who spends, and on what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Account {
    /// Who spends.
    pub owner: Partition,
    /// On what: a service or a tool, as the operator names it.
    pub service: Box<str>,
}

impl Account {
    /// Names an account.
    #[must_use]
    pub fn new(owner: Partition, service: &str) -> Self {
        Self {
            owner,
            service: service.into(),
        }
    }
}

/// An amount in millionths of a unit: of a currency, of a call, of whatever the operator counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Creates an amount of whole units.
    #[must_use]
    pub const fn units(units: u32) -> Self {
        Self(units as u64 * 1_000_000)
    }

    /// Creates an amount of millionths.
    #[must_use]
    pub const fn micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the amount in millionths.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Adds, stopping at the largest amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Subtracts, stopping at nothing.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// An amount that has been set aside.
#[derive(Debug)]
#[must_use = "a reservation that is not settled blocks its amount"]
pub struct Reservation {
    account: Account,
    amount: Amount,
    /// For the implementation: which of its records this is.
    id: u64,
}

impl Reservation {
    /// Describes a reservation. For implementations of [`Budget`].
    pub fn new(account: Account, amount: Amount, id: u64) -> Self {
        Self {
            account,
            amount,
            id,
        }
    }

    /// Returns who set it aside, on what.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Returns the amount.
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.amount
    }

    /// Returns the implementation's own number for it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// One amount for each account, spent once, kept in memory: for tests and single runs.
#[derive(Debug)]
pub struct MemoryBudget {
    each: Amount,
    spent: Mutex<HashMap<Account, Amount>>,
}

impl MemoryBudget {
    /// Gives every account the same amount.
    #[must_use]
    pub fn new(each: Amount) -> Self {
        Self {
            each,
            spent: Mutex::default(),
        }
    }
}

#[async_trait]
impl Budget for MemoryBudget {
    async fn reserve(&self, account: &Account, amount: Amount) -> Result<Reservation, Error> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let booked = spent.entry(account.clone()).or_default();
        let after = booked.saturating_add(amount);
        if after > self.each {
            return Err(Error::new(
                ErrorKind::BudgetExhausted,
                format!(
                    "the budget for {} has {} left, and the call may cost {amount}",
                    account.service,
                    self.each.saturating_sub(*booked)
                ),
            ));
        }
        *booked = after;
        Ok(Reservation::new(account.clone(), amount, 0))
    }

    async fn settle(&self, reservation: Reservation, spent: Amount) -> Result<(), Error> {
        let mut accounts = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let booked = accounts.entry(reservation.account).or_default();
        *booked = booked
            .saturating_sub(reservation.amount)
            .saturating_add(spent);
        Ok(())
    }

    async fn remaining(&self, account: &Account) -> Result<Amount, Error> {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let booked = spent.get(account).copied().unwrap_or_default();
        Ok(self.each.saturating_sub(booked))
    }
}
