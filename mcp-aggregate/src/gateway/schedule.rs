//! When an upstream is listed again: a pure decision over instants.

use std::time::Duration;

use mcp_core::Timing;
use tokio::time::Instant;

use super::kinds::Kinds;

/// Decides when to list an upstream again.
///
/// 1. One listing at a time. What is announced while it runs is due once after it.
/// 2. A listing does not begin sooner than [`Timing::backoff_first`] after the end of the last one; each listing that
///    found nothing new doubles that time up to [`Timing::backoff_longest`], and a real change resets it.
/// 3. Without announcements it is due after `poll`, for an upstream that is polled.
#[derive(Debug)]
pub(crate) struct Schedule {
    poll: Option<Duration>,
    shortest: Duration,
    longest: Duration,
    pause: Duration,
    /// When the last listing ended; `None` before the first.
    last: Option<Instant>,
    announced: Kinds,
    wanted: bool,
    running: Option<Kinds>,
}

impl Schedule {
    pub(crate) fn new(timing: &Timing) -> Self {
        Self {
            poll: None,
            shortest: timing.backoff_first,
            longest: timing.backoff_longest,
            pause: timing.backoff_first,
            last: None,
            announced: Kinds::default(),
            wanted: false,
            running: None,
        }
    }

    /// Lists from time to time, since the upstream does not announce changes.
    pub(crate) fn poll_every(&mut self, poll: Duration) {
        self.poll = Some(poll);
        self.wanted |= self.last.is_none() && self.running.is_none();
    }

    /// Asks for a listing, with the kinds that the upstream announced as changed.
    pub(crate) fn announce(&mut self, kinds: Kinds) {
        self.announced = self.announced.and(kinds);
        self.wanted = true;
    }

    /// Returns when the next listing is due; `None` while one runs and when there is no reason for one.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        match (self.wanted, self.last) {
            (true, None) => Some(now),
            (true, Some(last)) => Some(last + self.pause),
            (false, Some(last)) => self.poll.map(|poll| last + poll),
            (false, None) => None,
        }
    }

    /// Notes that a listing begins.
    pub(crate) fn begin(&mut self) {
        self.running = Some(std::mem::take(&mut self.announced));
        self.wanted = false;
    }

    /// Notes that a listing has ended, and returns the kinds that were announced before it began: clients are notified of
    /// them whether the lists changed or not.
    pub(crate) fn end(&mut self, now: Instant, changed: bool) -> Kinds {
        let announced = self.running.take().unwrap_or_default();
        self.pause = match changed || announced.is_empty() {
            true => self.shortest,
            false => (self.pause * 2).min(self.longest),
        };
        self.last = Some(now);
        announced
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::ListKind;

    const SHORTEST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(30);

    fn tools() -> Kinds {
        [ListKind::Tools].into_iter().collect()
    }

    fn later(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    #[test]
    fn what_is_announced_during_a_listing_is_listed_once_after_it() {
        let now = Instant::now();
        let mut schedule = Schedule::new(&Timing::default());
        assert_eq!(schedule.due(now), None);
        schedule.announce(Kinds::default());
        assert_eq!(schedule.due(now), Some(now));
        schedule.begin();
        schedule.announce(tools());
        schedule.announce(tools());
        assert_eq!(schedule.due(now), None, "one at a time");
        assert!(schedule.end(now, true).is_empty());
        assert_eq!(schedule.due(now), Some(later(now, 250)));
        schedule.begin();
        assert_eq!(schedule.end(later(now, 300), true), tools());
        assert_eq!(schedule.due(later(now, 300)), None);
    }

    #[test]
    fn announcements_without_a_change_come_ever_more_slowly() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(&Timing::default());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            schedule.announce(tools());
            now = schedule.due(now).unwrap();
            schedule.begin();
            schedule.announce(tools());
            schedule.end(now, false);
            pauses.push(schedule.due(now).unwrap() - now);
        }
        assert_eq!(pauses[0], Duration::from_millis(500));
        assert_eq!(pauses[1], Duration::from_secs(1));
        assert_eq!(pauses[9], LONGEST);
        schedule.begin();
        schedule.announce(tools());
        schedule.end(now, true);
        assert_eq!(schedule.due(now), Some(now + SHORTEST), "a change resets");
    }

    #[test]
    fn an_upstream_that_does_not_announce_is_polled() {
        let now = Instant::now();
        let mut schedule = Schedule::new(&Timing::default());
        schedule.poll_every(Duration::from_secs(30));
        assert_eq!(schedule.due(now), Some(now));
        schedule.begin();
        schedule.end(now, false);
        assert_eq!(schedule.due(now), Some(later(now, 30_000)));
    }

    proptest! {
        /// Whatever is announced and whenever: listings never begin closer than the shortest pause, and none is lost.
        #[test]
        fn listings_keep_their_distance_and_none_is_lost(steps in proptest::collection::vec((0_u64..2000, any::<bool>()), 1..60)) {
            let mut now = Instant::now();
            let mut schedule = Schedule::new(&Timing::default());
            let mut last: Option<Instant> = None;
            let mut outstanding = false;
            for (wait, changed) in steps {
                schedule.announce(tools());
                outstanding = true;
                now += Duration::from_millis(wait);
                if let Some(due) = schedule.due(now) && due <= now {
                    if let Some(last) = last {
                        prop_assert!(now - last >= SHORTEST);
                    }
                    schedule.begin();
                    prop_assert_eq!(schedule.end(now, changed), tools());
                    last = Some(now);
                    outstanding = false;
                }
            }
            prop_assert_eq!(schedule.due(now).is_some(), outstanding);
        }
    }
}
