//! Monotonic and wall time behind traits, so that tests decide what time it is.
//!
//! Code that measures how long something takes asks a [`Clock`]; code that writes a date down, or compares one
//! with a date from elsewhere, asks a [`WallClock`]. The system implementations read tokio's clock (a paused
//! runtime drives it) and the operating system's. With the feature `test-util` there is also [`FakeClock`],
//! which moves only when it is advanced.

use std::fmt;
use std::time::SystemTime;

use tokio::time::Instant;

#[cfg(feature = "test-util")]
pub use self::fake::FakeClock;

/// A source of monotonic time: it never goes back and does not know the date.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current instant.
    fn now(&self) -> Instant;
}

/// A source of the date: it may jump in either direction when the machine's clock is set.
pub trait WallClock: fmt::Debug + Send + Sync + 'static {
    /// The current date and time.
    fn now(&self) -> SystemTime;
}

/// Reads tokio's monotonic clock, which stands still in a paused runtime.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl SystemClock {
    /// Makes the clock; it holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// Reads the date from the operating system.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SystemWallClock;

impl SystemWallClock {
    /// Makes the clock; it holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl WallClock for SystemWallClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(feature = "test-util")]
mod fake {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::{Clock, WallClock};

    /// A clock that moves only when it is advanced; clones share their time.
    ///
    /// It starts at the present instant and at 2026-01-01T00:00:00Z.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use mcp_core::clock::{Clock, FakeClock};
    ///
    /// let clock = FakeClock::new();
    /// let before = clock.instant();
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(clock.instant() - before, Duration::from_secs(5));
    /// ```
    #[derive(Debug, Clone)]
    pub struct FakeClock(Arc<Mutex<(Instant, SystemTime)>>);

    impl FakeClock {
        /// Makes a clock that stands still.
        #[must_use]
        pub fn new() -> Self {
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
            Self(Arc::new(Mutex::new((Instant::now(), date))))
        }

        /// Moves both times forward.
        pub fn advance(&self, by: Duration) {
            let mut time = self.lock();
            time.0 += by;
            time.1 += by;
        }

        /// Sets the date alone, forward or back, as an administrator would.
        pub fn set_date(&self, date: SystemTime) {
            self.lock().1 = date;
        }

        /// The current instant; the same as [`Clock::now`].
        #[must_use]
        pub fn instant(&self) -> Instant {
            self.lock().0
        }

        /// The current date; the same as [`WallClock::now`].
        #[must_use]
        pub fn date(&self) -> SystemTime {
            self.lock().1
        }

        fn lock(&self) -> std::sync::MutexGuard<'_, (Instant, SystemTime)> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Default for FakeClock {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Clock for FakeClock {
        fn now(&self) -> Instant {
            self.instant()
        }
    }

    impl WallClock for FakeClock {
        fn now(&self) -> SystemTime {
            self.date()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clock, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn system_clock_follows_a_paused_runtime() {
        let clock: &dyn Clock = &SystemClock::new();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now() - before, Duration::from_secs(3600));
    }
}
