//! The arithmetic of one account: values and the date in, values out.

use std::time::{Duration, SystemTime};

use mcp_core::Amount;
use serde::{Deserialize, Serialize};

use super::Period;

/// After this time a reservation that no one settled counts as spent.
pub(super) const HOLD: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The number of the day and what was spent on it.
    day: (u64, u64),
    month: (u64, u64),
    held: Vec<Held>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    id: u64,
    micros: u64,
    /// Milliseconds since 1970.
    until: u64,
}

/// How much of an account may be spent in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetPlan {
    pub(super) day: Option<Amount>,
    pub(super) month: Option<Amount>,
    pub(super) warn_at: u8,
}

impl BudgetPlan {
    /// Allows an amount in each period, and warns when four fifths of it are gone.
    #[must_use]
    pub const fn new(period: Period, amount: Amount) -> Self {
        let (day, month) = match period {
            Period::Day => (Some(amount), None),
            Period::Month => (None, Some(amount)),
        };
        Self {
            day,
            month,
            warn_at: 80,
        }
    }

    /// Allows an amount in another period too; whichever is used up first refuses.
    #[must_use]
    pub const fn and(mut self, period: Period, amount: Amount) -> Self {
        match period {
            Period::Day => self.day = Some(amount),
            Period::Month => self.month = Some(amount),
        }
        self
    }

    /// Sets at which part of an amount to warn, in hundredths. Default is 80; above 100 never warns.
    #[must_use]
    pub const fn with_warning(mut self, percent: u8) -> Self {
        self.warn_at = percent;
        self
    }
}

/// Why nothing was set aside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub(super) period: Period,
    pub(super) left: Amount,
    /// When more will be there; `None` if the amount is beyond the plan.
    pub(super) wait: Option<Duration>,
}

impl Ledger {
    /// Turns to the present period and books what was held too long.
    pub(super) fn turn(&mut self, now: SystemTime) {
        let millis = unix_millis(now);
        let (late, held): (Vec<_>, Vec<_>) =
            self.held.drain(..).partition(|held| held.until <= millis);
        self.held = held;
        for held in late {
            self.day.1 = self.day.1.saturating_add(held.micros);
            self.month.1 = self.month.1.saturating_add(held.micros);
        }
        // A clock that jumps back stays in the later period: nothing is given twice.
        for (period, counted) in [
            (Period::Day, &mut self.day),
            (Period::Month, &mut self.month),
        ] {
            let (number, _) = period.at(now);
            if number > counted.0 {
                *counted = (number, 0);
            }
        }
    }

    /// What is left, of the period that leaves least; the greatest amount without a plan for either.
    pub(super) fn left(&self, plan: &BudgetPlan) -> Amount {
        let lefts = [(plan.day, self.day.1), (plan.month, self.month.1)];
        let left = |(given, spent)| -> Option<Amount> {
            Some(Amount::saturating_sub(given?, self.with_held(spent)))
        };
        lefts
            .into_iter()
            .filter_map(left)
            .min()
            .unwrap_or(Amount::micros(u64::MAX))
    }

    fn with_held(&self, spent: u64) -> Amount {
        let held = self
            .held
            .iter()
            .fold(0u64, |sum, held| sum.saturating_add(held.micros));
        Amount::micros(spent.saturating_add(held))
    }

    pub(super) fn reserve(
        &mut self,
        plan: &BudgetPlan,
        amount: Amount,
        id: u64,
        now: SystemTime,
    ) -> Result<(), Exhausted> {
        self.turn(now);
        for (period, given, spent) in [
            (Period::Day, plan.day, self.day.1),
            (Period::Month, plan.month, self.month.1),
        ] {
            let Some(given) = given else { continue };
            let left = given.saturating_sub(self.with_held(spent));
            if amount > left {
                let wait = (amount <= given).then(|| period.at(now).1);
                return Err(Exhausted { period, left, wait });
            }
        }
        let until = unix_millis(now).saturating_add(HOLD.as_millis() as u64);
        self.held.push(Held {
            id,
            micros: amount.as_micros(),
            until,
        });
        Ok(())
    }

    /// Books what a reservation really cost. One that is not held any more was booked in full.
    pub(super) fn settle(&mut self, id: u64, amount: Amount, spent: Amount, now: SystemTime) {
        let held = self.held.iter().position(|held| held.id == id);
        let more = match held {
            Some(index) => {
                self.held.swap_remove(index);
                spent.as_micros()
            }
            None => spent.as_micros().saturating_sub(amount.as_micros()),
        };
        self.turn(now);
        self.day.1 = self.day.1.saturating_add(more);
        self.month.1 = self.month.1.saturating_add(more);
    }

    /// Whether so many hundredths of some period's amount are gone.
    pub(super) fn is_low(&self, plan: &BudgetPlan) -> bool {
        let low = |given: Option<Amount>, spent: u64| {
            given.is_some_and(|given| {
                let gone = u128::from(self.with_held(spent).as_micros()) * 100;
                gone >= u128::from(given.as_micros()) * u128::from(plan.warn_at)
            })
        };
        low(plan.day, self.day.1) || low(plan.month, self.month.1)
    }
}

fn unix_millis(date: SystemTime) -> u64 {
    let since = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is reserved, settled at up to its amount, forgotten or delayed, and wherever the clock goes:
        /// in no period is more spent than was given.
        #[test]
        fn never_above_the_plan(steps in proptest::collection::vec((0u64..200_000, 0u64..50, 0u64..60, 0u8..3, any::<bool>()), 1..100)) {
            let plan = BudgetPlan::new(Period::Day, Amount::micros(100)).and(Period::Month, Amount::micros(500));
            let mut ledger = Ledger::default();
            let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
            for (id, (pause, amount, cost, then, back)) in steps.into_iter().enumerate() {
                now = if back { now - Duration::from_secs(pause / 10) } else { now + Duration::from_secs(pause) };
                let amount = Amount::micros(amount);
                if ledger.reserve(&plan, amount, id as u64, now).is_ok() {
                    let cost = Amount::micros(cost.min(amount.as_micros()));
                    match then {
                        0 => ledger.settle(id as u64, amount, cost, now),
                        1 => {
                            now += HOLD * 2;
                            ledger.turn(now);
                            ledger.settle(id as u64, amount, cost, now);
                        }
                        _ => {}
                    }
                }
                prop_assert!(ledger.day.1 <= 100 && ledger.month.1 <= 500, "{ledger:?}");
            }
        }
    }

    #[test]
    fn amounts_come_back_with_the_period() {
        let plan = BudgetPlan::new(Period::Day, Amount::units(10)).with_warning(50);
        let mut ledger = Ledger::default();
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(20_454 * 86_400 + 43_200);
        ledger.reserve(&plan, Amount::units(6), 1, noon).unwrap();
        assert!(ledger.is_low(&plan));
        let error = ledger
            .reserve(&plan, Amount::units(6), 2, noon)
            .unwrap_err();
        assert_eq!(
            (error.left, error.wait),
            (Amount::units(4), Some(Duration::from_secs(43_200)))
        );
        ledger.settle(1, Amount::units(6), Amount::units(1), noon);
        assert!(!ledger.is_low(&plan));
        assert_eq!(ledger.left(&plan), Amount::units(9));
        assert_eq!(
            ledger
                .reserve(&plan, Amount::units(11), 2, noon)
                .unwrap_err()
                .wait,
            None
        );
        let tomorrow = noon + Duration::from_secs(43_200);
        ledger
            .reserve(&plan, Amount::units(10), 3, tomorrow)
            .unwrap();
    }
}
