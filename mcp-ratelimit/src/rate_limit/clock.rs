use std::sync::Arc;

use governor::nanos::Nanos;
use mcp_core::clock::Clock;
use tokio::time::Instant;

/// Our clock in governor's terms: nanoseconds since the limiter was made.
#[derive(Clone, Debug)]
pub(super) struct TickClock {
    clock: Arc<dyn Clock>,
    start: Instant,
}

impl TickClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let start = clock.now();
        Self { clock, start }
    }
}

impl governor::clock::Clock for TickClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let since = self.clock.now().saturating_duration_since(self.start);
        Nanos::new(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2))
    }
}
