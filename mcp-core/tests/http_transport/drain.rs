//! The end of a transport.

use std::time::Duration;

use crate::{
    raw::{Raw, Stream},
    server::{Server, opening},
};

const LONG: Duration = Duration::from_secs(60);

fn call(session: &str, tool: &str) -> Raw {
    let params = format!(r#"{{"name":"{tool}","_meta":{{"progressToken":7}}}}"#);
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    Raw::in_session(session, body)
}

/// Reads a stream to its end and returns its last event.
async fn last(mut stream: Stream) -> String {
    let mut last = String::new();
    while let Some(event) = stream.event().await {
        last = event;
    }
    last
}

#[tokio::test]
async fn a_drain_lets_calls_finish_and_refuses_new_ones() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let standalone = Raw::new("GET")
        .with("accept", "text/event-stream")
        .with("mcp-session-id", &session);
    let standalone = standalone.open(server.address).await;
    let listen = Raw::stateless("subscriptions/listen", r#""notifications":{}"#);
    let listening = listen.open(server.address).await;
    let mut running = call(&session, "ask").open(server.address).await;
    let asked = loop {
        let event = running.event().await.unwrap();
        if event.contains("roots/list") {
            break event;
        }
    };
    let draining = {
        let transport = server.transport.clone();
        tokio::spawn(async move { transport.drain(LONG).await })
    };
    while server.transport.is_ready() {
        tokio::task::yield_now().await;
    }
    for raw in [
        call(&session, "echo"),
        Raw::post(opening("2025-11-25")),
        Raw::stateless("tools/list", ""),
        listen,
    ] {
        let refused = raw.send(server.address).await;
        assert_eq!((refused.status, refused.code()), (503, -31030));
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert!(last(listening).await.contains("result"));
    assert!(!draining.is_finished());
    let data = asked.split("data: ").nth(1).unwrap();
    let asked: serde_json::Value = serde_json::from_str(data).unwrap();
    let roots = format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"roots":[]}}}}"#,
        asked["id"]
    );
    let answered = Raw::in_session(&session, roots).send(server.address).await;
    assert_eq!(answered.status, 202);
    assert!(last(running).await.contains(r#""result":{"roots":[]}"#));
    assert!(draining.await.unwrap());
    assert!(!last(standalone).await.contains("error"));
}

#[tokio::test]
async fn a_drain_gives_up_at_its_deadline_and_closing_answers_what_is_left() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let sessions = call(&session, "wait").open(server.address).await;
    assert_eq!(server.event().await, "started");
    let wait = Raw::stateless("tools/call", r#""name":"wait""#).with("mcp-name", "wait");
    let stateless = wait.open(server.address).await;
    assert_eq!(server.event().await, "started");
    assert!(!server.transport.drain(Duration::from_millis(10)).await);
    server.transport.close().await;
    assert_eq!(server.transport.sessions(), 0);
    for stream in [sessions, stateless] {
        let answer = last(stream).await;
        assert!(answer.contains("-31050"), "{answer}");
    }
    assert_eq!(server.event().await, "dropped");
    assert_eq!(server.event().await, "dropped");
    let refused = wait.send(server.address).await;
    assert_eq!(refused.status, 503);
}
