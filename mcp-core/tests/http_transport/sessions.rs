//! Sessions: streams, resumption, cancellation, questions, batches.

use std::num::NonZeroUsize;

use mcp_core::{Bounds, transport::http::HttpConfig};
use serde_json::Value;

use crate::{
    raw::{Raw, Stream},
    server::Server,
};

fn call(session: &str, id: u32, tool: &str) -> Raw {
    Raw::in_session(
        session,
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","_meta":{{"progressToken":7}}}}}}"#
        ),
    )
}

fn standalone(session: &str) -> Raw {
    Raw::new("GET")
        .with("accept", "text/event-stream")
        .with("mcp-session-id", session)
}

/// Returns the id of an event and its message.
fn parts(event: &str) -> (String, Value) {
    let field = |name: &str| {
        let found = event.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().trim().to_owned()
    };
    let data = field("data:");
    (
        field("id:"),
        serde_json::from_str(&data).unwrap_or_default(),
    )
}

async fn next(stream: &mut Stream) -> (String, Value) {
    parts(&stream.event().await.expect("there is an event"))
}

#[tokio::test]
async fn a_stream_that_broke_is_resumed_where_it_broke() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let mut stream = call(&session, 1, "slow").open(server.address).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let (priming, nothing) = next(&mut stream).await;
    assert!(nothing.is_null());
    let (first, progress) = next(&mut stream).await;
    assert_eq!(progress["params"]["progress"], 1);
    drop(stream);
    assert_eq!(server.event().await, "finished");
    for (from, seen) in [(&first, 1), (&priming, 0)] {
        let resume = standalone(&session).with("last-event-id", from);
        let reply = resume.send(server.address).await;
        let events = reply.events();
        let progress: Vec<_> = events
            .iter()
            .filter_map(|event| event["params"]["progress"].as_u64())
            .collect();
        assert_eq!(progress, (seen + 1..=3).collect::<Vec<_>>());
        assert_eq!(events.last().unwrap()["id"], 1);
    }
}

#[tokio::test]
async fn an_older_revision_gets_no_priming_event() {
    let server = Server::start().await;
    let session = server.open("2025-06-18", None).await;
    let reply = call(&session, 1, "progress").send(server.address).await;
    assert_eq!(reply.events().len(), 4);
    assert!(!reply.body.contains("retry:"));
}

#[tokio::test]
async fn a_cancelled_call_is_dropped_and_its_stream_ends_without_an_answer() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let mut stream = call(&session, 5, "wait").open(server.address).await;
    assert_eq!(server.event().await, "started");
    next(&mut stream).await;
    next(&mut stream).await;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    let reply = Raw::in_session(&session, cancel).send(server.address).await;
    assert_eq!(reply.status, 202);
    assert_eq!(server.event().await, "dropped");
    assert!(stream.event().await.is_none());
}

#[tokio::test]
async fn an_id_in_progress_cannot_be_used_again() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let _first = call(&session, 5, "wait").open(server.address).await;
    assert_eq!(server.event().await, "started");
    let again = call(&session, 5, "progress").send(server.address).await;
    assert_eq!(again.code(), -32600);
    let other = server.open("2025-11-25", None).await;
    let elsewhere = call(&other, 5, "progress").send(server.address).await;
    assert_eq!(elsewhere.events().len(), 4);
}

