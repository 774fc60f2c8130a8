//! Two principals at once, one of which misbehaves.

use std::{num::NonZeroUsize, time::Duration};

use mcp_core::{Bounds, Timing, transport::http::HttpConfig};
use tokio::time::timeout;

use crate::{
    raw::{Raw, Stream, stateless_body},
    server::Server,
};

/// No call of a well-behaved client may take longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls a tool as alice in both eras, and is answered.
async fn alice_is_served(server: &Server) {
    let session = server.open("2025-11-25", Some("alice")).await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":1}}}"#;
    let stateless = stateless_body("tools/call", r#""name":"echo","arguments":{"a":1}"#);
    let calls = [
        Raw::in_session(&session, call),
        Raw::stateless("tools/call", "")
            .with("mcp-name", "echo")
            .with_body(stateless),
    ];
    for call in calls {
        for _ in 0..20 {
            let reply = call.clone().with("x-user", "alice");
            let reply = timeout(PATIENCE, reply.send(server.address)).await;
            let reply = reply.expect("the call is answered in time");
            assert_eq!((reply.status, reply.code()), (200, 0));
        }
    }
}

async fn flood(server: &Server, session: &str, id: u32) -> Stream {
    let params = r#"{"name":"flood","_meta":{"progressToken":"p"}}"#;
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#);
    let raw = Raw::in_session(session, body).with("x-user", "mallory");
    raw.open(server.address).await
}

#[tokio::test]
async fn streams_of_sessions_that_are_never_read_end_and_hold_up_no_other_principal() {
    let timing = Timing::default().with_stall(Duration::from_millis(300));
    let server = Server::with(HttpConfig::default().with_timing(timing)).await;
    let session = server.open("2025-11-25", Some("mallory")).await;
    let mut unread = Vec::new();
    for id in 1..=8 {
        unread.push(flood(&server, &session, id).await);
    }
    alice_is_served(&server).await;
    for _ in 0..unread.len() {
        assert_eq!(server.event().await, "dropped");
    }
    alice_is_served(&server).await;
}

#[tokio::test]
async fn batches_up_to_the_bound_hold_up_no_other_principal() {
    let bounds = Bounds::default().with_calls_per_session(NonZeroUsize::new(50).unwrap());
    let server = Server::with(HttpConfig::default().with_bounds(bounds)).await;
    let session = server.open("2025-03-26", Some("mallory")).await;
    let calls: Vec<_> = (1..=1_000)
        .map(|id| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"wait"}}}}"#
            )
        })
        .collect();
    let batch = Raw::in_session(&session, format!("[{}]", calls.join(",")));
    let batch = batch.with("x-user", "mallory");
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(batch.open(server.address).await);
    }
    for _ in 0..50 {
        assert_eq!(server.event().await, "started");
    }
    alice_is_served(&server).await;
    // What is above the bound is answered at once, and nothing of it was started.
    let refused = async {
        while !streams[0]
            .event()
            .await
            .expect("an answer")
            .contains("-31030")
        {}
    };
    timeout(PATIENCE, refused)
        .await
        .expect("what is too much is refused");
}

#[tokio::test]
async fn members_up_to_the_bound_hold_up_no_other_principal() {
    let server = Server::start().await;
    let members = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!(r#""m{n}":0"#)).collect();
        let body = stateless_body("tools/list", &members.join(","));
        let list = Raw::stateless("tools/list", "").with_body(body);
        list.with("x-user", "mallory")
    };
    let (within, above) = (members(1_000), members(2_000));
    let misbehaving = async {
        for _ in 0..50 {
            assert_eq!(within.send(server.address).await.status, 200);
            assert_eq!(above.send(server.address).await.status, 400);
        }
    };
    tokio::join!(misbehaving, alice_is_served(&server));
}

#[tokio::test]
async fn streams_of_stateless_calls_that_are_never_read_end_and_hold_up_no_other_principal() {
    let timing = Timing::default().with_stall(Duration::from_millis(300));
    let server = Server::with(HttpConfig::default().with_timing(timing)).await;
    let mut unread = Vec::new();
    for _ in 0..8 {
        let raw = Raw::stateless("tools/call", "")
            .with("mcp-name", "flood")
            .with_body(stateless_body("tools/call", r#""name":"flood""#));
        unread.push(raw.with("x-user", "mallory").open(server.address).await);
    }
    alice_is_served(&server).await;
    for _ in 0..unread.len() {
        assert_eq!(server.event().await, "dropped");
    }
}
