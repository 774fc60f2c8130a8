use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use mcp_core::Request;
use mcp_core::clock::{Clock, SystemClock};
use tower_layer::Layer;

use super::{Limit, Limiter, RateLimit};

/// What happens to a call beyond a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It is refused at once.
    Shed,
    /// It waits for its turn if that comes within `up_to` and at most `waiting` calls wait; else it is refused.
    Wait {
        /// The longest wait.
        up_to: Duration,
        /// How many calls may wait at once.
        waiting: usize,
    },
}

/// Applies a [`RateLimit`].
#[must_use]
#[derive(Debug, Clone)]
pub struct RateLimitLayer {
    pub(super) limiter: Limiter<Request>,
    pub(super) overflow: Overflow,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) draft_code: bool,
}

impl RateLimitLayer {
    /// Enforces one limit and sheds what is beyond it.
    pub fn new(limit: Limit) -> Self {
        Self::all([limit])
    }

    /// Enforces several limits: a call has to pass them all.
    pub fn all(limits: impl IntoIterator<Item = Limit>) -> Self {
        Self::with_limiter(Limiter::new(limits, Arc::new(SystemClock::new())))
    }

    /// Enforces several limits by a clock of one's own.
    pub fn with_clock(limits: impl IntoIterator<Item = Limit>, clock: Arc<dyn Clock>) -> Self {
        Self::with_limiter(Limiter::new(limits, clock))
    }

    /// Enforces a limiter that someone else may hold too.
    pub fn with_limiter(limiter: Limiter<Request>) -> Self {
        Self {
            limiter,
            overflow: Overflow::Shed,
            waiting: Arc::default(),
            draft_code: false,
        }
    }

    /// Sets what happens to a call beyond the quota. Default is [`Overflow::Shed`].
    pub const fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Refuses clients of revision 2026-07-28 with the code -32023 and `retryAfterMs`, `limit` and `remaining` in the data, as
    /// SEP-3304 (a draft) has it, in the place of our own code. Default is not to.
    ///
    /// The draft forbids the code for limits of an API behind a tool: a call that is on its way to an upstream keeps our
    /// own code.
    pub const fn with_draft_code(mut self) -> Self {
        self.draft_code = true;
        self
    }

    /// The limiter that all services of this layer share.
    #[must_use]
    pub const fn limiter(&self) -> &Limiter<Request> {
        &self.limiter
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, self.clone())
    }
}
