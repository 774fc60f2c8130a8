//! What clients send that are less than strict.

use crate::{
    raw::Raw,
    server::{Server, opening},
};

fn call(session: &str, tool: &str) -> Raw {
    let params =
        format!(r#"{{"name":"{tool}","arguments":{{"a":1}},"_meta":{{"progressToken":7}}}}"#);
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    Raw::in_session(session, body)
}

fn stateless(tool: &str) -> Raw {
    Raw::stateless(
        "tools/call",
        &format!(r#""name":"{tool}","arguments":{{}}"#),
    )
    .with("mcp-name", tool)
}

fn standalone(session: &str) -> Raw {
    Raw::new("GET")
        .with("accept", "text/event-stream")
        .with("mcp-session-id", session)
}

#[tokio::test]
async fn a_client_that_takes_json_only_gets_json() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    for raw in [
        stateless("echo"),
        stateless("progress"),
        call(&session, "echo"),
        call(&session, "progress"),
    ] {
        let reply = raw.with("accept", "application/json");
        let reply = reply.send(server.address).await;
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.json()["id"], 1, "{reply:?}");
    }
    let mut stream = standalone(&session).open(server.address).await;
    for done in 1..=3 {
        let event = stream.event().await.unwrap();
        assert!(event.contains(&format!(r#""progress":{done}"#)), "{event}");
    }
}

#[tokio::test]
async fn a_request_to_a_client_that_takes_json_only_goes_to_the_standalone_stream() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let mut stream = standalone(&session).open(server.address).await;
    let ask = call(&session, "ask").with("accept", "application/json");
    let address = server.address;
    let answer = tokio::spawn(async move { ask.send(address).await });
    let asked = loop {
        let event = stream.event().await.unwrap();
        if event.contains("roots/list") {
            break event;
        }
    };
    let data = asked.split("data: ").nth(1).unwrap();
    let asked: serde_json::Value = serde_json::from_str(data).unwrap();
    let id = &asked["id"];
    let roots = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":[]}}}}"#);
    let sent = Raw::in_session(&session, roots).send(address).await;
    assert_eq!(sent.status, 202);
    let reply = answer.await.unwrap();
    assert_eq!(reply.json()["result"]["roots"], serde_json::json!([]));
}

#[tokio::test]
async fn a_client_that_takes_events_only_gets_events() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let ping = Raw::in_session(&session, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    for raw in [stateless("echo"), call(&session, "echo"), ping] {
        let raw = raw.with("accept", "text/event-stream");
        let reply = raw.send(server.address).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.events()[0]["id"], 1);
    }
    let opened = Raw::post(opening("2025-11-25")).with("accept", "text/event-stream");
    let opened = opened.send(server.address).await;
    assert!(opened.header("mcp-session-id").is_some());
    assert_eq!(
        opened.events()[0]["result"]["protocolVersion"],
        "2025-11-25"
    );
    let limited = stateless("limited").with("accept", "text/event-stream");
    let limited = limited.send(server.address).await;
    assert_eq!((limited.status, limited.code()), (429, -31029));
}

#[tokio::test]
async fn a_client_without_accept_takes_both() {
    let server = Server::start().await;
    let echo = stateless("echo").without("accept");
    assert_eq!(echo.send(server.address).await.json()["id"], 1);
    let progress = stateless("progress").without("accept");
    assert_eq!(progress.send(server.address).await.events().len(), 4);
}

#[tokio::test]
async fn another_known_revision_in_the_header_is_served_as_negotiated() {
    let server = Server::start().await;
    let session = server.open("2025-06-18", None).await;
    for version in ["2025-06-18", "2025-03-26", "2025-11-25", "2026-07-28"] {
        let reply = call(&session, "progress")
            .with("mcp-protocol-version", version)
            .send(server.address)
            .await;
        assert_eq!(reply.status, 200, "{version}");
        assert!(!reply.body.contains("retry:"), "as in 2025-06-18");
    }
    let end = Raw::new("DELETE")
        .with("mcp-session-id", &session)
        .with("mcp-protocol-version", "2026-07-28");
    assert_eq!(end.send(server.address).await.status, 204);
}

#[tokio::test]
async fn a_client_that_still_names_an_ended_session_can_open_another() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let open = || Raw::post(opening("2025-11-25"));
    let inside = open().with("mcp-session-id", &session);
    let refused = inside.send(server.address).await;
    assert_eq!((refused.status, refused.code()), (400, -32600));
    let end = Raw::new("DELETE").with("mcp-session-id", &session);
    assert_eq!(end.send(server.address).await.status, 204);
    let opened = inside.send(server.address).await;
    assert_eq!(opened.status, 200);
    assert_ne!(opened.header("mcp-session-id"), Some(session.as_str()));
    let alice = server.open("2025-11-25", Some("alice")).await;
    let other = open().with("mcp-session-id", &alice).with("x-user", "bob");
    assert_eq!(other.send(server.address).await.status, 200);
}

#[tokio::test]
async fn a_byte_order_mark_is_passed_over() {
    let server = Server::start().await;
    let marked = |raw: Raw, body: &str| raw.with_body(format!("\u{feff}{body}"));
    let body = crate::raw::stateless_body("tools/list", "");
    let reply = marked(Raw::stateless("tools/list", ""), &body);
    assert_eq!(reply.send(server.address).await.json()["id"], 1);
    let reply = marked(Raw::post(""), &opening("2025-11-25"));
    assert_eq!(reply.send(server.address).await.status, 200);
}

#[tokio::test]
async fn optional_members_that_are_null_count_as_absent() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let body = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"vendor/params","params":{params}}}"#)
    };
    let reply = Raw::in_session(&session, body(r#"{"a":null,"_meta":null}"#));
    let reply = reply.send(server.address).await;
    assert_eq!(reply.json()["result"], serde_json::json!({ "a": null }));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":
        {"_meta":null,"name":"echo","arguments":{"x":null},"task":null}}"#;
    let reply = Raw::in_session(&session, call).send(server.address).await;
    assert_eq!(reply.json()["result"], serde_json::json!({ "x": null }));
}

#[tokio::test]
async fn a_client_of_the_older_transport_is_told_which_one_is_served() {
    let server = Server::start().await;
    let get = Raw::new("GET").with("accept", "text/event-stream");
    let refused = get.send(server.address).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("HTTP+SSE"), "{refused:?}");
}

#[tokio::test]
async fn a_client_of_an_older_revision_gets_results_that_it_can_read() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let result = r#"{"resultType":"complete","structuredContent":[1.0],"_meta":{"a":1}}"#;
    let params = format!(r#""name":"echo","arguments":{result}"#);
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#);
    let reply = Raw::in_session(&session, body).send(server.address).await;
    assert_eq!(
        reply.json()["result"],
        serde_json::json!({ "content": [{ "type": "text", "text": "[1.0]" }], "_meta": { "a": 1 } })
    );
    let same = Raw::stateless("tools/call", &params).with("mcp-name", "echo");
    let same = same.send(server.address).await;
    assert!(same.body.contains(result), "{same:?}");
}
