//! How the program ends: by signals, and with its standard input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

mod support;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use support::{Client, Gateway, PATIENCE, TemporaryFile, rounds, server, until};

/// How many gateways each signal ends.
const ROUNDS: usize = 20;
/// How many of them run at the same time.
const AT_ONCE: usize = 5;
/// The processes of [`family`]: a server with a child, and a wrapper with two, for the gateway and for one session.
const FAMILY: usize = 2 * (2 + 3);

/// A server that has started another process, and one behind a wrapper that ignores SIGTERM.
fn family() -> [(&'static str, String); 2] {
    let server = server().replace('\'', "");
    [
        ("child", format!("sh -c 'sleep 600 & exec {server}'")),
        (
            "wrapper",
            format!("sh -c 'trap \"\" TERM; sleep 600 & {server}; sleep 600; :'"),
        ),
    ]
}

/// Ends a gateway that has an open session, with its stream, in each of its servers.
async fn ends_with_its_family(name: &'static str) {
    let mut gateway = Gateway::start(&family(), &[]).await;
    gateway.is_healthy().await;
    let client = Client::session(&gateway.address).await;
    let _stream = client.listen().await;
    for tool in ["child__echo", "wrapper__echo"] {
        let text = client.call(tool, json!({ "text": "hello" })).await;
        assert!(text.unwrap().starts_with("hello "));
    }
    gateway.has_started(FAMILY).await;
    gateway.signal(name);
    let status = gateway.ended().await;
    assert_eq!(status.success(), name != "KILL", "{status}");
    gateway.leaves_nothing().await;
}

#[tokio::test]
async fn no_process_of_an_upstream_outlives_sigterm() {
    rounds(ROUNDS, AT_ONCE, || ends_with_its_family("TERM")).await;
}

#[tokio::test]
async fn no_process_of_an_upstream_outlives_sigint() {
    rounds(ROUNDS, AT_ONCE, || ends_with_its_family("INT")).await;
}

#[tokio::test]
async fn no_process_of_an_upstream_outlives_sigkill() {
    rounds(ROUNDS, AT_ONCE, || ends_with_its_family("KILL")).await;
}

#[tokio::test]
async fn handlers_stand_before_anything_is_started() {
    for (name, options) in [("TERM", &[][..]), ("INT", &[]), ("TERM", &["--stdio"])] {
        let slow = [("slow", format!("{} --sleep 600", server()))];
        let mut gateway = match options {
            [] => Gateway::run(&slow, &["--listen", "127.0.0.1:0"]),
            _ => Gateway::run(&slow, options),
        };
        gateway.has_started(1).await;
        gateway.signal(name);
        let status = gateway.ended().await;
        assert!(status.success(), "{name} {options:?}: {status}");
        gateway.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_call_in_flight_is_answered_before_the_end() {
    let upstreams = [("up", server())];
    let mut gateway = Gateway::start(&upstreams, &["--drain", "60"]).await;
    gateway.is_healthy().await;
    assert_eq!(gateway.readiness().await, 200);
    let session = Client::session(&gateway.address).await;
    let stateless = Client::stateless(&gateway.address);
    let [file, first, second] = ["end", "first", "second"].map(TemporaryFile::new);
    let wait = |started: &TemporaryFile| json!({ "path": file.path(), "started": started.path(), "text": "done" });
    let calls = async {
        tokio::join!(
            session.call("up__wait", wait(&first)),
            stateless.call("up__wait", wait(&second)),
        )
    };
    let draining = async {
        assert!(until(async || first.path().exists() && second.path().exists()).await);
        gateway.signal("TERM");
        assert!(until(async || gateway.readiness().await == 503).await);
        let refused = Client::try_session(&gateway.address).await;
        assert_eq!(refused.err(), Some(503), "no session is opened");
        let refused = session.call("up__echo", json!({})).await;
        assert!(refused.is_err(), "{refused:?}");
        std::fs::write(file.path(), "").unwrap();
    };
    let ((first, second), ()) = tokio::join!(calls, draining);
    for answer in [first, second] {
        assert!(answer.unwrap().starts_with("done "));
    }
    assert!(gateway.ended().await.success());
    gateway.leaves_nothing().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let upstreams = [("up", server())];
        let mut gateway = Gateway::start(&upstreams, &["--drain", "600"]).await;
        gateway.is_healthy().await;
        let client = Client::session(&gateway.address).await;
        let started = TemporaryFile::new("second");
        let never = json!({ "path": "/nowhere/at/all", "started": started.path() });
        let call = tokio::spawn(async move { client.call("up__wait", never).await });
        assert!(until(async || started.path().exists()).await);
        // It would be answered 600 s later: the second signal has to end it.
        gateway.signal(first);
        assert!(until(async || gateway.readiness().await == 503).await);
        gateway.signal(second);
        gateway.ended().await;
        assert!(call.await.unwrap().is_err());
        gateway.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_session_on_standard_input_ends_with_it_and_leaves_nothing() {
    for ends_by in ["input", "TERM", "KILL"] {
        let mut gateway = Gateway::run(&family(), &["--stdio"]);
        let mut stdin = gateway.child.stdin.take().unwrap();
        let mut lines = BufReader::new(gateway.child.stdout.take().unwrap()).lines();
        let opening = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        });
        let call = json!({ "name": "child__echo", "arguments": { "text": "hello" } });
        let mut answer = Value::Null;
        for (id, method, params) in [
            (1, "initialize", opening),
            (2, "tools/list", json!({})),
            (3, "tools/call", call),
        ] {
            let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
            let line = format!("{request}\n");
            stdin.write_all(line.as_bytes()).await.unwrap();
            let answered = async {
                loop {
                    let line = lines.next_line().await.unwrap().expect("an answer comes");
                    let message: Value = serde_json::from_str(&line).unwrap();
                    if message["id"] == id {
                        return message;
                    }
                }
            };
            answer = timeout(PATIENCE, answered).await.unwrap();
        }
        let text = answer["result"]["content"][0]["text"].as_str();
        assert!(
            text.is_some_and(|text| text.starts_with("hello ")),
            "{answer}"
        );
        match ends_by {
            "input" => drop(stdin),
            name => gateway.signal(name),
        }
        let status = gateway.ended().await;
        assert_eq!(status.success(), ends_by != "KILL", "{ends_by}: {status}");
        gateway.leaves_nothing().await;
    }
}
