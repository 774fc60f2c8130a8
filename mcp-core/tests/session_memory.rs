//! How much memory a session takes, as the allocator counts it.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use mcp_core::{
    Error, Method, Notification, Request, Response,
    transport::http::{HttpConfig, HttpTransport, ResponseBody},
};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tower::{Service, service_fn};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SESSIONS: usize = 200;

fn held() -> usize {
    let stats = COUNTING.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

async fn answer(request: Request) -> Result<Response, Error> {
    match *request.method() {
        Method::SUBSCRIPTIONS_LISTEN => {
            let honoured = json!({ "notifications": { "toolsListChanged": true } });
            let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(honoured.into()));
            request.notifier().notify(acknowledged).await?;
            std::future::pending().await
        }
        _ => Ok(Response::new(
            json!({ "capabilities": { "tools": { "listChanged": true } } }).into(),
        )),
    }
}

async fn send(
    transport: &mut (
             impl Service<
        http::Request<Full<Bytes>>,
        Response = http::Response<ResponseBody>,
        Error = std::convert::Infallible,
    > + Clone
         ),
    request: http::request::Builder,
    body: String,
) -> http::Response<ResponseBody> {
    let request = request
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    transport.call(request).await.unwrap()
}

#[tokio::test]
async fn a_session_is_small_whatever_its_initialize_held() {
    let mut transport = HttpTransport::new(service_fn(answer), HttpConfig::default());
    let padding = "x".repeat(500_000);
    let opening = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": { "roots": { "listChanged": true }, "sampling": {}, "elicitation": {} },
        "clientInfo": { "name": "a client with a name", "version": "1.2.3" },
        "padding": padding,
    } })
    .to_string();
    let mut sessions = Vec::with_capacity(SESSIONS);
    let mut before = 0;
    for number in 0..=SESSIONS {
        if number == 1 {
            // The first has made what all share.
            before = held();
        }
        let post = http::Request::post("/mcp");
        let opened = send(&mut transport, post, opening.clone()).await;
        assert_eq!(opened.status(), 200);
        let id = opened.headers()["mcp-session-id"].to_str().unwrap();
        sessions.push(id.to_owned());
    }
    let idle = (held() - before) / SESSIONS;
    assert!(idle <= 6 << 10, "an idle session takes {idle} bytes");

    let before = held();
    let mut streams = Vec::with_capacity(SESSIONS);
    for session in &sessions[1..] {
        let get = http::Request::get("/mcp").header("mcp-session-id", session);
        let opened = send(&mut transport, get, String::new()).await;
        assert_eq!(opened.status(), 200);
        let mut body = opened.into_body();
        let nothing = futures_util::FutureExt::now_or_never(body.frame());
        assert!(nothing.is_none());
        streams.push(body);
        tokio::task::yield_now().await;
    }
    let open = idle + (held() - before) / SESSIONS;
    assert!(
        open <= 8 << 10,
        "a session with a stream takes {open} bytes beside its connection"
    );
    assert_eq!(transport.sessions(), SESSIONS + 1);
    eprintln!("idle: {idle} bytes, with an open stream: {open} bytes");
}
