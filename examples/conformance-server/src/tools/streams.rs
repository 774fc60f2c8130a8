//! Tools that send notifications before they return.
#![expect(
    deprecated,
    reason = "MCP 2026-07-28 deprecates logging, and clients still use it"
)]

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    handler::server::wrapper::Parameters,
    model::{LoggingLevel, ProgressNotificationParam},
    service::RequestContext,
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::{fixture::FixtureServer, log::LEVELS};

const PAUSE: Duration = Duration::from_millis(50);

#[derive(Deserialize, JsonSchema)]
struct Steps {
    /// How many progress notifications to send
    steps: u32,
    /// What each message begins with
    label: String,
}

#[derive(Deserialize, JsonSchema)]
struct Label {
    /// What the data of each message holds
    label: String,
}

#[tool_router(router = stream_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(description = "Sends three log messages")]
    async fn test_tool_with_logging(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        let info = LoggingLevel::Info;
        self.log(&context, info, json!("Tool execution started"))
            .await?;
        tokio::time::sleep(PAUSE).await;
        self.log(&context, info, json!("Tool processing data"))
            .await?;
        tokio::time::sleep(PAUSE).await;
        self.log(&context, info, json!("Tool execution completed"))
            .await?;
        Ok("Three messages were logged".to_owned())
    }

    #[tool(description = "Logs once, if the request allows it")]
    async fn test_logging_tool(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        let data = json!({ "event": "test_logging_tool", "nested": { "kept": true } });
        self.log(&context, LoggingLevel::Info, data).await?;
        Ok("Logged, if a log level was set".to_owned())
    }

    #[tool(description = "Logs one message at each of the eight levels")]
    async fn log_all_levels(
        &self,
        Parameters(Label { label }): Parameters<Label>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        for (number, level) in LEVELS.into_iter().enumerate() {
            let data = json!({ "label": label, "number": number });
            self.log(&context, level, data).await?;
        }
        Ok("Logged at every level".to_owned())
    }

    #[tool(description = "Reports progress three times")]
    async fn test_tool_with_progress(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        for done in [0.0, 50.0, 100.0] {
            report(&context, done, 100.0, format!("{done} of 100")).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok("Reported progress three times".to_owned())
    }

    #[tool(description = "Reports progress as often as it is told to, without a pause")]
    async fn progress_steps(
        &self,
        Parameters(Steps { steps, label }): Parameters<Steps>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        for step in 1..=steps {
            let message = format!("{label} {step}");
            report(&context, step.into(), steps.into(), message).await?;
        }
        Ok(format!("{label} done"))
    }

    #[tool(description = "Takes long enough for a client to lose the stream and resume it")]
    async fn test_reconnection(&self) -> String {
        tokio::time::sleep(PAUSE).await;
        "Reconnection was not needed, or it worked".to_owned()
    }
}

/// Reports progress to the client, if it gave a token.
async fn report(
    context: &RequestContext<RoleServer>,
    done: f64,
    total: f64,
    message: String,
) -> Result<(), ErrorData> {
    let Some(token) = context.meta.get_progress_token() else {
        return Ok(());
    };
    let progress = ProgressNotificationParam::new(token, done)
        .with_total(total)
        .with_message(message);
    let sent = context.peer.notify_progress(progress).await;
    sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}
