//! Days and months in UTC, from seconds since 1970 and back.

use std::time::{Duration, SystemTime};

use time::{Date, OffsetDateTime};

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
            Self::Month => month_of(days).unwrap_or((days, days + 1)),
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

/// The number of the month that a day lies in, counted from the year 0, and the day that the next one begins with; `None`
/// after the year 9999.
fn month_of(days: u64) -> Option<(u64, u64)> {
    let seconds = i64::try_from(days.checked_mul(DAY)?).ok()?;
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok()?.date();
    let (year, month) = (date.year(), date.month());
    let next_year = year + i32::from(month == time::Month::December);
    let next = Date::from_calendar_date(next_year, month.next(), 1).ok()?;
    let end = next.midnight().assume_utc().unix_timestamp();
    let number = u64::try_from(year).ok()? * 12 + u64::from(u8::from(month));
    Some((number, u64::try_from(end).ok()? / DAY))
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
            let (number, _) = month_of(days).unwrap();
            assert_eq!(number, year * 12 + month, "{days}");
        }
        assert_eq!(Period::Day.at(date(86_399)), (0, Duration::from_secs(1)));
        // After the last year that is known, months are days.
        let (number, left) = Period::Month.at(date(300_000_000_000));
        assert!(number == 300_000_000_000 / DAY && left <= Duration::from_secs(DAY));
    }

    proptest! {
        #[test]
        fn periods_follow_each_other(seconds in 0u64..253_000_000_000) {
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
