use std::num::NonZeroU32;
use std::time::Duration;

use mcp_core::ConfigError;

/// The longest time in which a burst may refill.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// How many calls in which time, and how many at once.
///
/// The burst refills evenly: after 60 calls at once under 60 in a minute, one more is allowed each second.
///
/// # Examples
///
/// ```
/// use mcp_ratelimit::rate_limit::Quota;
///
/// let quota = Quota::per_minute(60)?.with_burst(10)?;
/// assert_eq!(quota.burst().get(), 10);
/// assert!(Quota::per_second(0).is_err());
/// # Ok::<(), mcp_core::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    count: NonZeroU32,
    window: Duration,
    burst: NonZeroU32,
}

impl Quota {
    /// Allows `count` calls in each `window`, all of them at once if need be.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `count` is zero, if it means more than one call in a nanosecond, or if the
    /// window is longer than 366 days.
    pub fn new(count: u32, window: Duration) -> Result<Self, ConfigError> {
        let wrong = |remedy| ConfigError::new("quota", format!("{count} in {window:?}"), remedy);
        let count = NonZeroU32::new(count).ok_or_else(|| wrong("allow at least one call"))?;
        let quota = Self {
            count,
            window,
            burst: count,
        };
        if quota.interval().is_zero() {
            return Err(wrong("allow at most one call in a nanosecond"));
        }
        if window > LONGEST {
            return Err(wrong("use a window of at most 366 days"));
        }
        Ok(quota)
    }

    /// Allows `count` calls in each second.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn per_second(count: u32) -> Result<Self, ConfigError> {
        Self::new(count, Duration::from_secs(1))
    }

    /// Allows `count` calls in each minute.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn per_minute(count: u32) -> Result<Self, ConfigError> {
        Self::new(count, Duration::from_secs(60))
    }

    /// Allows `count` calls in each hour.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn per_hour(count: u32) -> Result<Self, ConfigError> {
        Self::new(count, Duration::from_secs(3600))
    }

    /// Sets how many calls may come at once. Default is the count of the window.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `burst` is zero, or takes longer than 366 days to refill.
    pub fn with_burst(mut self, burst: u32) -> Result<Self, ConfigError> {
        let wrong = |remedy| ConfigError::new("burst", burst, remedy);
        self.burst =
            NonZeroU32::new(burst).ok_or_else(|| wrong("allow at least one call at once"))?;
        match self.interval().checked_mul(burst) {
            Some(refill) if refill <= LONGEST => Ok(self),
            _ => Err(wrong("a burst has to refill within 366 days")),
        }
    }

    /// Calls in each window.
    #[must_use]
    pub const fn count(&self) -> NonZeroU32 {
        self.count
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// Calls at once.
    #[must_use]
    pub const fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// The time in which one call comes back.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.window / self.count.get()
    }

    /// A share of this quota, at least one call at once, for one of `replicas` that cannot ask each other.
    #[must_use]
    pub fn share(&self, replicas: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(self.burst.get() / replicas.get()).unwrap_or(NonZeroU32::MIN);
        let window = self.window.saturating_mul(replicas.get());
        Self {
            count: self.count,
            window,
            burst,
        }
    }

    pub(super) fn to_governor(self) -> governor::Quota {
        governor::Quota::with_period(self.interval())
            .expect("the interval was found to be above zero")
            .allow_burst(self.burst)
    }
}
