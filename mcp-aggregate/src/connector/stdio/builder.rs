use std::{fmt, num::NonZeroUsize, sync::Arc};

use mcp_core::{ConfigError, Timing, UpstreamId};

use super::{Command, Processes, Settings, Shared, StdioConnector};
use crate::connector::{SessionScope, lifecycle::State, pool::Pool, turns::Turns};

/// Settings of a [`StdioConnector`].
#[must_use]
pub struct StdioConnectorBuilder {
    settings: Settings,
    turns: Turns,
}

impl StdioConnectorBuilder {
    pub(super) fn new(id: UpstreamId, command: Command) -> Self {
        let settings = Settings {
            id,
            command,
            scope: SessionScope::PerPrincipal,
            limit: 16 << 20,
            timing: Timing::default(),
            processes: Processes::new(),
        };
        Self {
            settings,
            turns: Turns::default(),
        }
    }

    /// Sets who shares a process. Default is [`SessionScope::PerPrincipal`].
    pub fn scope(mut self, scope: SessionScope) -> Self {
        self.settings.scope = scope;
        self
    }

    /// Sets the largest message that is accepted from the process, in bytes. Default is 16 MiB. A longer one fails the call
    /// that it answers.
    pub fn message_limit(mut self, bytes: NonZeroUsize) -> Self {
        self.settings.limit = bytes.get();
        self
    }

    /// Sets the durations: [`Timing::start`], [`Timing::idle`], [`Timing::stop`] and the backoff are the connector's.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.settings.timing = timing;
        self
    }

    /// Sets the bounds that this connector shares with others. Default is bounds of its own.
    pub fn processes(mut self, processes: Processes) -> Self {
        self.settings.processes = processes;
        self
    }

    /// Lets one call at a time reach the server, whichever process and session it is for. For servers that lose what is
    /// written at the same moment. Default is all at once. Pings and listeners run beside calls.
    ///
    /// A call that hangs holds up all others: give the upstream a deadline for its calls.
    pub fn one_call_at_a_time(mut self) -> Self {
        self.turns = Turns::one_at_a_time();
        self
    }

    /// Builds the connector. Nothing is started.
    ///
    /// # Errors
    ///
    /// The command names no program.
    pub fn build(self) -> Result<StdioConnector, ConfigError> {
        let Self { settings, turns } = self;
        if settings.command.program().is_empty() {
            return Err(ConfigError::new(
                "command.program",
                "",
                "the name or path of a program",
            ));
        }
        let pool = Pool::new(settings.processes.allowance().clone(), settings.timing.idle);
        Ok(StdioConnector(Arc::new(Shared {
            settings: Arc::new(settings),
            pool,
            turns,
            state: State::default(),
        })))
    }
}

impl fmt::Debug for StdioConnectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioConnectorBuilder")
            .field("id", &self.settings.id)
            .field("command", &self.settings.command)
            .finish_non_exhaustive()
    }
}
