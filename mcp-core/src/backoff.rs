use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// An exponential backoff with jitter.
///
/// Each pause is drawn evenly from the upper half of a base that doubles from the shortest to the longest, so that clients
/// that lost the same server do not come back at the same moment. Nothing sleeps here: the caller waits for
/// [`Backoff::pause`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use mcp_core::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
/// let first = backoff.pause();
/// assert!(first >= Duration::from_millis(125) && first <= Duration::from_millis(250));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    base: Duration,
}

impl Backoff {
    /// Creates a backoff whose first pause is at most the shortest base. A longest base below the shortest counts as the
    /// shortest.
    #[must_use]
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest,
            base: shortest,
        }
    }

    /// Returns how long to wait before the next attempt, and doubles the base for the one after.
    pub fn pause(&mut self) -> Duration {
        let base = self.base;
        self.base = base.saturating_mul(2).min(self.longest).max(self.shortest);
        jittered(base)
    }

    /// Begins again at the shortest base: the last attempt was of use.
    pub const fn reset(&mut self) {
        self.base = self.shortest;
    }

    /// Sets the shortest base, for a server that asks for one (`retry` of an event stream).
    pub fn set_shortest(&mut self, shortest: Duration) {
        self.shortest = shortest.min(self.longest);
        self.base = self.base.max(self.shortest);
    }
}

/// Draws a duration from the upper half of one.
fn jittered(base: Duration) -> Duration {
    let half = base / 2;
    // Each state is seeded at random; nothing here is a secret.
    let random = RandomState::new().build_hasher().finish();
    let range = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    let drawn = random.checked_rem(range.saturating_add(1)).unwrap_or(0);
    base - half + Duration::from_nanos(drawn)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(shortest, longest);
        for base in [100, 200, 400, 800, 1000, 1000] {
            let base = Duration::from_millis(base);
            let pause = backoff.pause();
            assert!(pause >= base / 2 && pause <= base, "{pause:?} of {base:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= shortest);
    }

    #[test]
    fn pauses_of_several_differ() {
        let second = Duration::from_secs(1);
        let pauses: std::collections::HashSet<_> = (0..20)
            .map(|_| Backoff::new(second, second).pause())
            .collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }

    #[test]
    fn a_shortest_base_that_is_asked_for_is_kept_below_the_longest() {
        let longest = Duration::from_secs(1);
        let mut backoff = Backoff::new(Duration::from_millis(10), longest);
        backoff.set_shortest(Duration::from_secs(60));
        assert!(backoff.pause() <= longest);
        backoff.reset();
        assert!(backoff.pause() >= longest / 2);
    }

    proptest! {
        #[test]
        fn a_pause_is_in_the_upper_half_of_its_base(shortest: u64, longest: u64, times in 1_usize..8) {
            let (shortest, longest) = (Duration::from_nanos(shortest), Duration::from_nanos(longest));
            let mut backoff = Backoff::new(shortest, longest);
            for _ in 0..times {
                let pause = backoff.pause();
                prop_assert!(pause <= longest.max(shortest) && pause >= shortest / 2);
            }
        }
    }
}
