use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::retry::Growth;

/// How the wait between tries grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryStrategy {
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

impl From<RetryStrategy> for Growth {
    fn from(strategy: RetryStrategy) -> Self {
        match strategy {
            RetryStrategy::Fixed => Self::Fixed,
            RetryStrategy::Linear => Self::Linear,
            RetryStrategy::Exponential => Self::Exponential,
            RetryStrategy::Fibonacci => Self::Fibonacci,
            RetryStrategy::Decorrelated => Self::Decorrelated,
        }
    }
}

macro_rules! provider {
    ($($(#[$meta:meta])* $field:ident / $setter:ident: $type:ty = $default:expr;)*) => {
        /// What is known about a provider, as it stands in a configuration file. Unknown members are refused; durations are
        /// text with units, as in `"10s"`, `"1m 30s"` or `"250ms"`.
        ///
        /// [`Preset::new`](super::Preset::new) checks it.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        #[must_use]
        pub struct ProviderConfig {
            $($(#[$meta])* pub $field: $type,)*
        }

        impl Default for ProviderConfig {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl ProviderConfig {
            $(
                #[doc = concat!("Sets [`ProviderConfig::", stringify!($field), "`].")]
                pub const fn $setter(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

provider! {
    /// Calls that the provider allows in a minute. Default is 600.
    requests_per_minute / with_requests_per_minute: u32 = 600;
    /// Calls that it allows at once. Default is 20.
    burst / with_burst: u32 = 20;
    /// How long a call waits for its turn under the limit. Default is 1 s; zero refuses at once.
    #[serde(with = "mcp_core::duration")]
    limit_wait / with_limit_wait: Duration = Duration::from_secs(1);
    /// Calls in flight at once. Default is 16.
    concurrency / with_concurrency: u32 = 16;
    /// Calls that wait for a place. Default is 100; zero refuses at once.
    queue_length / with_queue_length: u32 = 100;
    /// How long a call waits for a place. Default is 10 s.
    #[serde(with = "mcp_core::duration")]
    queue_timeout / with_queue_timeout: Duration = Duration::from_secs(10);
    /// How the wait between tries grows. Default is `exponential`.
    retry_strategy / with_retry_strategy: RetryStrategy = RetryStrategy::Exponential;
    /// Repetitions of a call that is safe to repeat. Default is 2; zero never repeats.
    max_retries / with_max_retries: u32 = 2;
    /// The first wait between tries. Default is 200 ms.
    #[serde(with = "mcp_core::duration")]
    retry_first / with_retry_first: Duration = Duration::from_millis(200);
    /// The longest wait between tries, at least the first, at most one hour. Default is 10 s.
    #[serde(with = "mcp_core::duration")]
    retry_longest / with_retry_longest: Duration = Duration::from_secs(10);
    /// Failures in a row that open the breaker. Default is 5.
    failure_threshold / with_failure_threshold: u32 = 5;
    /// How long the breaker stays open at first. Default is 30 s.
    #[serde(with = "mcp_core::duration")]
    reset_timeout / with_reset_timeout: Duration = Duration::from_secs(30);
    /// Probes that close the breaker. Default is 1.
    probes / with_probes: u32 = 1;
    /// The longest time of one try. Default is 60 s.
    #[serde(with = "mcp_core::duration")]
    timeout / with_timeout: Duration = Duration::from_secs(60);
    /// The longest time without a sign of life. Default is 30 s.
    #[serde(with = "mcp_core::duration")]
    idle_timeout / with_idle_timeout: Duration = Duration::from_secs(30);
    /// Permanent failures of the same call before it is stopped. Default is 3.
    loop_failures / with_loop_failures: u32 = 3;
    /// How long such a call is stopped. Default is 60 s.
    #[serde(with = "mcp_core::duration")]
    loop_pause / with_loop_pause: Duration = Duration::from_secs(60);
}
