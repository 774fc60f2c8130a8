use crate::{Bounds, Principal, Timing};

/// Settings of the stdio transport.
#[derive(Clone, Debug)]
#[must_use]
pub struct StdioConfig {
    pub(super) principal: Principal,
    pub(super) timing: Timing,
    pub(super) bounds: Bounds,
}

impl Default for StdioConfig {
    fn default() -> Self {
        Self {
            principal: Principal::local(),
            timing: Timing::default(),
            bounds: Bounds::default(),
        }
    }
}

impl StdioConfig {
    /// Sets who calls. Default is [`Principal::local`], the user who started the process.
    pub fn with_principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// Sets the durations: [`Timing::stall`] and [`Timing::flush`] are the transport's.
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Sets the limits: [`Bounds::line`], [`Bounds::calls_per_session`], [`Bounds::subscriptions`] and
    /// [`Bounds::batch`] are the transport's.
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }
}
