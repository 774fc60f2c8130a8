//! What all upstreams of a gateway share.

use mcp_core::{Bounds, Timing};

/// Durations and bounds that hold for all upstreams of a gateway together.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) timing: Timing,
    #[cfg(feature = "stdio")]
    pub(crate) processes: crate::connector::stdio::Processes,
    #[cfg(feature = "http")]
    pub(crate) sessions: crate::connector::Allowance,
}

impl Shared {
    pub(crate) fn new(timing: Timing, bounds: &Bounds) -> Self {
        let _ = bounds;
        Self {
            timing,
            #[cfg(feature = "stdio")]
            processes: crate::connector::stdio::Processes::new()
                .with_allowance(crate::connector::Allowance::of_processes(
                    bounds.processes,
                    bounds.processes_per_principal,
                ))
                .with_starts(bounds.starts),
            #[cfg(feature = "http")]
            sessions: crate::connector::Allowance::of_sessions(
                bounds.upstream_sessions,
                bounds.upstream_sessions_per_principal,
            ),
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(Timing::default(), &Bounds::default())
    }
}
