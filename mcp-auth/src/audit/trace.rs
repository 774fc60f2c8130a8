use std::{fmt, sync::Arc};

use async_trait::async_trait;
use mcp_core::{AuditEvent, AuditSink, Error};

use super::chain;

/// Hands events to `tracing`, as events of the target `mcp_audit`.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TracingAudit;

impl TracingAudit {
    /// Makes the sink; it holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl AuditSink for TracingAudit {
    async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        let text = chain::describe(event).to_string();
        tracing::info!(target: "mcp_audit", action = %chain::bounded(&event.action), event = %text);
        Ok(())
    }
}

/// Records into several sinks, in order. The first that fails ends it.
#[derive(Clone)]
pub struct Everywhere(Vec<Arc<dyn AuditSink>>);

impl Everywhere {
    /// Joins sinks.
    #[must_use]
    pub fn new(sinks: impl IntoIterator<Item = Arc<dyn AuditSink>>) -> Self {
        Self(sinks.into_iter().collect())
    }
}

#[async_trait]
impl AuditSink for Everywhere {
    async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        for sink in &self.0 {
            sink.record(event).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Everywhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Everywhere({})", self.0.len())
    }
}
