//! Upstreams that go away under a live session, and come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    client::Client,
    fixture::{Server, start, start_bare},
    hostile::{Evil, evil},
};

const WATCHED: &str = "test://watched-resource";

#[tokio::test]
async fn a_session_outlives_its_upstream() {
    let server = Server::fixture().await;
    let address = server.address;
    let running = start_bare(server.upstream("up")).await;
    let client = Client::session(&running, "alice").await;
    assert_eq!(client.text("session_counter", json!({})).await, "1");
    let subscribe = json!({ "uri": WATCHED });
    let answer = client.request("resources/subscribe", subscribe).await;
    assert!(answer["result"].is_object(), "{answer}");

    let slow =
        json!({ "name": "slow_cancellable", "arguments": { "key": "k", "milliseconds": 60_000 } });
    client.start("tools/call", slow).await;
    sleep(Duration::from_millis(300)).await;
    drop(server);
    let cut_off = timeout(Duration::from_secs(45), client.answer());
    assert!(cut_off.await.expect("no hang")["error"].is_object());
    let away = timeout(
        Duration::from_secs(10),
        client.call("echo", json!({ "text": "x" })),
    );
    assert!(away.await.expect("no hang")["error"].is_object());
    // What is known is listed, though the server is away.
    assert!(!client.names("tools").await.is_empty());

    let _server = Server::fixture_at(address).await;
    let back = async {
        loop {
            let answer = client.call("session_counter", json!({})).await;
            if let Some(text) = answer["result"]["content"][0]["text"].as_str() {
                return text.to_owned();
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let counted = timeout(Duration::from_secs(20), back)
        .await
        .expect("it recovers");
    assert_eq!(counted, "1", "the server has a new session");
    assert!(
        client
            .names("tools")
            .await
            .iter()
            .any(|tool| tool == "echo")
    );
    // Whatever was missed is made up for, and what comes later is heard.
    client.notification("notifications/resources/updated").await;
    let updates = async {
        client.text("update_watched_resource", json!({})).await;
        client.notification("notifications/resources/updated").await
    };
    assert_eq!(updates.await["params"]["uri"], WATCHED);
}

#[tokio::test]
async fn one_upstream_that_is_away_leaves_the_others() {
    let (one, two) = (Server::fixture().await, Server::fixture().await);
    let running = start([one.upstream("a"), two.upstream("b")]).await;
    let client = Client::session(&running, "alice").await;
    drop(one);
    assert_eq!(client.text("b__echo", json!({ "text": "x" })).await, "x");
    let answer = timeout(
        Duration::from_secs(10),
        client.call("a__echo", json!({ "text": "x" })),
    );
    assert!(answer.await.expect("no hang")["error"].is_object());
    assert_eq!(client.text("b__echo", json!({ "text": "y" })).await, "y");
}

#[tokio::test]
async fn an_unsafe_call_reaches_its_upstream_once() {
    for way in [
        Evil::Drops,
        Evil::EndsEvents,
        Evil::Garbage,
        Evil::Unavailable,
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let server = evil(way, Arc::clone(&seen)).await;
        let running = start([server.upstream("evil")]).await;
        for client in [
            Client::session(&running, "alice").await,
            Client::stateless(&running, "alice"),
        ] {
            seen.store(0, Ordering::SeqCst);
            let answer = client.call("evil__tool", json!({})).await;
            assert!(answer["error"].is_object(), "{way:?}: {answer}");
            sleep(Duration::from_millis(300)).await;
            assert_eq!(seen.load(Ordering::SeqCst), 1, "{way:?}");
        }
    }
}
