//! Names, with and without prefixes, and two clients apart.

use serde_json::json;

use crate::{
    client::Client,
    fixture::{Server, start, start_bare},
};

const WATCHED: &str = "test://watched-resource";

#[tokio::test]
async fn one_upstream_without_prefix_keeps_its_names() {
    let server = Server::fixture().await;
    let running = start_bare(server.upstream("up")).await;
    for client in [
        Client::session(&running, "alice").await,
        Client::stateless(&running, "alice"),
    ] {
        let tools = client.names("tools").await;
        for name in ["echo", "test_simple_text", "test_tool_with_progress"] {
            assert!(tools.iter().any(|tool| tool == name), "{name} in {tools:?}");
        }
        assert_eq!(client.text("echo", json!({ "text": "é" })).await, "é");
        let read = json!({ "uri": "test://static-text" });
        let answer = client.request("resources/read", read).await;
        assert!(
            answer["result"]["contents"][0]["text"].is_string(),
            "{answer}"
        );
        let prompt = json!({ "name": "test_simple_prompt" });
        let answer = client.request("prompts/get", prompt).await;
        assert!(answer["result"]["messages"].is_array(), "{answer}");
        let answer = client.call("no_such_tool", json!({})).await;
        assert_eq!(answer["error"]["code"], -32602);
    }
}

#[tokio::test]
async fn two_upstreams_of_one_kind_are_told_apart_by_prefix() {
    let (one, two) = (Server::fixture().await, Server::fixture().await);
    let running = start([one.upstream("a"), two.upstream("b")]).await;
    let client = Client::session(&running, "alice").await;
    let tools = client.names("tools").await;
    let of = |prefix: &str| -> Vec<_> {
        let names = tools.iter().filter_map(|tool| tool.strip_prefix(prefix));
        names.map(str::to_owned).collect()
    };
    assert_eq!(of("a__"), of("b__"));
    assert_eq!(of("a__").len() * 2, tools.len());
    for (tool, count) in [
        ("a__session_counter", "1"),
        ("a__session_counter", "2"),
        ("b__session_counter", "1"),
    ] {
        assert_eq!(client.text(tool, json!({})).await, count);
    }
    assert!(client.call("session_counter", json!({})).await["error"].is_object());
    // The same resources twice: the second upstream's are withheld, and that is said.
    assert!(!running.catalogue().withheld().is_empty());
    let uris = client.names("resources").await;
    let mut unique = uris.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(uris.len(), unique.len());
}

#[tokio::test]
async fn two_clients_do_not_see_each_other() {
    let server = Server::fixture().await;
    let running = start_bare(server.upstream("up")).await;
    let alice = Client::session(&running, "alice").await;
    let bob = Client::session(&running, "bob").await;
    assert_eq!(alice.text("session_counter", json!({})).await, "1");
    assert_eq!(alice.text("session_counter", json!({})).await, "2");
    assert_eq!(bob.text("session_counter", json!({})).await, "1");
    let subscribe = json!({ "uri": WATCHED });
    let answer = alice.request("resources/subscribe", subscribe).await;
    assert!(answer["result"].is_object(), "{answer}");
    bob.text("update_watched_resource", json!({})).await;
    let told = alice.notification("notifications/resources/updated").await;
    assert_eq!(told["params"]["uri"], WATCHED);
    // Progress of a call is its caller's, token and all.
    let params = |token: &str| {
        json!({
            "name": "progress_steps",
            "arguments": { "steps": 5, "label": token },
            "_meta": { "progressToken": token },
        })
    };
    alice.start("tools/call", params("alice")).await;
    bob.start("tools/call", params("bob")).await;
    for (client, token) in [(&alice, "alice"), (&bob, "bob")] {
        for step in 1..=5 {
            let told = client.notification("notifications/progress").await;
            assert_eq!(told["params"]["progressToken"], token);
            assert_eq!(told["params"]["progress"].as_f64(), Some(f64::from(step)));
        }
        assert!(client.answer().await["result"].is_object());
    }
}
