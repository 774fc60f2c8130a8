//! Lists over a megabyte: sealed cursors, served from the snapshot that they were made of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcp_aggregate::Running;
use mcp_core::Method;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};

use crate::support::{Client, Server, start_with};

/// A server with 30 tools of 100 KB, whose names carry a generation.
fn large() -> (Server, Arc<AtomicUsize>) {
    let generation = Arc::new(AtomicUsize::new(1));
    let own = Arc::clone(&generation);
    let server = Server::new(json!({ "tools": { "listChanged": true } }), move |_| {
        let generation = own.load(Ordering::SeqCst);
        let tools: Vec<_> = (0..30)
            .map(|number| {
                json!({ "name": format!("g{generation}-{number}"), "description": "x".repeat(100_000) })
            })
            .collect();
        Ok(json!({ "tools": tools }))
    });
    (server, generation)
}

async fn page(
    client: &Client,
    running: &Running,
    cursor: Option<&Value>,
) -> (Vec<String>, Option<Value>) {
    let params = cursor.map_or(json!({}), |cursor| json!({ "cursor": cursor }));
    let page = client.call(running, "tools/list", params).await.unwrap();
    let tools = page["tools"].as_array().unwrap().iter();
    let names = tools.map(|tool| tool["name"].as_str().unwrap().to_owned());
    (names.collect(), page.get("nextCursor").cloned())
}

async fn rest(client: &Client, running: &Running, mut cursor: Option<Value>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(next) = cursor {
        let (names, after) = page(client, running, Some(&next)).await;
        all.extend(names);
        cursor = after;
    }
    all
}

async fn change(server: &Server, generation: &AtomicUsize, running: &Running) {
    let before = running.catalogue().generation();
    generation.fetch_add(1, Ordering::SeqCst);
    server.announce(Method::TOOLS_CHANGED).await;
    while running.catalogue().generation() == before {
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_a_list_are_of_one_snapshot_although_it_changes_meanwhile() {
    let (server, generation) = large();
    let running = start_with(&[("up", &server)]).await;
    for client in [Client::session("alice"), Client::stateless("alice")] {
        let now = generation.load(Ordering::SeqCst);
        let (mut names, cursor) = page(&client, &running, None).await;
        assert!(names.len() < 30);
        change(&server, &generation, &running).await;
        names.extend(rest(&client, &running, cursor).await);
        assert_eq!(names.len(), 30);
        let prefix = format!("up__g{now}-");
        assert!(
            names.iter().all(|name| name.starts_with(&prefix)),
            "{names:?}"
        );
        let (names, _) = page(&client, &running, None).await;
        assert!(names[0].starts_with(&format!("up__g{}-", now + 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_its_principals_and_of_its_list_only() {
    let (server, _) = large();
    let running = start_with(&[("up", &server)]).await;
    let (_, cursor) = page(&Client::session("alice"), &running, None).await;
    let cursor = cursor.unwrap();
    let bad = [
        (Client::session("bob"), "tools/list", cursor.clone()),
        (Client::session("alice"), "prompts/list", cursor.clone()),
        (Client::session("alice"), "tools/list", json!("g1p1")),
        (Client::session("alice"), "tools/list", json!("")),
    ];
    for (client, method, cursor) in bad {
        let params = json!({ "cursor": cursor });
        let error = client.call(&running, method, params).await.unwrap_err();
        assert!(error.message().contains("list again"), "{error}");
        assert_eq!(
            error.code(mcp_core::Era::Session),
            mcp_core::RpcCode::INVALID_PARAMS
        );
    }
    // Another session of the same principal may go on with it.
    let (names, _) = page(&Client::session("alice"), &running, Some(&cursor)).await;
    assert!(!names.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_kept_for_four_changes_and_five_minutes() {
    let (server, generation) = large();
    let running = start_with(&[("up", &server)]).await;
    let client = Client::session("alice");
    let (_, cursor) = page(&client, &running, None).await;
    let params = json!({ "cursor": cursor.unwrap() });
    for _ in 0..4 {
        change(&server, &generation, &running).await;
        client
            .call(&running, "tools/list", params.clone())
            .await
            .unwrap();
    }
    change(&server, &generation, &running).await;
    assert!(client.call(&running, "tools/list", params).await.is_err());

    let (_, cursor) = page(&client, &running, None).await;
    let params = json!({ "cursor": cursor.unwrap() });
    change(&server, &generation, &running).await;
    client
        .call(&running, "tools/list", params.clone())
        .await
        .unwrap();
    advance(Duration::from_secs(301)).await;
    assert!(client.call(&running, "tools/list", params).await.is_err());
}
