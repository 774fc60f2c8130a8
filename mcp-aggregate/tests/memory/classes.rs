//! Clients with the same capabilities share the lists of an upstream.

use std::time::Duration;

use mcp_core::Method;
use serde_json::json;
use tokio::time::{Instant, advance};

use crate::support::{Client, Server, everything, start_with, tool};

/// A server that offers one tool more to clients that can sample.
fn sampling() -> Server {
    let capabilities = json!({ "tools": { "listChanged": true } });
    Server::new(capabilities, |request| {
        let mut tools = vec![tool("plain")];
        if request.capabilities().has("sampling") {
            tools.push(tool("summarize"));
        }
        Ok(json!({ "tools": tools }))
    })
}

fn sampler(user: &str) -> Client {
    Client::session(user).with_capabilities(json!({ "sampling": {} }))
}

#[tokio::test(start_paused = true)]
async fn a_client_that_can_more_is_offered_more_and_a_second_one_costs_no_listing() {
    let server = sampling();
    let running = start_with(&[("up", &server)]).await;
    assert_eq!(Client::session("bob").tools(&running).await, ["up__plain"]);
    let own = server.seen("tools/list").len();
    assert_eq!(
        own, 1,
        "a client without capabilities is offered what the gateway is"
    );
    let both = ["up__plain", "up__summarize"];
    let first = sampler("alice");
    assert_eq!(first.tools(&running).await, both);
    assert_eq!(server.seen("tools/list").len(), own + 1);
    assert_eq!(
        server.seen("tools/list")[own].session.as_ref(),
        Some(first.session_key())
    );
    assert_eq!(sampler("carol").tools(&running).await, both);
    let spelled = Client::session("dan").with_capabilities(json!({ "\u{73}ampling": {} }));
    assert_eq!(spelled.tools(&running).await, both);
    assert_eq!(server.seen("tools/list").len(), own + 1);
    assert_eq!(Client::session("bob").tools(&running).await, ["up__plain"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_lists_are_late_gets_the_common_ones_and_is_told_when_they_differ() {
    let mut server = sampling();
    let running = start_with(&[("up", &server)]).await;
    drop(running);
    server.slowness = Duration::from_secs(20);
    let upstream = server.upstream("up").list_timeout(Duration::from_secs(60));
    let running = mcp_aggregate::Gateway::builder("gw").upstream(upstream);
    let running = crate::support::start(running).await;
    let client = sampler("alice");
    let mut heard = client.listen(&running, everything()).await.unwrap();
    let asked = Instant::now();
    assert_eq!(client.tools(&running).await, ["up__plain"]);
    assert!(
        asked.elapsed() <= Duration::from_secs(6),
        "{:?}",
        asked.elapsed()
    );
    let again = Instant::now();
    assert_eq!(sampler("carol").tools(&running).await, ["up__plain"]);
    assert!(
        again.elapsed() < Duration::from_secs(1),
        "no one waits for it twice"
    );
    heard.next("notifications/tools/list_changed").await;
    assert_eq!(client.tools(&running).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_announcement_has_the_lists_of_every_class_read_again() {
    let server = sampling();
    let running = start_with(&[("up", &server)]).await;
    let client = sampler("alice");
    let mut heard = client.listen(&running, everything()).await.unwrap();
    client.tools(&running).await;
    let before = server.seen("tools/list").len();
    server.announce(Method::TOOLS_CHANGED).await;
    heard.next("notifications/tools/list_changed").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(sampler("carol").tools(&running).await.len(), 2);
    // The gateway's own listing and that of the class.
    assert!(server.seen("tools/list").len() >= before + 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_clients_own_session_announces_changes_that_clients_lists_only() {
    use std::{
        collections::HashSet,
        sync::{Arc, Mutex},
    };

    let unlocked: Arc<Mutex<HashSet<String>>> = Arc::default();
    let own = Arc::clone(&unlocked);
    let server = Server::new(
        json!({ "tools": { "listChanged": true } }),
        move |request| {
            let session = request.session().map(|key| key.id().to_owned());
            if *request.method() == Method::TOOLS_CALL {
                own.lock().unwrap().extend(session);
                return Ok(json!({ "content": [] }));
            }
            let is_open = session.is_some_and(|id| own.lock().unwrap().contains(&id));
            let tools = [Some(tool("unlock")), is_open.then(|| tool("secret"))];
            Ok(json!({ "tools": tools.into_iter().flatten().collect::<Vec<_>>() }))
        },
    );
    let running = start_with(&[("up", &server)]).await;
    let (alice, bob) = (Client::session("alice"), Client::session("bob"));
    let mut heard = alice.listen(&running, everything()).await.unwrap();
    assert_eq!(alice.tools(&running).await, ["up__unlock"]);
    let unlock = json!({ "name": "up__unlock" });
    alice.call(&running, "tools/call", unlock).await.unwrap();
    server.announce(Method::TOOLS_CHANGED).await;
    heard.next("notifications/tools/list_changed").await;
    assert_eq!(alice.tools(&running).await, ["up__unlock", "up__secret"]);
    let secret = json!({ "name": "up__secret" });
    alice
        .call(&running, "tools/call", secret.clone())
        .await
        .unwrap();
    assert_eq!(bob.tools(&running).await, ["up__unlock"]);
    assert!(bob.call(&running, "tools/call", secret).await.is_err());
    // The view ends with the session.
    alice.session_key().close();
    advance(Duration::from_secs(1)).await;
}
