//! A session whose client acts before the stack listens for it.
#![cfg(feature = "stdio")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use mcp_core::{
    Error, Method, Notification, Request, Response,
    transport::stdio::{StdioConfig, serve},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::Notify,
    time::timeout,
};
use tower::service_fn;

/// A server of prompts and tools that acknowledges a listener when it is told to, and announces nothing by itself.
async fn answer(request: Request, ready: Arc<Notify>, announces: bool) -> Result<Response, Error> {
    let result = match *request.method() {
        Method::SUBSCRIPTIONS_LISTEN => {
            ready.notified().await;
            let honoured = json!({ "notifications": { "toolsListChanged": true } });
            let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(honoured.into()));
            request.notifier().notify(acknowledged).await?;
            std::future::pending().await
        }
        Method::TOOLS_CALL => json!({ "content": [] }),
        _ => json!({ "capabilities": { "tools": { "listChanged": announces } } }),
    };
    Ok(Response::new(result.into()))
}

/// Opens a session, sends `calls` before the listener is acknowledged and a ping after, and returns all that comes back.
async fn told_after(announces: bool, calls: &[Value]) -> Vec<Value> {
    let (here, there) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(there);
    let ready = Arc::new(Notify::new());
    let told = Arc::clone(&ready);
    let service = service_fn(move |request| answer(request, Arc::clone(&told), announces));
    let server = tokio::spawn(serve(service, reader, writer, StdioConfig::default()));
    let (reader, mut writer) = tokio::io::split(here);
    let mut lines = BufReader::new(reader).lines();
    let opening = json!({
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
    });
    let opening = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let mut heard = Vec::new();
    for message in [&opening, &initialized].into_iter().chain(calls) {
        writer
            .write_all(format!("{message}\n").as_bytes())
            .await
            .unwrap();
        if message.get("id").is_some() {
            heard.push(serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap());
        }
    }
    ready.notify_one();
    let wait = Duration::from_millis(200);
    while let Ok(line) = timeout(wait, lines.next_line()).await {
        heard.push(serde_json::from_str(&line.unwrap().unwrap()).unwrap());
    }
    server.abort();
    heard.split_off(1 + calls.len())
}

#[tokio::test]
async fn a_tool_called_before_anybody_listened_is_followed_by_the_changes_it_may_have_made() {
    let call = |method: &str| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "name": "grow" } });
    let told = told_after(true, &[call("tools/call")]).await;
    let methods: Vec<_> = told.iter().map(|message| &message["method"]).collect();
    assert_eq!(
        methods,
        ["notifications/tools/list_changed"],
        "prompts are not listened for"
    );
    assert!(
        told_after(true, &[call("tools/list")]).await.is_empty(),
        "reading changes nothing"
    );
    assert!(told_after(true, &[]).await.is_empty());
}

#[tokio::test]
async fn a_server_that_declares_no_list_changes_announces_none() {
    let call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "grow" } });
    assert!(told_after(false, &[call]).await.is_empty());
}
