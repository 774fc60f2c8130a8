//! Log messages to the client, as both eras want them.
#![expect(
    deprecated,
    reason = "MCP 2026-07-28 deprecates logging, and clients still use it"
)]

use rmcp::{
    ErrorData, RoleServer,
    model::{
        LoggingLevel, LoggingMessageNotificationParam, ProtocolVersion, SetLevelRequestParams,
    },
    service::RequestContext,
};
use serde_json::Value;

use crate::{fixture::FixtureServer, state::lock};

/// Every level, the least severe first.
pub(crate) const LEVELS: [LoggingLevel; 8] = [
    LoggingLevel::Debug,
    LoggingLevel::Info,
    LoggingLevel::Notice,
    LoggingLevel::Warning,
    LoggingLevel::Error,
    LoggingLevel::Critical,
    LoggingLevel::Alert,
    LoggingLevel::Emergency,
];

/// The least severe level that is sent. Default is debug: everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threshold(LoggingLevel);

impl Default for Threshold {
    fn default() -> Self {
        Self(LoggingLevel::Debug)
    }
}

impl Threshold {
    fn admits(self, level: LoggingLevel) -> bool {
        level as u8 >= self.0 as u8
    }
}

/// Whether the request belongs to the stateless era.
pub(crate) fn is_stateless(context: &RequestContext<RoleServer>) -> bool {
    context
        .meta
        .protocol_version()
        .is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

impl FixtureServer {
    pub(crate) fn set_threshold(&self, request: &SetLevelRequestParams) {
        *lock(&self.session.log_threshold) = Threshold(request.level);
    }

    /// Sends one log message, if the client asked for messages this severe.
    ///
    /// A stateless request that names no level gets none (MCP 2026-07-28, basic: `_meta`).
    pub(crate) async fn log(
        &self,
        context: &RequestContext<RoleServer>,
        level: LoggingLevel,
        data: Value,
    ) -> Result<(), ErrorData> {
        let threshold = if is_stateless(context) {
            context.meta.log_level().map(Threshold)
        } else {
            Some(*lock(&self.session.log_threshold))
        };
        if !threshold.is_some_and(|threshold| threshold.admits(level)) {
            return Ok(());
        }
        let message = LoggingMessageNotificationParam::new(level, data).with_logger("fixture");
        let sent = context.peer.notify_logging_message(message).await;
        sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_admits_itself_and_what_is_more_severe() {
        let admitted = |threshold| {
            let admits = |level: &&LoggingLevel| Threshold(threshold).admits(**level);
            LEVELS.iter().filter(admits).count()
        };
        assert_eq!(admitted(LoggingLevel::Debug), 8);
        assert_eq!(admitted(LoggingLevel::Error), 4);
        assert_eq!(admitted(LoggingLevel::Emergency), 1);
    }
}
