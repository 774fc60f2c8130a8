use std::num::NonZeroUsize;

use crate::{ConfigError, Principal};

/// Settings of the stdio transport.
#[derive(Clone, Debug)]
#[must_use]
pub struct StdioConfig {
    pub(super) principal: Principal,
    pub(super) line_limit: usize,
    pub(super) calls: NonZeroUsize,
}

impl Default for StdioConfig {
    fn default() -> Self {
        Self {
            principal: Principal::local(),
            line_limit: 16 << 20,
            calls: NonZeroUsize::MIN.saturating_add(1023),
        }
    }
}

impl StdioConfig {
    /// Sets who calls. Default is [`Principal::local`], the user who started the process.
    pub fn with_principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// Sets the longest line in bytes. Default is 16 MiB.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for 0.
    pub fn with_line_limit(mut self, bytes: usize) -> Result<Self, ConfigError> {
        if bytes == 0 {
            return Err(ConfigError::new(
                "line_limit",
                "0",
                "give the longest line to accept, in bytes",
            ));
        }
        self.line_limit = bytes;
        Ok(self)
    }

    /// Sets how many requests may be in progress at once. Default is 1024.
    pub fn with_max_calls(mut self, calls: NonZeroUsize) -> Self {
        self.calls = calls;
        self
    }
}