#[tokio::test]
async fn a_question_goes_to_the_call_that_asks() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let other = server.open("2025-11-25", None).await;
    let mut stream = call(&session, 1, "ask").open(server.address).await;
    next(&mut stream).await;
    let (_, question) = next(&mut stream).await;
    assert_eq!(question["method"], "roots/list");
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"roots":[ 1.0 ]}}}}"#,
        question["id"]
    );
    let foreign = Raw::in_session(&other, answer.clone());
    assert_eq!(foreign.send(server.address).await.status, 202);
    let own = Raw::in_session(&session, answer.replace("1.0", "2.0"));
    assert_eq!(own.send(server.address).await.status, 202);
    let event = stream.event().await.unwrap();
    assert!(event.contains(r#""result":{"roots":[ 2.0 ]}"#), "{event}");
}

#[tokio::test]
async fn batches_belong_to_one_revision() {
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},
        {"jsonrpc":"2.0","method":"notifications/roots/list_changed"},
        7,
        {"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"loud"}},
        {"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"progress"}}]"#;
    let server = Server::start().await;
    let session = server.open("2025-03-26", None).await;
    let reply = Raw::in_session(&session, batch).send(server.address).await;
    let mut answers: Vec<_> = reply
        .events()
        .into_iter()
        .filter(|message| message["method"].is_null())
        .map(|message| (message["id"].as_u64(), message["error"]["code"].as_i64()))
        .collect();
    answers.sort();
    assert_eq!(
        answers,
        [
            (None, Some(-32600)),
            (Some(1), None),
            (Some(2), Some(-32602)),
            (Some(3), None),
        ]
    );
    let one_way = r#"[{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}]"#;
    let reply = Raw::in_session(&session, one_way)
        .send(server.address)
        .await;
    assert_eq!(reply.status, 202);
    let empty = Raw::in_session(&session, "[]").send(server.address).await;
    assert_eq!((empty.status, empty.code()), (400, -32600));
    for version in ["2025-06-18", "2025-11-25"] {
        let session = server.open(version, None).await;
        let reply = Raw::in_session(&session, batch).send(server.address).await;
        assert_eq!((reply.status, reply.code()), (400, -32600), "{version}");
    }
}

#[tokio::test]
async fn the_standalone_stream_tells_of_changes() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let mut stream = standalone(&session).open(server.address).await;
    let (id, changed) = next(&mut stream).await;
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(id, "0_0");
    let end = Raw::new("DELETE").with("mcp-session-id", &session);
    assert_eq!(end.send(server.address).await.status, 204);
    assert!(stream.event().await.is_none());
}

#[tokio::test]
async fn the_session_that_was_idle_longest_makes_room() {
    let config = HttpConfig::default()
        .with_bounds(Bounds::default().with_sessions(NonZeroUsize::new(2).unwrap()));
    let server = Server::with(config).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let first = server.open("2025-11-25", None).await;
    let second = server.open("2025-11-25", None).await;
    let _busy = call(&first, 5, "wait").open(server.address).await;
    assert_eq!(server.event().await, "started");
    let third = server.open("2025-11-25", None).await;
    for (session, status) in [(&first, 200), (&second, 404), (&third, 200)] {
        let reply = Raw::in_session(session, ping).send(server.address).await;
        assert_eq!(reply.status, status);
    }
}

#[tokio::test]
async fn principals_of_sessions() {
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let server = Server::start().await;
    let session = server.open("2025-11-25", None).await;
    let reply = Raw::in_session(&session, list).send(server.address).await;
    assert!(reply.body.contains("Session"), "{reply:?}");
    let session = server.open("2025-11-25", Some("alice")).await;
    let raw = Raw::in_session(&session, list).with("x-user", "alice");
    let reply = raw.send(server.address).await;
    assert_eq!(reply.json()["result"]["who"], "Authenticated alice");
    let single = Server::with(HttpConfig::default().single_user()).await;
    let session = single.open("2025-11-25", None).await;
    let reply = Raw::in_session(&session, list).send(single.address).await;
    assert_eq!(reply.json()["result"]["who"], "Local ");
}

#[tokio::test]
async fn each_call_has_the_scopes_of_its_own_credential() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", Some("alice")).await;
    for scopes in ["read", "read write", "read"] {
        let reply = call(&session, 1, "scopes")
            .with("x-user", "alice")
            .with("x-scopes", scopes)
            .send(server.address)
            .await;
        let expected: Vec<_> = scopes.split(' ').collect();
        assert_eq!(
            reply.json()["result"]["scopes"],
            serde_json::json!(expected)
        );
        assert_eq!(reply.json()["result"]["fact"], scopes.len());
    }
}

#[tokio::test]
async fn a_session_with_an_owner_is_closed_to_those_without_a_name() {
    let server = Server::start().await;
    let session = server.open("2025-11-25", Some("alice")).await;
    for (user, status) in [(Some("alice"), 200), (Some("bob"), 404), (None, 404)] {
        let mut raw = call(&session, 1, "echo");
        if let Some(user) = user {
            raw = raw.with("x-user", user);
        }
        assert_eq!(raw.send(server.address).await.status, status, "{user:?}");
    }
}
