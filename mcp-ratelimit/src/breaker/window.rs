//! Counts over the last stretch of time, in tenths of it.

use std::time::Duration;

use tokio::time::Instant;

const TENTHS: usize = 10;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failures: u32,
    pub(super) slow: u32,
}

#[derive(Debug)]
pub(super) struct Window {
    tenths: [Counts; TENTHS],
    total: Counts,
    /// Which tenth since the beginning is the current one.
    current: u64,
    start: Instant,
    tenth: Duration,
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        Self {
            tenths: [Counts::default(); TENTHS],
            total: Counts::default(),
            current: 0,
            start: now,
            tenth: (length / TENTHS as u32).max(Duration::from_nanos(1)),
        }
    }

    pub(super) fn record(&mut self, failure: bool, slow: bool, now: Instant) -> Counts {
        self.turn(now);
        let tenth = &mut self.tenths[self.current as usize % TENTHS];
        for counts in [tenth, &mut self.total] {
            counts.calls = counts.calls.saturating_add(1);
            counts.failures = counts.failures.saturating_add(failure.into());
            counts.slow = counts.slow.saturating_add(slow.into());
        }
        self.total
    }

    pub(super) fn clear(&mut self) {
        self.tenths = [Counts::default(); TENTHS];
        self.total = Counts::default();
    }

    /// Drops the tenths that have become too old.
    fn turn(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.start);
        if since < self.tenth * u32::try_from(self.current + 1).unwrap_or(u32::MAX) {
            return;
        }
        let reached = u64::try_from(since.as_nanos() / self.tenth.as_nanos()).unwrap_or(u64::MAX);
        for step in 1..=(reached - self.current.min(reached)).min(TENTHS as u64) {
            let old = std::mem::take(&mut self.tenths[(self.current + step) as usize % TENTHS]);
            self.total.calls = self.total.calls.saturating_sub(old.calls);
            self.total.failures = self.total.failures.saturating_sub(old.failures);
            self.total.slow = self.total.slow.saturating_sub(old.slow);
        }
        if reached - self.current.min(reached) > TENTHS as u64 {
            self.clear();
        }
        self.current = self.current.max(reached);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The window counts every call of the last nine tenths and none older than ten.
        #[test]
        fn counts_are_those_of_the_window(steps in proptest::collection::vec((0u64..400, any::<bool>()), 1..200)) {
            let start = Instant::now();
            let mut window = Window::new(Duration::from_millis(1000), start);
            let (mut at, mut seen) = (0u64, Vec::new());
            for (pause, failure) in steps {
                at += pause;
                seen.push((at, failure));
                let counts = window.record(failure, false, start + Duration::from_millis(at));
                let since = |age: u64| seen.iter().filter(|(t, _)| *t + age > at).count() as u32;
                prop_assert!(counts.calls >= since(900) && counts.calls <= since(1000), "{counts:?}");
                let failures = seen.iter().filter(|(t, f)| *f && *t + 1000 > at).count() as u32;
                prop_assert!(counts.failures <= failures);
            }
        }
    }
}
