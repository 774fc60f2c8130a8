//! Upstreams that take their time to start, fail at parts of what they offer, or refuse to be listened to.

use std::time::Duration;

use axum::{extract::Request as HttpRequest, middleware::Next};
use conformance_server::{Fixture, FixtureOptions, HttpOptions, router};
use mcp_aggregate::{Running, SessionScope, Upstream, UpstreamState, connector::stdio::Command};
use mcp_core::{Error, ErrorKind, Method, Request, Response, Timing};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::service_fn;

use super::{
    client::Client,
    fixture::{Server, start, start_bare, unsettled},
};

/// How long anything may take that takes 13 s.
const LONGEST: Duration = Duration::from_secs(60);

/// A server on standard input and output.
fn scripted(id: &str, arguments: &[&str]) -> Upstream {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/server.py");
    let command = Command::new("python3").arg(script).args(arguments);
    let upstream = Upstream::command(id, command);
    upstream.scope(SessionScope::PerSession)
}

/// The fixture over HTTP, which answers nothing for a while.
async fn http_after(pause: Duration) -> Server {
    let fixture = Fixture::new(FixtureOptions::default());
    let open = Instant::now() + pause;
    let wait = move |request: HttpRequest, next: Next| async move {
        sleep_until(open).await;
        next.run(request).await
    };
    let app = router(&fixture, &HttpOptions::default());
    let app = app.layer(axum::middleware::from_fn(wait));
    Server::serve("127.0.0.1:0".parse().unwrap(), app).await
}

/// Waits until a client of each era is offered a tool.
async fn is_listed_and_called(running: &Running, tool: &str) {
    for client in [
        Client::stateless(running, "alice"),
        Client::session(running, "bob").await,
    ] {
        let listed = async {
            // The list of a single upstream is an error until it has started.
            while !client
                .try_names("tools")
                .await
                .is_ok_and(|names| names.iter().any(|name| name == tool))
            {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(LONGEST, listed).await.expect("it is listed");
        let answer = timeout(LONGEST, client.call(tool, json!({ "text": "x" })));
        let answer = answer.await.expect("it is called");
        assert!(answer["result"]["content"].is_array(), "{answer}");
    }
}

#[tokio::test]
async fn a_process_that_starts_in_3_s_is_listed() {
    let running = start_bare(scripted("slow", &["--sleep", "3"])).await;
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Healthy);
    is_listed_and_called(&running, "echo").await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_process_that_starts_in_13_s_is_listed() {
    let running = unsettled([scripted("slow", &["--sleep", "13"])]);
    is_listed_and_called(&running, "slow__echo").await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_server_over_http_that_answers_after_3_s_is_listed() {
    let server = http_after(Duration::from_secs(3)).await;
    let running = start_bare(server.upstream("slow")).await;
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Healthy);
    is_listed_and_called(&running, "echo").await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_server_over_http_that_answers_after_13_s_is_listed() {
    let server = http_after(Duration::from_secs(13)).await;
    let running = unsettled([server.upstream("slow")]);
    is_listed_and_called(&running, "slow__echo").await;
    running.shutdown().await;
}

#[tokio::test]
async fn what_the_first_call_of_a_slow_process_announces_reaches_its_client() {
    let timing = Timing::default().with_settle(Duration::from_millis(50));
    let upstream = scripted("slow", &["--sleep", "2", "--announce"]).timing(timing);
    let running = start_bare(upstream).await;
    let client = Client::stateless(&running, "alice");
    let filter = json!({ "notifications": { "toolsListChanged": true } });
    client.start("subscriptions/listen", filter).await;
    client
        .notification("notifications/subscriptions/acknowledged")
        .await;
    // The process of the gateway's own is there; the client's has to start for the call.
    client.call("echo", json!({})).await;
    client
        .notification("notifications/tools/list_changed")
        .await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_list_that_fails_leaves_the_others_of_its_server() {
    for how in ["--fail", "--hang"] {
        let half = scripted("half", &[how, "resources/list"]);
        let half = half.list_timeout(Duration::from_secs(2));
        let running = start([half, scripted("whole", &[])]).await;
        for client in [
            Client::stateless(&running, "alice"),
            Client::session(&running, "bob").await,
        ] {
            let tools = client.names("tools").await;
            assert_eq!(tools, ["half__echo", "whole__echo"], "{how}");
            assert_eq!(client.names("prompts").await.len(), 2, "{how}");
            assert_eq!(client.names("resources").await, ["page"], "{how}");
        }
        let health = running.health();
        assert_eq!(health.upstreams[0].state, UpstreamState::Degraded);
        let error = health.upstreams[0].error.as_deref().unwrap();
        assert!(error.starts_with("resources/list"), "{error}");
        running.shutdown().await;
    }
}

#[tokio::test]
async fn a_list_that_fails_at_the_only_server_is_an_error_and_not_empty() {
    let running = start_bare(scripted("half", &["--fail", "resources/list"])).await;
    let client = Client::session(&running, "alice").await;
    assert_eq!(client.names("tools").await, ["echo"]);
    let error = client.try_names("resources").await.unwrap_err();
    assert_eq!(error["message"], "the database is not there");
    running.shutdown().await;
}

#[tokio::test]
async fn a_call_to_a_server_that_died_at_start_says_why() {
    let dead = scripted("dead", &["--die", "3"]);
    let running = start([dead, scripted("good", &[])]).await;
    let client = Client::session(&running, "alice").await;
    assert_eq!(client.names("tools").await, ["good__echo"]);
    let answer = client.call("dead__echo", json!({})).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("API key missing, set FOO_KEY"),
        "{message}"
    );
    running.shutdown().await;
}

#[tokio::test]
async fn a_server_that_refuses_to_be_listened_to_is_listed_all_the_same() {
    let refusing = service_fn(|request: Request| async move {
        let result = match *request.method() {
            Method::DISCOVER => json!({ "capabilities": { "tools": {} } }),
            Method::TOOLS_LIST => {
                json!({ "tools": [{ "name": "a", "inputSchema": { "type": "object" } }] })
            }
            ref method => {
                let refusal = Error::new(ErrorKind::Answered, format!("{method} is not allowed"));
                return Err(refusal);
            }
        };
        Ok(Response::new(result.into()))
    });
    let running = start_bare(Upstream::service("refusing", refusing)).await;
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Healthy);
    let client = Client::session(&running, "alice").await;
    assert_eq!(client.names("tools").await, ["a"]);
    running.shutdown().await;
}
