use std::num::NonZeroU32;
use std::time::Duration;

use mcp_core::ConfigError;

/// When a breaker opens, for how long, and what closes it again.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    pub(super) consecutive: Option<NonZeroU32>,
    pub(super) failure_rate: f64,
    pub(super) slow_rate: f64,
    pub(super) slow_call: Option<Duration>,
    pub(super) min_calls: NonZeroU32,
    pub(super) window: Duration,
    pub(super) reset: Duration,
    pub(super) max_reset: Duration,
    pub(super) jitter: f64,
    pub(super) probes: NonZeroU32,
    pub(super) lease: Duration,
}

fn wrong(option: &'static str, value: impl std::fmt::Display, remedy: &'static str) -> ConfigError {
    ConfigError::new(option, value, remedy)
}

fn rate(option: &'static str, rate: f64) -> Result<f64, ConfigError> {
    if rate > 0.0 && rate <= 1.0 {
        Ok(rate)
    } else {
        Err(wrong(option, rate, "use a share above 0 and up to 1"))
    }
}

fn time(option: &'static str, time: Duration) -> Result<Duration, ConfigError> {
    let most = Duration::from_secs(30 * 86_400);
    if time >= Duration::from_millis(1) && time <= most {
        Ok(time)
    } else {
        Err(wrong(option, format!("{time:?}"), "use 1 ms to 30 days"))
    }
}

fn count(option: &'static str, count: u32) -> Result<NonZeroU32, ConfigError> {
    NonZeroU32::new(count).ok_or_else(|| wrong(option, count, "use at least 1"))
}

impl BreakerConfig {
    /// Opens after 5 failures in a row, or when half of at least 10 calls within 60 s failed; stays open for
    /// 30 s, doubled up to 10 min each time a probe fails, and up to a fifth longer by chance; closes after one
    /// good probe.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            consecutive: NonZeroU32::new(5),
            failure_rate: 0.5,
            slow_rate: 1.0,
            slow_call: None,
            min_calls: NonZeroU32::MIN.saturating_add(9),
            window: Duration::from_secs(60),
            reset: Duration::from_secs(30),
            max_reset: Duration::from_secs(600),
            jitter: 0.2,
            probes: NonZeroU32::MIN,
            lease: Duration::from_secs(60),
        }
    }

    /// Sets how many failures in a row open it; `None` does not count them. Default is 5.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for zero.
    pub fn with_consecutive_failures(mut self, failures: Option<u32>) -> Result<Self, ConfigError> {
        self.consecutive = failures
            .map(|failures| count("consecutive_failures", failures))
            .transpose()?;
        Ok(self)
    }

    /// Sets which share of failures within the window opens it, of at least `min_calls` calls. Default is a half
    /// of 10.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a share outside of 0 to 1, for 0, and for no calls.
    pub fn with_failure_rate(mut self, share: f64, min_calls: u32) -> Result<Self, ConfigError> {
        self.failure_rate = rate("failure_rate", share)?;
        self.min_calls = count("min_calls", min_calls)?;
        Ok(self)
    }

    /// Sets which share of calls slower than `slow_call` opens it. By default slowness does not.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a share outside of 0 to 1, for 0, and for a time outside of 1 ms to 30 days.
    pub fn with_slow_calls(mut self, slow_call: Duration, share: f64) -> Result<Self, ConfigError> {
        self.slow_call = Some(time("slow_call", slow_call)?);
        self.slow_rate = rate("slow_call_rate", share)?;
        Ok(self)
    }

    /// Sets the stretch of time that rates are taken over. Default is 60 s; it moves on in tenths.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] outside of 1 ms to 30 days.
    pub fn with_window(mut self, window: Duration) -> Result<Self, ConfigError> {
        self.window = time("window", window)?;
        Ok(self)
    }

    /// Sets how long it stays open at first and at most. Default is 30 s and 10 min.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] outside of 1 ms to 30 days, or when `most` is less than `first`.
    pub fn with_reset_timeout(
        mut self,
        first: Duration,
        most: Duration,
    ) -> Result<Self, ConfigError> {
        self.reset = time("reset", first)?;
        self.max_reset = time("max_reset", most)?;
        if most < first {
            return Err(wrong(
                "max_reset",
                format!("{most:?}"),
                "use at least the first one",
            ));
        }
        Ok(self)
    }

    /// Sets by which share at most chance prolongs the time open. Default is 0.2; 0 turns chance off.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] outside of 0 to 1.
    pub fn with_jitter(mut self, share: f64) -> Result<Self, ConfigError> {
        self.jitter = if share == 0.0 {
            0.0
        } else {
            rate("jitter", share)?
        };
        Ok(self)
    }

    /// Sets how many probes may be in flight at once, and how many must succeed to close it. Default is 1.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for zero.
    pub fn with_probes(mut self, probes: u32) -> Result<Self, ConfigError> {
        self.probes = count("probes", probes)?;
        Ok(self)
    }

    /// Sets after which time an unanswered probe no longer keeps others out. Default is 60 s.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] outside of 1 ms to 30 days.
    pub fn with_probe_lease(mut self, lease: Duration) -> Result<Self, ConfigError> {
        self.lease = time("lease", lease)?;
        Ok(self)
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::new()
    }
}
