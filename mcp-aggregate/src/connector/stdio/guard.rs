//! The end of process groups with this program, where the system has process groups.

use tokio::process::Command;

#[cfg(unix)]
pub(super) use super::watchdog::Watched as Guarded;

#[cfg(unix)]
#[derive(Clone)]
pub(super) struct Guards(std::sync::Arc<super::watchdog::Watchdog>);

#[cfg(unix)]
impl Guards {
    pub(super) fn new() -> Self {
        Self(std::sync::Arc::new(super::watchdog::Watchdog::new()))
    }

    /// Prepares a command that is about to be run.
    pub(super) fn prepare(&self, command: &mut Command) {
        self.0.prepare(command);
    }

    /// Has a process group killed when this program ends.
    pub(super) fn watch(&self, group: u32) -> Guarded {
        self.0.watch(group)
    }
}

#[cfg(not(unix))]
pub(super) struct Guarded;

#[cfg(not(unix))]
#[derive(Clone)]
pub(super) struct Guards;

#[cfg(not(unix))]
impl Guards {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn prepare(&self, _: &mut Command) {}

    pub(super) fn watch(&self, _: u32) -> Guarded {
        Guarded
    }
}
