//! Medians, ranges and percentiles.

/// Median, smallest and largest of a few measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spread {
    /// The middle one; of an even number, the lower of the two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Summarises `values`; `None` when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: *values.get(values.len().saturating_sub(1) / 2)?,
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

/// A median, and a range that holds the true one in at least 95 of 100 such measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Interval {
    /// The middle one; of an even number, the lower of the two.
    pub median: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Summarises `values`, whatever their distribution: by how often so many of them lie on one side of the true median. Of
    /// fewer than six the range is from the smallest to the largest, which holds it less often. `None` when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let left_out = left_out(count);
        Some(Self {
            median: *values.get(count.saturating_sub(1) / 2)?,
            low: *values.get(left_out)?,
            high: *values.get(count - 1 - left_out)?,
        })
    }
}

/// How many of the smallest, and of the largest, of `count` values lie outside the range: the most for which the range misses
/// the median in at most 5 of 100 cases, which is twice the probability of that many heads in `count` throws of a coin.
fn left_out(count: usize) -> usize {
    let mut heads = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut missed = 2.0 * heads;
    let mut left_out = 0;
    while left_out + 1 < count / 2 {
        heads *= (count - left_out) as f64 / (left_out + 1) as f64;
        missed += 2.0 * heads;
        if missed > 0.05 {
            break;
        }
        left_out += 1;
    }
    left_out
}

/// The value below which `percent` of the sorted `values` lie; zero when there are none.
#[must_use]
pub fn percentile(values: &[u32], percent: f64) -> u32 {
    let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
    let index = rank.saturating_sub(1);
    values.get(index).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 8.0]).unwrap().median, 4.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn intervals_hold_the_median_in_95_of_100_cases() {
        // The tables of the sign test.
        for (count, outside) in [
            (1, 0),
            (5, 0),
            (6, 0),
            (8, 0),
            (9, 1),
            (11, 1),
            (12, 2),
            (15, 3),
            (20, 5),
            (30, 9),
        ] {
            assert_eq!(left_out(count), outside, "{count}");
        }
        let interval = Interval::of((1..=9).map(f64::from)).unwrap();
        assert_eq!(
            (interval.low, interval.median, interval.high),
            (2.0, 5.0, 8.0)
        );
        assert_eq!(Interval::of([]), None);
    }

    #[test]
    fn percentiles() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&values, 50.0), 50);
        assert_eq!(percentile(&values, 99.0), 99);
        assert_eq!(percentile(&values, 100.0), 100);
        assert_eq!(percentile(&[], 50.0), 0);
        assert_eq!(percentile(&[7], 1.0), 7);
    }
}
