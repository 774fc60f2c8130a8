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

/// What is known about a provider, as it stands in a configuration file. Unknown members are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProviderConfig {
    /// Calls that the provider allows in a minute. Default is 600.
    pub requests_per_minute: u32,
    /// Calls that it allows at once. Default is 20.
    pub burst: u32,
    /// How long a call waits for its turn under the limit, in milliseconds. Default is 1000; zero refuses at once.
    pub limit_wait_ms: u64,
    /// Calls in flight at once. Default is 16.
    pub concurrency: u32,
    /// Calls that wait for a place. Default is 100; zero refuses at once.
    pub queue_length: u32,
    /// How long a call waits for a place, in milliseconds. Default is 10,000.
    pub queue_timeout_ms: u64,
    /// How the wait between tries grows. Default is `exponential`.
    pub retry_strategy: RetryStrategy,
    /// Repetitions of a call that is safe to repeat. Default is 2; zero never repeats.
    pub max_retries: u32,
    /// The first wait between tries, in milliseconds. Default is 200.
    pub retry_first_ms: u64,
    /// The longest wait between tries, in milliseconds. Default is 10,000.
    pub retry_longest_ms: u64,
    /// Failures in a row that open the breaker. Default is 5.
    pub failure_threshold: u32,
    /// How long the breaker stays open at first, in milliseconds. Default is 30,000.
    pub reset_timeout_ms: u64,
    /// Probes that close the breaker. Default is 1.
    pub probes: u32,
    /// The longest time of one try, in milliseconds. Default is 60,000.
    pub timeout_ms: u64,
    /// The longest time without a sign of life, in milliseconds. Default is 30,000.
    pub idle_timeout_ms: u64,
    /// Permanent failures of the same call before it is stopped. Default is 3.
    pub loop_failures: u32,
    /// How long such a call is stopped, in milliseconds. Default is 60,000.
    pub loop_pause_ms: u64,
}

impl Default for ProviderConfig {
    fn default() -> Self {
        Self {
            requests_per_minute: 600,
            burst: 20,
            limit_wait_ms: 1000,
            concurrency: 16,
            queue_length: 100,
            queue_timeout_ms: 10_000,
            retry_strategy: RetryStrategy::Exponential,
            max_retries: 2,
            retry_first_ms: 200,
            retry_longest_ms: 10_000,
            failure_threshold: 5,
            reset_timeout_ms: 30_000,
            probes: 1,
            timeout_ms: 60_000,
            idle_timeout_ms: 30_000,
            loop_failures: 3,
            loop_pause_ms: 60_000,
        }
    }
}
