//! What clients that listen are told.

use std::time::Duration;

use mcp_core::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::support::{Client, Server, everything, no_such_method, start_with, tool};

#[tokio::test(start_paused = true)]
async fn an_announcement_is_passed_on_although_the_list_has_the_same_bytes() {
    let server = Server::with_tool("t");
    let running = start_with(&[("up", &server)]).await;
    for client in [Client::session("alice"), Client::stateless("alice")] {
        let mut heard = client.listen(&running, everything()).await.unwrap();
        server.announce(Method::TOOLS_CHANGED).await;
        heard.next("notifications/tools/list_changed").await;
    }
}

#[tokio::test(start_paused = true)]
async fn announcements_are_told_together_and_only_of_the_kinds_that_are_wanted() {
    let server = Server::with_tool("t");
    let running = start_with(&[("up", &server)]).await;
    let client = Client::session("alice");
    let tools_only = json!({ "toolsListChanged": true });
    let mut heard = client.listen(&running, tools_only).await.unwrap();
    // The gateway listens for itself and for the client: both are told each time.
    for _ in 0..50 {
        server.announce(Method::TOOLS_CHANGED).await;
        server.announce(Method::PROMPTS_CHANGED).await;
    }
    let told = heard.within(Duration::from_secs(3)).await;
    assert!((1..=4).contains(&told.len()), "{told:?}");
    assert!(
        told.iter()
            .all(|one| one == "notifications/tools/list_changed")
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_announces_after_each_listing_is_listed_ever_more_slowly() {
    use std::sync::{Arc, OnceLock};

    let own: Arc<OnceLock<Server>> = Arc::default();
    let loops = Arc::clone(&own);
    let server = Server::new(json!({ "tools": { "listChanged": true } }), move |_| {
        let server = loops.get().cloned();
        tokio::spawn(async move {
            if let Some(server) = server {
                server.announce(Method::TOOLS_CHANGED).await;
            }
        });
        Ok(json!({ "tools": [tool("t")] }))
    });
    own.set(server.clone()).ok().unwrap();
    let running = start_with(&[("up", &server)]).await;
    sleep(Duration::from_secs(600)).await;
    let listed = server.seen("tools/list").len();
    assert!(
        (10..=40).contains(&listed),
        "{listed} listings in ten minutes"
    );
    assert_eq!(running.counts().tools, 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_an_upstream_refuses_is_refused_and_one_it_grants_is_heard() {
    let refusing = Server::new(json!({ "resources": {} }), |request| {
        match *request.method() {
            Method::RESOURCES_LIST => Ok(json!({ "resources": [{ "uri": "a://1", "name": "a" }] })),
            Method::RESOURCE_TEMPLATES_LIST => Ok(json!({ "resourceTemplates": [] })),
            _ => Err(no_such_method(request)),
        }
    });
    let mut refusing = refusing;
    refusing.listens = false;
    let granting =
        Server::new(
            json!({ "resources": { "subscribe": true } }),
            |request| match *request.method() {
                Method::RESOURCES_LIST => {
                    Ok(json!({ "resources": [{ "uri": "b://1", "name": "b" }] }))
                }
                Method::RESOURCE_TEMPLATES_LIST => Ok(json!({ "resourceTemplates": [] })),
                _ => Err(no_such_method(request)),
            },
        );
    let running = start_with(&[("one", &refusing), ("two", &granting)]).await;
    let client = Client::session("alice");
    let refused = client.listen(&running, json!({ "resourceSubscriptions": ["a://1"] }));
    assert!(refused.await.is_err());
    let granted = json!({ "resourceSubscriptions": ["b://1"] });
    let mut heard = client.listen(&running, granted).await.unwrap();
    granting.announce(Method::RESOURCE_UPDATED).await;
    heard.next("notifications/resources/updated").await;
}

#[tokio::test(start_paused = true)]
async fn listeners_end_when_the_gateway_ends_and_are_told_of_upstreams_that_come_and_go() {
    let server = Server::with_tool("t");
    let running = start_with(&[("up", &server)]).await;
    let client = Client::session("alice");
    let mut heard = client.listen(&running, everything()).await.unwrap();
    let other = Server::with_tool("other");
    running.add(other.upstream("other")).await.unwrap();
    heard.next("notifications/tools/list_changed").await;
    assert_eq!(client.tools(&running).await, ["up__t", "other__other"]);
    // The gateway's own listener, and the client's.
    let attached = async {
        while other.listeners() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), attached)
        .await
        .unwrap();
    running.remove("other").await.unwrap();
    heard.next("notifications/tools/list_changed").await;
    assert!(running.drain(Duration::from_secs(5)).await);
    running.shutdown().await;
    heard.within(Duration::from_secs(5)).await;
}
