//! Upstreams that misbehave, beside one that does not.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    client::Client,
    fixture::{Server, start},
};

/// What an upstream does with a call of its tool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Evil {
    /// Answers with what is not JSON.
    Garbage,
    /// Answers with a page.
    Page,
    /// Never answers.
    Silent,
    /// Answers twice, and with an id that nobody asked with.
    Twice,
    /// Sends progress without end.
    Floods,
    /// Closes the connection in the middle of an event.
    EndsEvents,
    /// Closes the connection instead of an answer.
    Drops,
    /// Answers 503.
    Unavailable,
}

/// Serves a tool that does as it is told.
pub(crate) async fn evil(way: Evil, seen: Arc<AtomicUsize>) -> Server {
    let app = Router::new()
        .route("/mcp", post(answer))
        .with_state((way, seen));
    Server::serve("127.0.0.1:0".parse().unwrap(), app).await
}

async fn answer(State((way, seen)): State<(Evil, Arc<AtomicUsize>)>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let id = &request["id"];
    let result = match request["method"].as_str().unwrap_or_default() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"],
            "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "public",
        }),
        "tools/list" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "public",
            "tools": [{ "name": "tool", "inputSchema": { "type": "object" } }],
        }),
        "tools/call" => {
            seen.fetch_add(1, Ordering::SeqCst);
            return call(way, id).await;
        }
        _ => {
            let error = json!({ "code": -32601, "message": "no such method" });
            let text = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
            let typed = [("content-type", "application/json")];
            return (StatusCode::NOT_FOUND, typed, text).into_response();
        }
    };
    json_text(&json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
}

fn json_text(text: &str) -> Response {
    ([("content-type", "application/json")], text.to_owned()).into_response()
}

fn events(body: Body) -> Response {
    ([("content-type", "text/event-stream")], body).into_response()
}

async fn call(way: Evil, id: &Value) -> Response {
    match way {
        Evil::Garbage => json_text("{\"jsonrpc\": nonsense"),
        Evil::Page => ([("content-type", "text/html")], "<html>").into_response(),
        Evil::Silent => std::future::pending().await,
        Evil::Twice => {
            let answer = |id: &Value, text: &str| {
                let result = json!({ "content": [{ "type": "text", "text": text }] });
                let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
                format!("data: {answer}\n\n")
            };
            let foreign = answer(&json!(424_242), "foreign");
            let both = [foreign, answer(id, "first"), answer(id, "second")];
            events(Body::from(both.concat()))
        }
        Evil::Floods => {
            let progress = json!({
                "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": 1, "progress": 1 },
            });
            let event = Bytes::from(format!("data: {progress}\n\n"));
            let flood = stream::repeat(event).map(Ok::<_, Infallible>);
            events(Body::from_stream(flood))
        }
        Evil::EndsEvents => {
            let half = stream::iter([
                Ok(Bytes::from("data: {\"jsonrpc\":\"2.0\",")),
                Err(std::io::Error::other("closed")),
            ]);
            events(Body::from_stream(half))
        }
        Evil::Drops => panic!("closes the connection"),
        Evil::Unavailable => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Runs a hostile upstream beside a good one: a victim calls it, and another client goes on all the while.
async fn beside(way: Evil, check: impl AsyncFn(&Client)) {
    let good = Server::fixture().await;
    let bad = evil(way, Arc::default()).await;
    let running = start([good.upstream("good"), bad.upstream("evil")]).await;
    let other = Client::session(&running, "bob").await;
    for victim in [
        Client::session(&running, "alice").await,
        Client::stateless(&running, "alice"),
    ] {
        let going_on = async {
            for round in 0..20 {
                let text = format!("round {round}");
                let answer = other.text("good__echo", json!({ "text": text }));
                let answer = timeout(Duration::from_secs(5), answer);
                assert_eq!(answer.await.expect("the other client goes on"), text);
            }
        };
        tokio::join!(check(&victim), going_on);
        let answer = victim.text("good__echo", json!({ "text": "still here" }));
        let answer = timeout(Duration::from_secs(5), answer);
        assert_eq!(answer.await.expect("the victim goes on"), "still here");
    }
    timeout(Duration::from_secs(10), running.shutdown())
        .await
        .expect("the gateway ends");
}

async fn is_an_error(client: &Client) {
    let answer = timeout(
        Duration::from_secs(15),
        client.call("evil__tool", json!({})),
    );
    let answer = answer.await.expect("no hang");
    assert!(answer["error"].is_object(), "{answer}");
}

/// Starts a call and cancels it: whoever waits for what never comes must be free to leave.
async fn can_be_left(client: &Client) {
    let params = json!({ "name": "evil__tool", "_meta": { "progressToken": "t" } });
    let id = client.start("tools/call", params).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let cancel = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id },
    });
    client.send(&cancel).await;
}

#[tokio::test]
async fn garbage() {
    beside(Evil::Garbage, is_an_error).await;
    beside(Evil::Page, is_an_error).await;
}

#[tokio::test]
async fn a_stream_that_ends_in_the_middle_of_an_event() {
    beside(Evil::EndsEvents, is_an_error).await;
}

#[tokio::test]
async fn a_connection_that_is_dropped() {
    beside(Evil::Drops, is_an_error).await;
    beside(Evil::Unavailable, is_an_error).await;
}

#[tokio::test]
async fn silence() {
    beside(Evil::Silent, can_be_left).await;
}

#[tokio::test]
async fn a_flood_of_notifications() {
    beside(Evil::Floods, can_be_left).await;
}

#[tokio::test]
async fn two_answers() {
    beside(Evil::Twice, async |client: &Client| {
        assert_eq!(client.text("evil__tool", json!({})).await, "first");
        assert_eq!(client.text("good__echo", json!({ "text": "a" })).await, "a");
    })
    .await;
}
