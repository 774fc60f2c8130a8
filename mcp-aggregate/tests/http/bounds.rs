//! Bounds on sessions with a server, and their end.

use std::{num::NonZeroUsize, time::Duration};

use mcp_aggregate::connector::{Allowance, http::HttpConnector};
use mcp_core::{
    ClientCapabilities, Json, Method, Principal, ProtocolVersion, Request, SessionKey, Timing,
};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::fixture::{Client, PATIENCE, Server};

fn allowance(total: usize, per_principal: usize) -> Allowance {
    let of = |count| NonZeroUsize::new(count).unwrap();
    Allowance::of_sessions(of(total), of(per_principal))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect(what);
}

/// Calls as a user whose client has capabilities of its own.
async fn call(connector: &HttpConnector, user: &str, session: &str, capabilities: &str) {
    let capabilities = Json::parse(capabilities.to_owned()).unwrap();
    let params = serde_json::json!({ "name": "t", "arguments": {} });
    let request = Request::new(Method::TOOLS_CALL, Some(Json::from(params)))
        .unwrap()
        .with_version(ProtocolVersion::V_2025_11_25)
        .with_principal(Principal::authenticated("https://issuer.example", user))
        .with_session(SessionKey::new(session))
        .with_capabilities(ClientCapabilities::new(capabilities));
    let answer = timeout(PATIENCE, connector.clone().oneshot(request));
    answer.await.expect("no hang").unwrap();
}

#[tokio::test]
async fn one_user_with_many_sessions_does_not_take_the_session_of_another() {
    let server = Server::start(|_| None).await;
    let sessions = allowance(10, 3);
    let connector = server.builder().sessions(sessions.clone()).build().unwrap();
    call(&connector, "bob", "bob", "{}").await;
    for number in 0..12 {
        call(&connector, "mallory", &format!("m{number}"), "{}").await;
    }
    let counts = sessions.counts();
    assert_eq!((counts.used, counts.evicted), (4, 9));
    until("those that made room are ended", || {
        server.seen("DELETE").len() == 9
    })
    .await;
    let opened = server.seen("initialize").len();
    call(&connector, "bob", "bob", "{}").await;
    assert_eq!(
        server.seen("initialize").len(),
        opened,
        "bob has his own still"
    );
}

#[tokio::test]
async fn a_session_that_is_idle_is_ended_at_the_server() {
    let server = Server::start(|_| None).await;
    let connector = server
        .builder()
        .scope(mcp_aggregate::SessionScope::PerPrincipal)
        .timing(Timing::default().with_idle(Duration::from_millis(200)))
        .build()
        .unwrap();
    call(&connector, "alice", "a", "{}").await;
    until("it is ended", || server.seen("DELETE").len() == 1).await;
    call(&connector, "alice", "a", "{}").await;
    assert_eq!(server.seen("initialize").len(), 2);
}

#[tokio::test]
async fn shutdown_ends_the_sessions_whose_client_has_gone_before_too() {
    let server = Server::start(|_| None).await;
    let connector = server.connector();
    let (stays, goes) = (Client::new("stays"), Client::new("goes"));
    stays.call(&connector).await.unwrap();
    goes.call(&connector).await.unwrap();
    goes.0.close();
    connector.shutdown().await;
    assert_eq!(server.seen("DELETE").len(), 2);
    assert!(stays.call(&connector).await.is_err(), "it is shut down");
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_end_the_opening_of_its_session() {
    let (open, opened) = tokio::sync::watch::channel(false);
    let server = Server::start(move |seen| {
        if seen.rpc() == "initialize" {
            open.send_replace(true);
        }
        None
    })
    .await;
    let (connector, client) = (server.connector(), Client::new("a"));
    let impatient = timeout(Duration::ZERO, client.call(&connector));
    assert!(impatient.await.is_err());
    let mut opened = opened;
    timeout(PATIENCE, opened.wait_for(|opened| *opened))
        .await
        .unwrap()
        .unwrap();
    client.call(&connector).await.unwrap();
    assert_eq!(server.seen("initialize").len(), 1);
}
