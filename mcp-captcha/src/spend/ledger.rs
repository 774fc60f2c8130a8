use std::time::{Duration, SystemTime};

use mcp_core::Amount;
use serde::{Deserialize, Serialize};

use super::{Limits, Spent};

const DAY_MILLIS: u64 = 86_400_000;
/// How long an amount stays set aside before it counts as spent: longer than any solve.
pub(super) const HOLD: Duration = Duration::from_secs(600);

/// One account. Pure: takes limits and the date, changes itself.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The day's number since 1970, and what was spent on it, in millionths.
    day: (u64, u64),
    total: u64,
    solves: u64,
    held: Vec<Holding>,
    /// When the present window of the rate began, and how many were begun in it.
    window: (u64, u32),
}

#[derive(Debug, Serialize, Deserialize)]
struct Holding {
    id: u64,
    micros: u64,
    until: u64,
}

/// Which limit is reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    Money { what: &'static str, left: Amount },
    Rate { wait: Duration },
}

impl Ledger {
    /// Brings the account to the present: a new day, holdings past their time.
    fn turn(&mut self, now: u64) {
        // A clock that jumps back stays in the later day: nothing is given twice.
        let day = now / DAY_MILLIS;
        if day > self.day.0 {
            self.day = (day, 0);
        }
        let (due, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| held.until <= now);
        self.held = held;
        let due: Vec<Holding> = due;
        for holding in due {
            self.book(holding.micros);
        }
    }

    fn book(&mut self, micros: u64) {
        self.day.1 = self.day.1.saturating_add(micros);
        self.total = self.total.saturating_add(micros);
    }

    pub(super) fn reserve(
        &mut self,
        limits: &Limits,
        amount: Amount,
        id: u64,
        now: SystemTime,
    ) -> Result<(), Over> {
        let now = millis(now);
        self.turn(now);
        let held = self
            .held
            .iter()
            .fold(0u64, |sum, held| sum.saturating_add(held.micros));
        for (what, limit, spent) in [
            ("day's", limits.day, self.day.1),
            ("total", limits.total, self.total),
        ] {
            let Some(limit) = limit else { continue };
            let left = limit.saturating_sub(Amount::micros(spent.saturating_add(held)));
            if amount > left {
                return Err(Over::Money { what, left });
            }
        }
        if let Some((most, per)) = limits.rate {
            let per = u64::try_from(per.as_millis()).unwrap_or(u64::MAX).max(1);
            let age = now.saturating_sub(self.window.0);
            if age >= per {
                self.window = (now, 0);
            }
            if self.window.1 >= most {
                return Err(Over::Rate {
                    wait: Duration::from_millis(per.saturating_sub(age)),
                });
            }
            self.window.1 += 1;
        }
        let until = now.saturating_add(HOLD.as_millis() as u64);
        self.held.push(Holding {
            id,
            micros: amount.as_micros(),
            until,
        });
        Ok(())
    }

    /// Takes back what was set aside and not used.
    pub(super) fn release(&mut self, id: u64, now: SystemTime) {
        if let Some(index) = self.held.iter().position(|held| held.id == id) {
            self.held.swap_remove(index);
            self.window.1 = self.window.1.saturating_sub(1);
        }
        self.turn(millis(now));
    }

    /// Books what it really cost. What was booked in full already is corrected upwards only.
    pub(super) fn settle(&mut self, id: u64, amount: Amount, spent: Amount, now: SystemTime) {
        let more = match self.held.iter().position(|held| held.id == id) {
            Some(index) => {
                self.held.swap_remove(index);
                spent
            }
            None => spent.saturating_sub(amount),
        };
        self.turn(millis(now));
        self.book(more.as_micros());
        self.solves += 1;
    }

    pub(super) fn spent(&mut self, now: SystemTime) -> Spent {
        self.turn(millis(now));
        Spent {
            day: Amount::micros(self.day.1),
            total: Amount::micros(self.total),
            solves: self.solves,
        }
    }
}

fn millis(date: SystemTime) -> u64 {
    let since = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is reserved, settled, released or forgotten, wherever the clock goes: no limit is overstepped.
        #[test]
        fn never_above_a_limit(
            steps in proptest::collection::vec((0u64..40_000_000, 0u64..60, 0u64..60, 0u8..4, any::<bool>()), 1..120),
        ) {
            let limits = Limits::new().with_day(Amount::micros(100)).with_total(Amount::micros(700));
            let mut ledger = Ledger::default();
            let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
            for (id, (pause, amount, cost, then, back)) in steps.into_iter().enumerate() {
                now = if back { now - Duration::from_millis(pause / 10) } else { now + Duration::from_millis(pause) };
                let (id, amount) = (id as u64, Amount::micros(amount));
                if ledger.reserve(&limits, amount, id, now).is_ok() {
                    let cost = Amount::micros(cost.min(amount.as_micros()));
                    match then {
                        0 => ledger.settle(id, amount, cost, now),
                        1 => ledger.release(id, now),
                        2 => {
                            now += HOLD * 2;
                            ledger.turn(millis(now));
                            ledger.settle(id, amount, cost, now);
                        }
                        _ => {}
                    }
                }
                prop_assert!(ledger.day.1 <= 100 && ledger.total <= 700, "{ledger:?}");
            }
        }

        /// In no window do more begin than the rate allows.
        #[test]
        fn never_faster_than_the_rate(pauses in proptest::collection::vec(0u64..3_000, 1..200)) {
            let limits = Limits::new().with_rate(3, Duration::from_secs(2));
            let mut ledger = Ledger::default();
            let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
            let mut window = None;
            for (id, pause) in pauses.into_iter().enumerate() {
                now += Duration::from_millis(pause);
                let result = ledger.reserve(&limits, Amount::ZERO, id as u64, now);
                let (start, begun) = window.get_or_insert((now, 0));
                if now.duration_since(*start).unwrap() >= Duration::from_secs(2) {
                    (*start, *begun) = (now, 0);
                }
                match result {
                    Ok(()) => *begun += 1,
                    Err(Over::Rate { wait }) => prop_assert!(wait <= Duration::from_secs(2) && *begun == 3),
                    Err(other) => prop_assert!(false, "{other:?}"),
                }
                prop_assert!(*begun <= 3);
            }
        }
    }
}
