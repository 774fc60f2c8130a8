//! Limits that one client hits and another does not feel.

use std::{num::NonZeroUsize, time::Duration};

use mcp_core::{Bounds, transport::http::HttpConfig};

use crate::{
    raw::{Raw, Reply, stateless_body},
    server::{Server, opening},
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

async fn server(bounds: Bounds) -> Server {
    Server::with(HttpConfig::default().with_bounds(bounds)).await
}

async fn open(server: &Server, user: &str) -> Reply {
    let raw = Raw::post(opening("2025-11-25")).with("x-user", user);
    raw.send(server.address).await
}

/// Returns whether a session is open.
async fn is_open(server: &Server, session: &str, user: Option<&str>) -> bool {
    let mut raw = Raw::in_session(session, PING);
    if let Some(user) = user {
        raw = raw.with("x-user", user);
    }
    match raw.send(server.address).await.status {
        200 => true,
        404 => false,
        status => panic!("status {status}"),
    }
}

fn call(session: &str, id: u32, tool: &str) -> Raw {
    let params = format!(r#"{{"name":"{tool}","_meta":{{"progressToken":7}}}}"#);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
    Raw::in_session(session, body)
}

#[tokio::test]
async fn a_principal_with_too_many_sessions_loses_its_own() {
    let server = server(Bounds::default().with_sessions_per_principal(count(2))).await;
    let alice = server.open("2025-11-25", Some("alice")).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(server.open("2025-11-25", Some("mallory")).await);
    }
    assert!(is_open(&server, &alice, Some("alice")).await);
    let mut open = Vec::new();
    for session in &sessions {
        open.push(is_open(&server, session, Some("mallory")).await);
    }
    assert_eq!(open, [false, false, true, true]);
}

#[tokio::test]
async fn a_full_table_ends_sessions_of_the_principal_with_most() {
    let server = server(Bounds::default().with_sessions(count(4))).await;
    let alice = server.open("2025-11-25", Some("alice")).await;
    for _ in 0..20 {
        server.open("2025-11-25", Some("mallory")).await;
    }
    let bob = server.open("2025-11-25", Some("bob")).await;
    assert!(is_open(&server, &alice, Some("alice")).await);
    assert!(is_open(&server, &bob, Some("bob")).await);
    assert_eq!(server.transport.sessions(), 4);
}

#[tokio::test]
async fn clients_without_a_credential_are_counted_by_their_address() {
    let server = server(Bounds::default().with_sessions_per_principal(count(2))).await;
    let open = |peer: &'static str| {
        let raw = Raw::post(opening("2025-11-25")).with("x-peer", peer);
        async move {
            let reply = raw.send(server.address).await;
            reply.header("mcp-session-id").unwrap().to_owned()
        }
    };
    let one = open("192.0.2.1").await;
    let first = open("198.51.100.7").await;
    for _ in 0..4 {
        open("198.51.100.7").await;
    }
    assert!(is_open(&server, &one, None).await);
    assert!(!is_open(&server, &first, None).await);
    assert_eq!(server.transport.sessions(), 3);
}

#[tokio::test]
async fn a_principal_whose_sessions_are_all_in_use_shuts_only_itself_out() {
    let bounds = Bounds::default()
        .with_sessions_per_principal(count(2))
        .with_sessions(count(3));
    let server = server(bounds).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let session = server.open("2025-11-25", Some("mallory")).await;
        let get = Raw::new("GET")
            .with("accept", "text/event-stream")
            .with("mcp-session-id", &session)
            .with("x-user", "mallory");
        streams.push(get.open(server.address).await);
    }
    let refused = open(&server, "mallory").await;
    assert_eq!((refused.status, refused.code()), (503, -31030));
    assert_eq!(open(&server, "alice").await.status, 200);
}

