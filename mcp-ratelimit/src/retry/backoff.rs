use std::time::Duration;

use mcp_core::ConfigError;

/// How the wait grows from one try to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Growth {
    /// Always the same.
    Fixed,
    /// 1, 2, 3, 4 times the first.
    Linear,
    /// 1, 2, 4, 8 times the first.
    Exponential,
    /// 1, 1, 2, 3, 5 times the first.
    Fibonacci,
    /// By chance between the first wait and three times the one before.
    Decorrelated,
}

/// How much chance there is in a wait, so that many callers do not come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// None.
    None,
    /// The second half of the wait.
    Half,
    /// All of it.
    Full,
}

/// How long to wait before each try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    growth: Growth,
    first: Duration,
    most: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// Begins at `first` and never exceeds `most`. Half of each wait is left to chance.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `first` is zero or above `most`, or `most` above one hour.
    pub fn new(growth: Growth, first: Duration, most: Duration) -> Result<Self, ConfigError> {
        if first.is_zero() || first > most || most > Duration::from_secs(3600) {
            return Err(ConfigError::new(
                "backoff",
                format!("{first:?} to {most:?}"),
                "begin above zero, end at or above the beginning, at one hour at most",
            ));
        }
        Ok(Self {
            growth,
            first,
            most,
            jitter: Jitter::Half,
        })
    }

    /// Sets how much is left to chance. Default is [`Jitter::Half`]. [`Growth::Decorrelated`] is chance already
    /// and ignores it.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The wait before try number `attempt` (the first repetition is 1), after a wait of `previous`, where
    /// `chance` is from 0 up to 1.
    #[must_use]
    pub fn delay(&self, attempt: u32, previous: Duration, chance: f64) -> Duration {
        let attempt = attempt.max(1);
        let times = match self.growth {
            Growth::Fixed => 1,
            Growth::Linear => attempt,
            Growth::Exponential => 1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX),
            Growth::Fibonacci => fibonacci(attempt),
            Growth::Decorrelated => {
                let top = previous.max(self.first).saturating_mul(3).min(self.most);
                let spread = top.saturating_sub(self.first);
                return (self.first + spread.mul_f64(chance.clamp(0.0, 1.0))).min(self.most);
            }
        };
        let whole = self.first.saturating_mul(times).min(self.most);
        let sure = match self.jitter {
            Jitter::None => 1.0,
            Jitter::Half => 0.5,
            Jitter::Full => 0.0,
        };
        whole
            .mul_f64(sure + (1.0 - sure) * chance.clamp(0.0, 1.0))
            .min(self.most)
    }
}

impl Default for Backoff {
    /// Exponential from 200 ms to 10 s with half of each wait left to chance.
    fn default() -> Self {
        Self {
            growth: Growth::Exponential,
            first: Duration::from_millis(200),
            most: Duration::from_secs(10),
            jitter: Jitter::Half,
        }
    }
}

fn fibonacci(n: u32) -> u32 {
    let (mut a, mut b) = (1u32, 1u32);
    for _ in 2..n.min(64) {
        (a, b) = (b, a.saturating_add(b));
    }
    b
}
