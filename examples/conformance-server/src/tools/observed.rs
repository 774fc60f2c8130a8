//! Tools that tell what the server saw.

use std::{sync::atomic::Ordering, time::Duration};

use rmcp::{
    ErrorData, RoleServer,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock, MetaObject, RequestMetaObject},
    service::RequestContext,
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::{fixture::FixtureServer, state::lock};

#[derive(Deserialize, JsonSchema)]
struct SlowCall {
    /// Under which key its outcome is kept
    key: String,
    /// How long it takes when it is not cancelled
    milliseconds: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Key {
    /// The key that the slow call was given
    key: String,
}

#[tool_router(router = observed_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(description = "Takes long, and keeps a record of how it ended")]
    async fn slow_cancellable(
        &self,
        Parameters(SlowCall { key, milliseconds }): Parameters<SlowCall>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        let record = |outcome| lock(&self.shared.outcomes).insert(key.clone(), outcome);
        record("running");
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(milliseconds)) => {
                record("finished");
                Ok("finished".to_owned())
            }
            () = context.ct.cancelled() => {
                record("cancelled");
                Err(ErrorData::internal_error("cancelled", None))
            }
        }
    }

    #[tool(description = "Tells how a slow call ended: running, finished, cancelled or unknown")]
    async fn cancellation_record(&self, Parameters(Key { key }): Parameters<Key>) -> String {
        let outcome = lock(&self.shared.outcomes).get(&key).copied();
        outcome.unwrap_or("unknown").to_owned()
    }

    #[tool(description = "Counts the calls of this session, this one included")]
    async fn session_counter(&self) -> String {
        let before = self.session.counter.fetch_add(1, Ordering::SeqCst);
        (before + 1).to_string()
    }

    #[tool(description = "Returns the metadata of the request, and metadata of its own")]
    async fn report_meta(&self, meta: RequestMetaObject) -> CallToolResult {
        let seen = json!(meta).to_string();
        let mut own = MetaObject::new();
        own.0.insert(
            "example.com/answer".to_owned(),
            json!({ "kept": [1, 2, 3] }),
        );
        CallToolResult::success(vec![ContentBlock::text(seen)]).with_meta(Some(own))
    }

    #[tool(description = "Returns what the client said about itself")]
    async fn report_client(&self, context: RequestContext<RoleServer>) -> CallToolResult {
        CallToolResult::structured(json!({
            "protocolVersion": context.protocol_version(),
            "clientInfo": context.client_info(),
            "capabilities": context.client_capabilities(),
        }))
    }
}
