//! Upstreams that are slow, dead or partly there.

use std::time::Duration;

use mcp_aggregate::{Gateway, UpstreamState};
use mcp_core::{Error, ErrorKind};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tower::service_fn;

use crate::support::{Client, Server, start};

fn dead(id: &str) -> mcp_aggregate::Upstream {
    let service = service_fn(|_: mcp_core::Request| async {
        Err::<mcp_core::Response, _>(Error::new(ErrorKind::Unavailable, "it is not there"))
    });
    mcp_aggregate::Upstream::service(id, service)
}

fn after(seconds: u64) -> Server {
    let mut server = Server::with_tool("t");
    server.slowness = Duration::from_secs(seconds);
    server
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_upstreams_that_may_have_its_name_alone() {
    let gateway = Gateway::builder("gw")
        .upstream(after(3).upstream("quick"))
        .upstream(
            after(50)
                .upstream("slow")
                .list_timeout(Duration::from_secs(60)),
        )
        .build()
        .unwrap();
    let running = gateway.start();
    let started = Instant::now();
    let name = json!({ "name": "quick__t" });
    let client = Client::stateless("alice");
    client.call(&running, "tools/call", name).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_is_waited_for_once_and_not_by_each_client() {
    let slow = after(30);
    let gateway = Gateway::builder("gw")
        .upstream(Server::with_tool("quick").upstream("quick"))
        .upstream(slow.upstream("slow").list_timeout(Duration::from_secs(40)))
        .build()
        .unwrap();
    let running = gateway.start();
    let started = Instant::now();
    assert_eq!(
        Client::session("alice").tools(&running).await,
        ["quick__quick"]
    );
    assert!(
        started.elapsed() <= Duration::from_secs(41),
        "{:?}",
        started.elapsed()
    );
    let again = Instant::now();
    assert_eq!(
        Client::stateless("bob").tools(&running).await,
        ["quick__quick"]
    );
    assert!(
        again.elapsed() < Duration::from_secs(1),
        "{:?}",
        again.elapsed()
    );
    sleep(Duration::from_secs(120)).await;
    assert_eq!(
        Client::session("carol").tools(&running).await,
        ["quick__quick", "slow__t"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_is_reported_delays_nothing_and_comes_back() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    let alive = Arc::new(AtomicBool::new(false));
    let own = Arc::clone(&alive);
    let server = Server::new(json!({ "tools": {} }), move |_| {
        match own.load(Ordering::SeqCst) {
            true => Ok(json!({ "tools": [crate::support::tool("t")] })),
            false => Err(Error::new(
                ErrorKind::Unavailable,
                "exit status 3: set FOO_KEY",
            )),
        }
    });
    let builder = Gateway::builder("gw")
        .upstream(server.upstream("late"))
        .upstream(Server::with_tool("good").upstream("good"));
    let running = start(builder).await;
    let client = Client::session("alice");
    let asked = Instant::now();
    assert_eq!(client.tools(&running).await, ["good__good"]);
    let error = client
        .call(&running, "tools/call", json!({ "name": "late__t" }))
        .await
        .unwrap_err();
    assert!(error.message().contains("set FOO_KEY"), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(1));
    let health = running.health();
    assert_eq!(health.upstreams[0].state, UpstreamState::Unhealthy);
    assert!(health.is_ready(), "the other one serves");
    alive.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(client.tools(&running).await, ["late__t", "good__good"]);
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Healthy);
}

#[tokio::test(start_paused = true)]
async fn the_list_of_an_only_upstream_that_cannot_be_listed_is_an_error() {
    let running = start(Gateway::builder("gw").upstream(dead("up"))).await;
    let client = Client::session("alice");
    let error = client
        .call(&running, "tools/list", json!({}))
        .await
        .unwrap_err();
    assert!(error.message().contains("it is not there"), "{error}");
    assert!(!running.health().is_ready());
}

#[tokio::test(start_paused = true)]
async fn thirty_six_slow_upstreams_are_complete_as_soon_as_the_slowest() {
    let servers: Vec<_> = (0..36).map(|_| after(1)).collect();
    let builder = servers.iter().enumerate();
    let builder = builder.fold(Gateway::builder("gw"), |builder, (number, server)| {
        builder.upstream(server.upstream(&format!("up-{number}")))
    });
    let started = Instant::now();
    let running = start(builder).await;
    // Listening, discovering and listing take a second each.
    assert!(
        started.elapsed() <= Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(Client::session("alice").tools(&running).await.len(), 36);
    let listed: usize = servers.iter().map(|one| one.seen("tools/list").len()).sum();
    Client::stateless("bob").tools(&running).await;
    let again: usize = servers.iter().map(|one| one.seen("tools/list").len()).sum();
    assert_eq!(listed, again, "a second client costs no listing");
}
