//! A real rmcp server behind the layers, and a real rmcp client before them.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_core::Principal;
use mcp_core::rmcp3::{RmcpServer, serve};
use mcp_ratelimit::diagnose::ToolFailureLayer;
use mcp_ratelimit::preset::{Preset, ProviderConfig};
use mcp_ratelimit::rate_limit::{KeyPart, Limit, Quota, RateLimitLayer};
use mcp_ratelimit::timeout::TimeoutLayer;
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock};
use rmcp::service::{RequestContext, RunningService, ServiceError};
use rmcp::{ErrorData, RoleClient, RoleServer, ServerHandler, ServiceExt};

#[derive(Clone, Default)]
struct Tools(Arc<AtomicU32>);

impl ServerHandler for Tools {
    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        match &*call.name {
            "hang" => std::future::pending().await,
            "wrong" => Err(ErrorData::invalid_params("no such thing", None)),
            _ => Ok(CallToolResult::success(vec![ContentBlock::text(number.to_string())]).into()),
        }
    }
}

async fn client(service: impl mcp_core::Seam) -> RunningService<RoleClient, ()> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let server = RmcpServer::new(service, Principal::local())
            .serve(theirs)
            .await
            .unwrap();
        server.waiting().await.unwrap();
    });
    ().serve(ours).await.unwrap()
}

async fn call(
    client: &RunningService<RoleClient, ()>,
    tool: &'static str,
) -> Result<(), ErrorData> {
    match client.call_tool(CallToolRequestParams::new(tool)).await {
        Ok(_) => Ok(()),
        Err(ServiceError::McpError(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_limit_speaks_to_the_model() {
    let limit =
        Limit::new("tools", Quota::per_hour(2).unwrap()).per([KeyPart::Principal, KeyPart::Tool]);
    let tools = Tools::default();
    let service = serve(tools.clone())
        .layer(RateLimitLayer::new(limit))
        .into_service();
    let client = client(service).await;
    call(&client, "a").await.unwrap();
    call(&client, "a").await.unwrap();
    let refused = call(&client, "a").await.unwrap_err();
    assert_eq!(refused.code.0, -31029);
    assert!(
        refused.message.contains("try again in 1800 s"),
        "{}",
        refused.message
    );
    let data = refused.data.unwrap();
    assert_eq!(
        (&data["limit"], data["quota"].as_u64()),
        (&"tools".into(), Some(2))
    );
    assert!(data["retryAfterMs"].as_u64().unwrap() > 1_790_000);
    call(&client, "b").await.unwrap();
    assert_eq!(tools.0.load(Ordering::SeqCst), 3);
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn the_preset_stops_what_hangs_and_what_is_repeated_in_vain() {
    let config: ProviderConfig =
        serde_json::from_str(r#"{"timeout":"100ms","failure_threshold":2}"#).unwrap();
    let preset = Preset::new("tools", &config).unwrap();
    let tools = Tools::default();
    let client = client(serve(tools.clone()).layer(preset.clone()).into_service()).await;
    call(&client, "fine").await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            call(&client, "wrong").await.unwrap_err().message,
            "no such thing",
            "unchanged"
        );
    }
    let stopped = call(&client, "wrong").await.unwrap_err();
    assert!(
        stopped.message.contains("has failed 3 times"),
        "{}",
        stopped.message
    );
    for _ in 0..2 {
        assert_eq!(call(&client, "hang").await.unwrap_err().code.0, -31040);
    }
    assert_eq!(
        call(&client, "fine").await.unwrap_err().code.0,
        -31031,
        "the breaker is open"
    );
    assert_eq!(tools.0.load(Ordering::SeqCst), 6);
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_call_that_hangs_is_ended() {
    let service = serve(Tools::default())
        .layer(TimeoutLayer::new(Duration::from_millis(50)))
        .into_service();
    let client = client(service).await;
    assert_eq!(call(&client, "hang").await.unwrap_err().code.0, -31040);
    call(&client, "fine").await.unwrap();
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_refusal_as_a_result_is_read_by_a_client_and_an_upstreams_own_error_is_unchanged() {
    let limit = Limit::new("tools", Quota::per_hour(1).unwrap()).per([KeyPart::Tool]);
    let service = serve(Tools::default())
        .layer(ToolFailureLayer::new())
        .layer(RateLimitLayer::new(limit))
        .into_service();
    let client = client(service).await;
    call(&client, "fine").await.unwrap();
    let refused = client
        .call_tool(CallToolRequestParams::new("fine"))
        .await
        .unwrap();
    assert_eq!(refused.is_error, Some(true));
    let failure = &refused.meta.unwrap().0["io.modelcontextprotocol/toolFailure"];
    assert_eq!(failure["class"], "governance");
    assert_eq!(failure["code"], "rate_limited");
    let wrong = call(&client, "wrong").await.unwrap_err();
    assert_eq!(wrong.message, "no such thing");
    client.cancel().await.unwrap();
}