#[tokio::test]
async fn calls_in_flight_of_one_session_are_bounded() {
    let server = server(Bounds::default().with_calls_per_session(count(2))).await;
    let busy = server.open("2025-11-25", None).await;
    let other = server.open("2025-11-25", None).await;
    let mut streams = Vec::new();
    for id in 1..=2 {
        streams.push(call(&busy, id, "wait").open(server.address).await);
        assert_eq!(server.event().await, "started");
    }
    // Closing the connection does not end a call of a session.
    streams.clear();
    let refused = call(&busy, 3, "progress").send(server.address).await;
    assert_eq!(refused.code(), -31030);
    let ping = PING.replace(r#""id":1"#, r#""id":9"#);
    let ping = Raw::in_session(&busy, ping).send(server.address).await;
    assert_eq!(ping.code(), -31030);
    let reply = call(&other, 1, "progress").send(server.address).await;
    assert_eq!(reply.events().len(), 4);
}

#[tokio::test]
async fn subscriptions_of_one_session_are_bounded() {
    let server = server(Bounds::default().with_subscriptions(count(2))).await;
    let session = server.open("2025-11-25", None).await;
    let other = server.open("2025-11-25", None).await;
    let subscribe = |session: &str, method: &str, uri: &str| {
        Raw::in_session(
            session,
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"resources/{method}","params":{{"uri":"{uri}"}}}}"#
            ),
        )
    };
    for (session, method, uri, code) in [
        (&session, "subscribe", "doc://1", 0),
        (&session, "subscribe", "doc://2", 0),
        (&session, "subscribe", "doc://3", -31030),
        (&session, "subscribe", "doc://2", 0),
        (&other, "subscribe", "doc://3", 0),
        (&session, "unsubscribe", "doc://1", 0),
        (&session, "subscribe", "doc://3", 0),
    ] {
        let reply = subscribe(session, method, uri).send(server.address).await;
        assert_eq!((reply.status, reply.code()), (200, code), "{method} {uri}");
    }
}

#[tokio::test]
async fn open_listeners_of_one_principal_are_bounded() {
    let server = server(Bounds::default().with_listeners_per_principal(count(2))).await;
    let listen = async |user: &str| {
        let body = stateless_body("subscriptions/listen", r#""notifications":{}"#);
        let raw = Raw::stateless("subscriptions/listen", "").with_body(body);
        raw.with("x-user", user).open(server.address).await
    };
    let first = listen("mallory").await;
    let second = listen("mallory").await;
    assert_eq!([first.status, second.status], [200, 200]);
    assert_eq!(listen("mallory").await.status, 503);
    assert_eq!(listen("alice").await.status, 200);
    drop(first);
    let again = async {
        while listen("mallory").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(20);
    let again = tokio::time::timeout(patience, again).await;
    again.expect("its share is given back");
}

#[tokio::test]
async fn members_of_params_are_bounded() {
    let server = server(Bounds::default()).await;
    let members: Vec<_> = (0..2_000).map(|n| format!(r#""m{n}":0"#)).collect();
    let members = members.join(",");
    let list = Raw::stateless("tools/list", "").with_body(stateless_body("tools/list", &members));
    let reply = list.send(server.address).await;
    assert_eq!((reply.status, reply.code()), (400, -32600));
    let session = server.open("2025-11-25", None).await;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{{members}}}}}}}"#
    );
    let reply = Raw::in_session(&session, body).send(server.address).await;
    assert_eq!(reply.status, 200, "only what is looked up is indexed");
}

#[tokio::test]
async fn a_batch_of_more_than_the_replay_buffer_loses_no_answer() {
    let server = server(Bounds::default()).await;
    let session = server.open("2025-03-26", None).await;
    let batch = |count: usize| {
        let pings: Vec<_> = (1..=count)
            .map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#))
            .collect();
        Raw::in_session(&session, format!("[{}]", pings.join(",")))
    };
    let reply = batch(1_000).send(server.address).await;
    let mut ids: Vec<_> = reply
        .events()
        .iter()
        .map(|answer| answer["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=1_000).collect::<Vec<_>>());
    let whole = batch(300).with("accept", "application/json");
    let whole = whole.send(server.address).await;
    assert_eq!(whole.json().as_array().unwrap().len(), 300);
    let refused = batch(1_001).send(server.address).await;
    assert_eq!((refused.status, refused.code()), (400, -32600));
}

#[tokio::test]
async fn large_answers_that_nobody_fetches_do_not_add_up() {
    let server = server(Bounds::default()).await;
    let session = server.open("2025-11-25", None).await;
    for id in 1..=8 {
        let reply = call(&session, id, "large").send(server.address).await;
        assert!(reply.body.len() > 1 << 20, "the answer comes whole");
    }
    // The last event of the first stream was read and is no longer kept.
    let resume = Raw::new("GET")
        .with("accept", "text/event-stream")
        .with("mcp-session-id", &session)
        .with("last-event-id", "1_p")
        .send(server.address)
        .await;
    assert!(resume.body.len() < 1 << 20, "{}", resume.body.len());
}
