//! Many servers that start slowly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

mod support;

use serde_json::json;
use tokio::time::Instant;

use support::{Client, Gateway, server, until};

/// How many servers there are.
const SERVERS: usize = 36;
/// How many tools each lists: its own two and one more.
const TOOLS: usize = 3;

#[tokio::test]
async fn slow_servers_are_all_listed_and_a_second_client_starts_none_before_it_calls() {
    let command = format!("{} --sleep 3 --tools 1", server());
    let names: Vec<_> = (0..SERVERS).map(|number| format!("s{number}")).collect();
    let upstreams: Vec<_> = names
        .iter()
        .map(|name| (&**name, command.clone()))
        .collect();
    let started = Instant::now();
    let gateway = Gateway::start(&upstreams, &[]).await;
    gateway.is_healthy().await;
    println!("all {SERVERS} are listed after {:?}", started.elapsed());

    let first = Client::session(&gateway.address).await;
    assert_eq!(first.tools().await.len(), SERVERS * TOOLS);
    let before = gateway.processes();
    assert!(before >= SERVERS, "{before} processes");

    let second = Client::session(&gateway.address).await;
    let _stream = second.listen().await;
    let third = Client::stateless(&gateway.address);
    for client in [&second, &third] {
        assert_eq!(client.tools().await.len(), SERVERS * TOOLS);
    }
    assert_eq!(
        gateway.processes(),
        before,
        "{:#?}",
        gateway.command_lines()
    );

    second.call("s7__echo", json!({})).await.unwrap();
    assert!(until(async || gateway.processes() == before + 1).await);
}
