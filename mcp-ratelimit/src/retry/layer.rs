use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mcp_core::{ConfigError, Request};
use tower::retry::budget::TpsBudget;
use tower_layer::Layer;

use super::policy::RetryPolicy;
use super::{Backoff, Repeat, Retry};
use crate::timeout::TimeoutLayer;

type Safety = Arc<dyn Fn(&Request) -> Repeat + Send + Sync>;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(super) longest_wait: Duration,
    pub(super) total: Option<Duration>,
    pub(super) safety: Option<Safety>,
    pub(super) budget: Arc<TpsBudget>,
}

/// Applies a [`Retry`].
#[must_use]
#[derive(Clone)]
pub struct RetryLayer {
    settings: Settings,
    attempt: Option<Duration>,
}

impl RetryLayer {
    /// Repeats what is safe to repeat, up to twice, within a budget of a fifth of the calls.
    pub fn safe_only() -> Self {
        let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.2));
        Self {
            settings: Settings {
                retries: 2,
                backoff: Backoff::default(),
                longest_wait: Duration::from_secs(30),
                total: None,
                safety: None,
                budget,
            },
            attempt: None,
        }
    }

    /// Sets how often a call is repeated. Default is 2; zero never repeats.
    pub const fn with_retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// Sets how long to wait before each try. Default is exponential from 200 ms to 10 s.
    pub const fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Sets how long a server may ask to wait. A call that is to wait longer fails at once, with that time.
    /// Default is 30 s.
    pub const fn with_longest_wait(mut self, wait: Duration) -> Self {
        self.settings.longest_wait = wait;
        self
    }

    /// Bounds each try. By default only layers inside of this one do.
    pub const fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt = Some(timeout);
        self
    }

    /// Begins no try that cannot begin within this time of the call. By default only the deadline that the
    /// request carries does so.
    pub const fn with_total(mut self, total: Duration) -> Self {
        self.settings.total = Some(total);
        self
    }

    /// Sets how many tries are paid for: `share` of the successful calls of the last 10 s, and `per_second` on
    /// top. Default is 0.2 and 1.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a share outside of 0 to 10.
    pub fn with_budget(mut self, share: f32, per_second: u32) -> Result<Self, ConfigError> {
        if !(0.0..=10.0).contains(&share) {
            return Err(ConfigError::new(
                "retry_budget",
                share,
                "use a share from 0 to 10",
            ));
        }
        self.settings.budget = Arc::new(TpsBudget::new(Duration::from_secs(10), per_second, share));
        Ok(self)
    }

    /// Decides what is safe to repeat. Default is [`Repeat::of`].
    ///
    /// # Security
    ///
    /// A call that this calls safe may run twice. It is asked before the first try, of a request that a client
    /// wrote.
    pub fn with_safety(
        mut self,
        safety: impl Fn(&Request) -> Repeat + Send + Sync + 'static,
    ) -> Self {
        self.settings.safety = Some(Arc::new(safety));
        self
    }

    /// Also calls safe what carries this member in its `_meta`: a key by which the upstream knows a repetition.
    pub fn with_idempotency_key(self, member: &'static str) -> Self {
        self.with_safety(move |request| {
            let keyed = || request.meta().is_some_and(|meta| meta.contains(member));
            match Repeat::of(request) {
                Repeat::IfNotSent if keyed() => Repeat::Safe,
                known => known,
            }
        })
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        let attempt = match self.attempt {
            Some(timeout) => TimeoutLayer::new(timeout),
            None => TimeoutLayer::by_request(),
        };
        Retry::new(
            attempt.layer(inner),
            RetryPolicy::new(Arc::new(self.settings.clone())),
        )
    }
}

impl fmt::Debug for RetryLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryLayer")
            .field("retries", &self.settings.retries)
            .field("backoff", &self.settings.backoff)
            .finish_non_exhaustive()
    }
}
