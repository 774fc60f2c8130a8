//! Days and months in UTC, from seconds since 1970 and back.

use std::time::{Duration, SystemTime};

/// For how long an amount is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Period {
    /// A day in UTC.
    Day,
    /// A calendar month in UTC.
    Month,
}

const DAY: u64 = 86_400;

impl Period {
    /// The number of the period that a date lies in, and the time until the next one begins.
    pub(super) fn at(self, date: SystemTime) -> (u64, Duration) {
        let since = date
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let days = since.as_secs() / DAY;
        let (number, end) = match self {
            Self::Day => (days, days + 1),
            Self::Month => {
                let (year, month) = month_of(days);
                let (next_year, next_month) = if month == 12 {
                    (year + 1, 1)
                } else {
                    (year, month + 1)
                };
                (year * 12 + month, first_day(next_year, next_month))
            }
        };
        (number, Duration::from_secs(end * DAY).saturating_sub(since))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// Days from 1970-01-01 to the first of a month. Years count from March here, so that a leap day comes last.
const fn first_day(year: u64, month: u64) -> u64 {
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days_before_year = y * 365 + y / 4 - y / 100 + y / 400;
    let days_before_month = (153 * m + 2) / 5;
    days_before_year + days_before_month - 719_468
}

/// The year and month (1 to 12) of a day: a guess that is right or one month short.
fn month_of(days: u64) -> (u64, u64) {
    let months = days * 4800 / 146_097;
    let split = |months: u64| (1970 + months / 12, months % 12 + 1);
    [months + 1, months, months.saturating_sub(1)]
        .map(split)
        .into_iter()
        .find(|(year, month)| first_day(*year, *month) <= days)
        .unwrap_or((1970, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn known_dates() {
        for (days, year, month) in [
            (0, 1970, 1),
            (30, 1970, 1),
            (31, 1970, 2),
            (58, 1970, 2),
            (59, 1970, 3),
            (11_016, 2000, 2),
            (11_017, 2000, 3),
            (20_454, 2026, 1),
            (20_778, 2026, 11),
            (20_788, 2026, 12),
            (19_782, 2024, 2),
            (19_783, 2024, 3),
        ] {
            assert_eq!(month_of(days), (year, month), "{days}");
        }
        assert_eq!(Period::Day.at(date(86_399)), (0, Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn periods_follow_each_other(seconds in 0u64..300_000_000_000) {
            for period in [Period::Day, Period::Month] {
                let (number, left) = period.at(date(seconds));
                prop_assert!(!left.is_zero() && left <= Duration::from_secs(31 * DAY));
                let end = date(seconds) + left;
                prop_assert_eq!(period.at(end - Duration::from_secs(1)).0, number);
                prop_assert_eq!(period.at(end).0, number + 1);
            }
        }
    }
}
