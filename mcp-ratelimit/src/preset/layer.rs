use std::num::NonZeroUsize;
use std::time::Duration;

use mcp_core::{ConfigCheck, ConfigError, ConfigErrors, duration::show};
use tower_layer::Layer;

use super::ProviderConfig;
use crate::breaker::{Breaker, BreakerConfig, BreakerLayer, BreakerService};
use crate::meter::{Meter, MeterLayer};
use crate::queue::{Queue, QueueLayer, QueueStatus};
use crate::rate_limit::{Limit, Overflow, Quota, RateLimit, RateLimitLayer};
use crate::retry::{Backoff, LoopGuard, LoopGuardLayer, Retry, RetryLayer};
use crate::timeout::{Timeout, TimeoutLayer};

/// How many calls may wait for the limit at once.
const WAITING: usize = 1000;

/// The service that a [`Preset`] makes.
pub type PresetService<S> = Meter<LoopGuard<Retry<RateLimit<BreakerService<Queue<Timeout<S>>>>>>>;

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
    /// All settings that cannot be used, each with its name, its value and what to give instead.
    pub fn new(name: &str, config: &ProviderConfig) -> Result<Self, ConfigErrors> {
        let built = ConfigErrors::collect(|check| Self::checked(name, config, check))?;
        // A part that is missing has left an error.
        built.ok_or_else(|| ConfigError::new("preset", name, "settings that can be used").into())
    }

    fn checked(name: &str, config: &ProviderConfig, check: &mut ConfigCheck) -> Option<Self> {
        let quota = check.take(named(
            "requests_per_minute",
            Quota::per_minute(config.requests_per_minute),
        ));
        let quota = quota.and_then(|quota| check.take(quota.with_burst(config.burst)));
        let (first, most) = (config.retry_first, config.retry_longest);
        let backoff = named(
            "retry_longest",
            Backoff::new(config.retry_strategy.into(), first, most),
        );
        let backoff = check.take(backoff);
        let guard = LoopGuardLayer::new(config.loop_failures, config.loop_pause);
        let guard = check.take(named("loop_failures", guard));
        let rules = check.take(breaker(config));
        for (option, value) in [
            ("timeout", config.timeout),
            ("idle_timeout", config.idle_timeout),
        ] {
            check.require(
                !value.is_zero(),
                option,
                show(value),
                "allow calls some time",
            );
        }
        let concurrency = NonZeroUsize::new(config.concurrency as usize);
        check.require(
            concurrency.is_some(),
            "concurrency",
            0,
            "let at least one call through",
        );
        let overflow = Overflow::Wait {
            up_to: config.limit_wait,
            waiting: WAITING,
        };
        let handle = Breaker::new(name, rules?);
        Some(Self {
            meter: MeterLayer::new(name),
            guard: guard?,
            retry: RetryLayer::safe_only()
                .with_retries(config.max_retries)
                .with_backoff(backoff?),
            limit: RateLimitLayer::new(Limit::new(name, quota?)).with_overflow(overflow),
            breaker: BreakerLayer::new(handle.clone()),
            queue: QueueLayer::new(name, concurrency?)
                .with_queue(config.queue_length as usize)
                .with_deadline(config.queue_timeout),
            timeout: TimeoutLayer::new(config.timeout).with_idle(config.idle_timeout),
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

/// Gives an error the name of the setting that it is about.
fn named<T>(key: &'static str, result: Result<T, ConfigError>) -> Result<T, ConfigError> {
    result.map_err(|error| ConfigError::new(key, error.given(), error.allowed().to_owned()))
}

fn breaker(config: &ProviderConfig) -> Result<BreakerConfig, ConfigErrors> {
    ConfigErrors::collect(|check| {
        let own = BreakerConfig::new();
        let failures = own
            .clone()
            .with_consecutive_failures(Some(config.failure_threshold));
        let failures = check.take(named("failure_threshold", failures));
        let reset = config.reset_timeout;
        let most = reset
            .saturating_mul(8)
            .min(Duration::from_secs(30 * 86_400));
        let timed = failures
            .unwrap_or_else(|| own.clone())
            .with_reset_timeout(reset, most);
        let timed = check.take(named("reset_timeout", timed)).unwrap_or(own);
        check.take(named("probes", timed.with_probes(config.probes)))
    })
    .map(Option::unwrap_or_default)
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
