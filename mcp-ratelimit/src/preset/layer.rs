use std::num::NonZeroUsize;
use std::time::Duration;

use mcp_core::ConfigError;
use tower_layer::Layer;

use super::ProviderConfig;
use crate::breaker::{Breaker, BreakerConfig, BreakerLayer, BreakerService};
use crate::meter::{Meter, MeterLayer};
use crate::queue::{QueueLayer, QueueService, QueueStatus};
use crate::rate_limit::{Limit, Overflow, Quota, RateLimit, RateLimitLayer};
use crate::retry::{Backoff, LoopGuard, LoopGuardLayer, RetryLayer, RetryService};
use crate::timeout::{Timeout, TimeoutLayer};

/// How many calls may wait for the limit at once.
const WAITING: usize = 1000;

/// The service that a [`Preset`] makes.
pub type PresetService<S> =
    Meter<LoopGuard<RetryService<RateLimit<BreakerService<QueueService<Timeout<S>>>>>>>;

/// The recommended stack for one provider.
#[must_use]
#[derive(Debug, Clone)]
pub struct Preset {
    meter: MeterLayer,
    guard: LoopGuardLayer,
    retry: RetryLayer,
    limit: RateLimitLayer,
    breaker: BreakerLayer,
    queue: QueueLayer,
    timeout: TimeoutLayer,
    handle: Breaker,
}

impl Preset {
    /// Builds the stack. The name appears in errors, logs and metrics.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] that names the setting, its value and what to give instead.
    pub fn new(name: &str, config: &ProviderConfig) -> Result<Self, ConfigError> {
        let quota = Quota::per_minute(config.requests_per_minute)?.with_burst(config.burst)?;
        let overflow = Overflow::Wait {
            up_to: ms(config.limit_wait_ms),
            waiting: WAITING,
        };
        let (first, most) = (ms(config.retry_first_ms), ms(config.retry_longest_ms));
        let backoff = Backoff::new(config.retry_strategy.into(), first, most)?;
        let reset = ms(config.reset_timeout_ms);
        let rules = BreakerConfig::new()
            .with_consecutive_failures(Some(config.failure_threshold))?
            .with_reset_timeout(
                reset,
                reset
                    .saturating_mul(8)
                    .min(Duration::from_secs(30 * 86_400)),
            )?
            .with_probes(config.probes)?;
        let handle = Breaker::new(name, rules);
        for (option, value) in [
            ("timeout_ms", config.timeout_ms),
            ("idle_timeout_ms", config.idle_timeout_ms),
        ] {
            if value == 0 {
                let (value, remedy) = (value.to_string(), "allow calls some time");
                return Err(ConfigError::new(option, value, remedy));
            }
        }
        let concurrency = NonZeroUsize::new(config.concurrency as usize);
        let concurrency = concurrency
            .ok_or_else(|| ConfigError::new("concurrency", "0", "let at least one call through"))?;
        Ok(Self {
            meter: MeterLayer::new(name),
            guard: LoopGuardLayer::new(config.loop_failures, ms(config.loop_pause_ms))?,
            retry: RetryLayer::safe_only()
                .with_retries(config.max_retries)
                .with_backoff(backoff),
            limit: RateLimitLayer::new(Limit::new(name, quota)).with_overflow(overflow),
            breaker: BreakerLayer::new(handle.clone()),
            queue: QueueLayer::new(name, concurrency)
                .with_queue(config.queue_length as usize)
                .with_deadline(ms(config.queue_timeout_ms)),
            timeout: TimeoutLayer::new(ms(config.timeout_ms)).with_idle(ms(config.idle_timeout_ms)),
            handle,
        })
    }

    /// The breaker, to observe or force.
    #[must_use]
    pub const fn breaker(&self) -> &Breaker {
        &self.handle
    }

    /// The numbers of the queue.
    #[must_use]
    pub fn queue(&self) -> QueueStatus {
        self.queue.status()
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl<S> Layer<S> for Preset {
    type Service = PresetService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let called = self
            .breaker
            .layer(self.queue.layer(self.timeout.layer(inner)));
        let charged = self.limit.layer(called);
        self.meter
            .layer(self.guard.layer(self.retry.layer(charged)))
    }
}
