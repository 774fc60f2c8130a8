use std::time::Duration;

use mcp_core::ConfigError;

/// When to ask a service for a result.
///
/// Pure: [`Polling::next`] takes how often was asked and how long ago the task was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    first: Duration,
    every: Duration,
    queries: u32,
    limit: Duration,
}

impl Polling {
    /// Asks first after `first`, then `every` so often, until `limit` has passed or after `queries` queries.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a value is zero.
    pub fn new(
        first: Duration,
        every: Duration,
        queries: u32,
        limit: Duration,
    ) -> Result<Self, ConfigError> {
        let zero = every.is_zero() || limit.is_zero() || queries == 0;
        if zero {
            return Err(ConfigError::new(
                "polling",
                format!("every {every:?}, {queries} queries, {limit:?}"),
                "give an interval, a count and a limit above zero",
            ));
        }
        Ok(Self::fixed(first, every, queries, limit))
    }

    pub(crate) const fn fixed(
        first: Duration,
        every: Duration,
        queries: u32,
        limit: Duration,
    ) -> Self {
        Self {
            first,
            every,
            queries,
            limit,
        }
    }

    /// How long to wait before the next query; `None` when it is time to give up.
    #[must_use]
    pub fn next(&self, asked: u32, age: Duration) -> Option<Duration> {
        if asked >= self.queries {
            return None;
        }
        let wait = if asked == 0 {
            self.first.saturating_sub(age)
        } else {
            self.every
        };
        (age.saturating_add(wait) <= self.limit).then_some(wait)
    }

    /// The time after which a task is given up.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether this asks nowhere more often, sooner or longer than `other`.
    pub(crate) fn is_gentler_than(&self, other: &Self) -> bool {
        self.first >= other.first && self.every >= other.every && self.queries <= other.queries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However slow the answers are, neither the count nor the interval nor the limit is overstepped.
        #[test]
        fn never_more_than_stated(
            first in 0u64..10_000, every in 1u64..10_000, queries in 1u32..200, limit in 1u64..400_000,
            latencies in proptest::collection::vec(0u64..5_000, 1..300),
        ) {
            let ms = Duration::from_millis;
            let polling = Polling::new(ms(first), ms(every), queries, ms(limit)).unwrap();
            let (mut age, mut asked, mut last) = (Duration::ZERO, 0, None);
            for latency in latencies {
                let Some(wait) = polling.next(asked, age) else { break };
                age += wait;
                prop_assert!(age <= ms(limit));
                if let Some(last) = last {
                    prop_assert!(age - last >= ms(every));
                } else {
                    prop_assert!(age >= ms(first));
                }
                last = Some(age);
                asked += 1;
                prop_assert!(asked <= queries);
                age += ms(latency);
            }
        }
    }
}
