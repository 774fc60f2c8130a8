//! The span and the id of a call.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use mcp_core::{
    Error, ErrorKind, Json, Principal, Request, Response, UpstreamId,
    transport::http::{HttpConfig, HttpTransport},
};
use serde_json::Value;
use tower::{ServiceExt, service_fn};
use tracing_subscriber::fmt::format::FmtSpan;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn answer(request: Request) -> Result<Response, Error> {
    let id = request.request_id().unwrap();
    let request = request.with_upstream(UpstreamId::new("crm").unwrap());
    tracing::info!("within the call");
    match request.tool() {
        Some("bad") => Err(Error::new(ErrorKind::Timeout, "too slow")),
        Some("data") => {
            let data = Json::parse(r#"{"own":1}"#).unwrap();
            Err(Error::new(ErrorKind::Timeout, "too slow").with_data(data))
        }
        Some("upstream") => Err(Error::from_rpc(
            Json::parse(r#"{"code":-1,"message":"no"}"#).unwrap(),
        )),
        _ => Ok(Response::new(Json::string(&id.to_string()))),
    }
}

/// Calls a tool; returns the answer and what was logged.
async fn call(tool: &str) -> (Value, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let transport = HttpTransport::new(service_fn(answer), HttpConfig::default());
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    );
    let request = http::Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
        .extension(Principal::authenticated("https://issuer.example", "alice"))
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = transport.oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (serde_json::from_slice(&body).unwrap(), log)
}

#[tokio::test]
async fn a_call_has_one_span_that_says_what_it_was_and_what_came_of_it() {
    let (answer, log) = call("good").await;
    let id = answer["result"].as_str().unwrap();
    let closed = log.lines().find(|line| line.contains("close")).unwrap();
    for field in [
        &format!("mcp.call{{id={id}"),
        r#"method="tools/call""#,
        r#"name="good""#,
        r#"era="stateless""#,
        "upstream=crm",
        r#"outcome="complete""#,
    ] {
        assert!(closed.contains(field), "{field}: {closed}");
    }
    assert!(!log.contains("alice"), "the principal is a hash: {log}");
    let within = log.lines().find(|line| line.contains("within")).unwrap();
    assert!(within.contains(id), "{within}");
}

#[tokio::test]
async fn errors_of_this_server_name_the_call() {
    let (answer, log) = call("bad").await;
    let data = &answer["error"]["data"];
    let id = data["requestId"].as_str().unwrap();
    assert_eq!(data["kind"], "timeout");
    assert!(log.contains(&format!("id={id}")) && log.contains(r#"outcome="timeout""#));
    let (answer, _) = call("data").await;
    assert_eq!(answer["error"]["data"]["own"], 1);
    assert!(answer["error"]["data"]["requestId"].is_string());
    let (answer, log) = call("upstream").await;
    assert_eq!(
        answer["error"],
        serde_json::json!({ "code": -1, "message": "no" })
    );
    assert!(log.contains(r#"outcome="answered""#));
}

#[tokio::test]
async fn a_long_name_is_cut_in_the_span() {
    let (_, log) = call(&"x".repeat(2_000)).await;
    assert!(!log.contains(&"x".repeat(200)), "{log}");
}
