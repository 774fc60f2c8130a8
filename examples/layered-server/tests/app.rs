//! Calls pass through the layers, and the limit says when to come back.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use layered_server::{Units, app, layered};
use mcp_core::transport::http::{HttpConfig, HttpTransport};
use mcp_core::{ErrorKind, Method, Principal, rmcp3::RmcpServer};
use rmcp::{
    ServerHandler, ServiceExt as _,
    handler::server::wrapper::Parameters,
    model::{CallToolRequestParams, ServerCapabilities, ServerConfig, object},
    schemars::JsonSchema,
    service::ServiceError,
    tool, tool_handler, tool_router,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// A server whose tools never answer the first time.
#[derive(Clone, Debug, Default)]
struct Hangs {
    calls: Arc<AtomicU32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Count {
    /// How many.
    n: u32,
}

#[tool_router]
impl Hangs {
    async fn answer(&self, n: u32) -> String {
        match self.calls.fetch_add(1, Ordering::SeqCst) {
            0 => std::future::pending().await,
            _ => n.to_string(),
        }
    }

    /// Changes nothing.
    #[tool(annotations(read_only_hint = true))]
    async fn read(&self, Parameters(Count { n }): Parameters<Count>) -> String {
        self.answer(n).await
    }

    /// Changes something.
    #[tool]
    async fn write(&self, Parameters(Count { n }): Parameters<Count>) -> String {
        self.answer(n).await
    }
}

#[tool_handler]
impl ServerHandler for Hangs {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tool_says_about_itself_decides_what_is_repeated_and_let_through() {
    let ask = async |tool: &str, arguments: Value| {
        let server = Hangs::default();
        let calls = Arc::clone(&server.calls);
        let params = json!({
            "name": tool, "arguments": arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        });
        let request = mcp_core::Request::new(Method::TOOLS_CALL, Some(params.into())).unwrap();
        let answer = layered(server, 60).unwrap().oneshot(request).await;
        let kind = answer.as_ref().err().map(mcp_core::Error::kind);
        (kind, calls.load(Ordering::SeqCst))
    };
    assert_eq!(ask("read", json!({ "n": 1 })).await, (None, 2), "repeated");
    assert_eq!(
        ask("write", json!({ "n": 1 })).await,
        (Some(ErrorKind::Timeout), 1),
        "not repeated"
    );
    assert_eq!(
        ask("read", json!({ "n": "one" })).await,
        (Some(ErrorKind::InvalidParams), 0),
        "refused by its schema"
    );
}

fn call(tool: &str) -> Request<Body> {
    let body = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": tool,
            "arguments": { "degrees": 100.0 },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    });
    Request::post("http://127.0.0.1/mcp")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .body(Body::from(body.to_string()))
        .unwrap()
}

async fn body(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn over_http_the_limit_answers_429_with_a_time() {
    let app = app(HttpTransport::new(
        layered(Units::default(), 2).unwrap(),
        HttpConfig::default(),
    ));
    for _ in 0..2 {
        let response = app.clone().oneshot(call("fahrenheit")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(body(response).await["result"]["content"][0]["text"], "212");
    }
    let refused = app.clone().oneshot(call("fahrenheit")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "30");
    let wait = body(refused).await["error"]["data"]["retryAfterMs"].clone();
    assert!(matches!(wait.as_u64(), Some(29_000..=30_000)), "{wait}");
    let other = app.oneshot(call("celsius")).await.unwrap();
    assert_eq!(other.status(), StatusCode::OK, "each tool has its own");
}

#[tokio::test]
async fn over_rmcps_transports_the_limit_answers_an_error_with_a_time() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let server = RmcpServer::new(layered(Units::default(), 1).unwrap(), Principal::local());
        server.serve(theirs).await.unwrap().waiting().await
    });
    let client = ().serve(ours).await.unwrap();
    let call = || {
        let arguments = object(json!({ "degrees": 32.0 }));
        client.call_tool(CallToolRequestParams::new("celsius").with_arguments(arguments))
    };
    let answer = call().await.unwrap();
    assert_eq!(answer.content[0].as_text().unwrap().text, "0");
    let Err(ServiceError::McpError(refused)) = call().await else {
        panic!("the second call passed")
    };
    assert!(refused.data.unwrap()["retryAfterMs"].is_number());
}
