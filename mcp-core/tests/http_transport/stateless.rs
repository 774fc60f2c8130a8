//! The stateless era: streams, cancellation, status and headers of errors.

use std::time::Duration;

use mcp_core::{Timing, transport::http::HttpConfig};

use crate::{raw::Raw, server::Server};

fn call(tool: &str) -> Raw {
    Raw::stateless("tools/call", &format!(r#""name":"{tool}""#)).with("mcp-name", tool)
}

#[tokio::test]
async fn progress_makes_a_stream_that_ends_with_the_answer() {
    let server = Server::start().await;
    let reply = call("progress").send(server.address).await;
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert!(reply.header("mcp-session-id").is_none());
    assert!(!reply.body.contains("id: "), "nothing can be resumed");
    let events = reply.events();
    for (done, event) in (1..=3).zip(&events) {
        assert_eq!(event["params"]["progress"], done);
        assert_eq!(event["params"]["progressToken"], "p");
    }
    assert_eq!(events[3]["result"]["resultType"], "complete");
}

#[tokio::test]
async fn closing_the_connection_cancels() {
    let server = Server::start().await;
    let mut stream = call("wait").open(server.address).await;
    assert_eq!(server.event().await, "started");
    stream.event().await.unwrap();
    drop(stream);
    assert_eq!(server.event().await, "dropped");
}

#[tokio::test]
async fn a_long_call_is_kept_alive() {
    let config = HttpConfig::default()
        .with_timing(Timing::default().with_keep_alive(Duration::from_millis(20)));
    let server = Server::with(config).await;
    let reply = call("slow").send(server.address).await;
    assert!(reply.body.contains(": keep-alive\n\n"));
    assert_eq!(reply.events().len(), 4);
}

#[tokio::test]
async fn a_subscription_carries_the_clients_id() {
    let server = Server::start().await;
    let listen = Raw::stateless("subscriptions/listen", r#""notifications":{}"#);
    let mut stream = listen.open(server.address).await;
    let event = stream.event().await.unwrap();
    assert!(
        event.contains(r#""io.modelcontextprotocol/subscriptionId":1"#),
        "{event}"
    );
}

#[tokio::test]
async fn an_error_brings_its_status_and_headers() {
    let server = Server::start().await;
    let reply = call("limited").send(server.address).await;
    assert_eq!((reply.status, reply.code()), (429, -31029));
    assert_eq!(reply.header("retry-after"), Some("2"));
    let reply = call("ask").send(server.address).await;
    assert_eq!((reply.status, reply.code()), (400, -32021));
}

#[tokio::test]
async fn nobody_is_anonymous_unless_the_server_has_one_user() {
    let server = Server::start().await;
    let list = Raw::stateless("tools/list", "");
    let reply = list.send(server.address).await;
    assert_eq!(reply.json()["result"]["who"], "Anonymous ");
    let reply = list
        .clone()
        .with("x-user", "alice")
        .send(server.address)
        .await;
    assert_eq!(reply.json()["result"]["who"], "Authenticated alice");
    let single = Server::with(HttpConfig::default().single_user()).await;
    let reply = list.send(single.address).await;
    assert_eq!(reply.json()["result"]["who"], "Local ");
}
