//! Upstreams that are child processes, good and bad. Run without a harness: the children are this very program.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, Write},
    time::Duration,
};

use conformance_server::{Fixture, FixtureOptions};
use mcp_aggregate::{Gateway, Running, SessionScope, Upstream, connector::stdio::Command};
use mcp_core::{Json, Method, Principal, Request, Response, SessionKey};
use rmcp::ServiceExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt as _;

/// Says to a child what it is to be.
const ROLE: &str = "CHILD_ROLE";

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::var(ROLE).ok().as_deref() {
        Some("fixture") => runtime.block_on(async {
            let fixture = Fixture::new(FixtureOptions::default());
            let server = fixture
                .handler()
                .serve((tokio::io::stdin(), tokio::io::stdout()));
            let _ = server.await.unwrap().waiting().await;
        }),
        Some(evil) => be_evil(evil),
        None => runtime.block_on(async {
            a_child_serves().await;
            for evil in ["garbage", "silent", "twice", "flood", "half", "exit"] {
                a_bad_child_harms_nobody(evil).await;
            }
            a_child_that_ends_is_started_again().await;
            eprintln!("ok");
        }),
    }
    // Reading standard input holds a runtime up.
    runtime.shutdown_background();
}

/// Shakes hands like a good server of the session era, and misbehaves when its tool is called.
fn be_evil(way: &str) {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let id = &request["id"];
        let answer = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
        let reply = match request["method"].as_str().unwrap_or_default() {
            "initialize" => answer(json!({
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "evil", "version": "1" },
            })),
            "tools/list" => answer(json!({
                "tools": [{ "name": "tool", "inputSchema": { "type": "object" } }],
            })),
            "tools/call" => match way {
                "garbage" => {
                    writeln!(out, "Traceback: not JSON\n{{\"jsonrpc\":").unwrap();
                    answer(json!({ "content": [{ "type": "text", "text": "after garbage" }] }))
                }
                "silent" => continue,
                "twice" => {
                    let foreign = json!({ "jsonrpc": "2.0", "id": 424_242, "result": {} });
                    let first = answer(json!({ "content": [{ "type": "text", "text": "first" }] }));
                    writeln!(out, "{foreign}\n{first}").unwrap();
                    answer(json!({ "content": [] }))
                }
                "flood" => {
                    let token = &request["params"]["_meta"]["progressToken"];
                    let params = json!({ "progressToken": token, "progress": 1 });
                    let progress = json!({
                        "jsonrpc": "2.0", "method": "notifications/progress", "params": params,
                    });
                    while writeln!(out, "{progress}").is_ok() {}
                    return;
                }
                "half" => {
                    write!(out, "{{\"jsonrpc\":\"2.0\",\"id\":").unwrap();
                    out.flush().unwrap();
                    return;
                }
                _ => return,
            },
            "notifications/initialized" | "notifications/cancelled" => continue,
            _ => {
                let error = json!({ "code": -32601, "message": "no such method" });
                json!({ "jsonrpc": "2.0", "id": id, "error": error })
            }
        };
        writeln!(out, "{reply}").unwrap();
    }
}

fn child(id: &str, role: &str) -> Upstream {
    let command = Command::new(std::env::current_exe().unwrap()).env(ROLE, role);
    Upstream::command(id, command).scope(SessionScope::PerSession)
}

async fn start(upstreams: impl IntoIterator<Item = Upstream>) -> Running {
    let builder = upstreams
        .into_iter()
        .fold(Gateway::builder("gateway"), |gateway, upstream| {
            gateway.upstream(upstream)
        });
    let running = builder.build().unwrap().start();
    assert!(running.settled(Duration::from_secs(30)).await);
    running
}

/// A client of the session era.
struct Client(SessionKey);

impl Client {
    fn new(name: &str) -> Self {
        Self(SessionKey::new(name))
    }

    async fn call(
        &self,
        running: &Running,
        tool: &str,
        arguments: Value,
    ) -> Result<Response, mcp_core::Error> {
        let params =
            json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": 7 } });
        let request = Request::new(Method::TOOLS_CALL, Some(Json::from(params)))
            .unwrap()
            .with_version(mcp_core::ProtocolVersion::V_2025_11_25)
            .with_principal(Principal::session(&self.0))
            .with_session(self.0.clone());
        running.service().oneshot(request).await
    }

    async fn text(&self, running: &Running, tool: &str, arguments: Value) -> String {
        let answer = timeout(Duration::from_secs(20), self.call(running, tool, arguments));
        let answer: Value = answer.await.expect("no hang").unwrap().decode().unwrap();
        answer["content"][0]["text"].as_str().unwrap().to_owned()
    }
}

async fn a_child_serves() {
    let running = start([child("a", "fixture"), child("b", "fixture")]).await;
    let (alice, bob) = (Client::new("alice"), Client::new("bob"));
    for (client, tool, count) in [
        (&alice, "a__session_counter", "1"),
        (&alice, "a__session_counter", "2"),
        (&alice, "b__session_counter", "1"),
        (&bob, "a__session_counter", "1"),
    ] {
        assert_eq!(client.text(&running, tool, json!({})).await, count);
    }
    let text = "x".repeat(200_000);
    let echoed = alice
        .text(&running, "a__echo", json!({ "text": text }))
        .await;
    assert_eq!(echoed, text);
    running.shutdown().await;
}

async fn a_bad_child_harms_nobody(way: &str) {
    eprintln!("a child that is bad: {way}");
    let running = start([child("good", "fixture"), child("evil", way)]).await;
    let (alice, bob) = (Client::new("alice"), Client::new("bob"));
    let bad = async {
        let answer = timeout(
            Duration::from_secs(3),
            alice.call(&running, "evil__tool", json!({})),
        );
        match (way, answer.await) {
            ("garbage", Ok(answer)) => {
                assert!(answer.unwrap().result().as_str().contains("after garbage"));
            }
            ("twice", Ok(answer)) => assert!(answer.unwrap().result().as_str().contains("first")),
            ("half" | "exit", Ok(answer)) => assert!(answer.is_err()),
            ("silent", answer) => assert!(answer.is_err(), "it was left"),
            ("flood", _) => {}
            (_, answer) => panic!("{answer:?}"),
        }
    };
    let good = async {
        for round in 0..20 {
            let text = format!("round {round}");
            let echoed = bob.text(&running, "good__echo", json!({ "text": text }));
            let echoed = timeout(Duration::from_secs(10), echoed).await;
            assert_eq!(echoed.expect("the other client goes on"), text);
        }
    };
    tokio::join!(bad, good);
    let echoed = alice
        .text(&running, "good__echo", json!({ "text": "y" }))
        .await;
    assert_eq!(echoed, "y");
    timeout(Duration::from_secs(15), running.shutdown())
        .await
        .expect("the gateway ends");
}

async fn a_child_that_ends_is_started_again() {
    eprintln!("a child that ends is started again");
    let running = start([child("evil", "exit")]).await;
    let alice = Client::new("alice");
    for round in 0..2 {
        let called = async {
            loop {
                let answer = alice.call(&running, "evil__tool", json!({})).await;
                let error = answer.expect_err("it ends when it is called");
                if error.kind() != mcp_core::ErrorKind::NotSent {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let called = timeout(Duration::from_secs(20), called).await;
        assert!(called.is_ok(), "round {round}");
    }
    running.shutdown().await;
}
