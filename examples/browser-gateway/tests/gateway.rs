//! The gateway as a program, from one command, with the official clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod support;

use std::{path::Path, process::Stdio};

use support::{root, shop};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

fn program(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_browser-gateway"));
    command.arg("--state").arg(state).current_dir(root());
    command
}

/// Starts it, and reads the address and the key that it prints.
async fn gateway(shop: &str, state: &Path) -> (Child, String, String) {
    let mut child = program(state)
        .args(["--listen", "127.0.0.1:0", "--allow", shop])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async || {
        let line = lines.next_line().await.unwrap();
        line.expect("the gateway starts: if not, run .ci/test, which installs what it needs")
    };
    let (url, key) = (line().await, line().await);
    let key = key
        .strip_prefix("key of me: ")
        .expect("the first key")
        .to_owned();
    (child, url, key)
}

async fn run(mut command: Command, expected: &str) {
    let output = command
        .output()
        .await
        .unwrap_or_else(|error| panic!("{error}: run .ci/test, which installs the clients"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && text.contains(expected), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_call_the_tools_of_a_gateway_from_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let shop = shop().await;
    let (mut child, url, key) = gateway(&shop, &state).await;
    let (clients, cache) = (
        root().join("examples/browser-gateway/clients"),
        root().join(".cache/clients"),
    );
    let mut python = Command::new(cache.join("venv/bin/python"));
    python
        .arg(clients.join("python.py"))
        .args([&url, &key, &shop])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(python, "python ok").await;
    // Node looks for packages beside the importing file.
    let script = cache.join("browser-gateway.mjs");
    std::fs::copy(clients.join("typescript.mjs"), &script)
        .expect("the clients are installed: run .ci/test");
    let mut node = Command::new("node");
    node.arg(script).args([&url, &key, &shop]);
    run(node, "typescript ok").await;
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    // What was issued and kept is there for the next run.
    let issued = program(&state).args(["key", "bob"]).output().await.unwrap();
    assert!(
        issued.status.success() && issued.stdout.starts_with(b"bgw_"),
        "{issued:?}"
    );
    let mut secret = program(&state)
        .args(["secret", "bob", "shop-password"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = secret.stdin.take().unwrap();
    input.write_all(b"hunter2\n").await.unwrap();
    drop(input);
    assert!(secret.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_stdio_needs_no_key_and_gets_what_is_switched_on() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop().await;
    let mut child = program(&folder.path().join("state"))
        .args(["--stdio", "--allow", &shop, "--with", "code,downloads"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let messages = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"browser_create_session","arguments":{}}}"#,
    ];
    for message in messages {
        input
            .write_all(format!("{message}\n").as_bytes())
            .await
            .unwrap();
    }
    let mut answers = std::collections::HashMap::new();
    while answers.len() < 3 {
        let line = lines.next_line().await.unwrap().expect("it serves");
        let answer: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(id) = answer["id"].as_u64() {
            answers.insert(id, answer);
        }
    }
    let tools = answers[&2]["result"]["tools"].to_string();
    for (tool, is_there) in [
        ("browser_expect", true),
        ("browser_downloads", true),
        ("browser_evaluate", false),
    ] {
        assert_eq!(tools.contains(&format!("\"{tool}\"")), is_there, "{tool}");
    }
    let made = &answers[&3]["result"]["structuredContent"]["session_id"];
    assert!(made.is_string(), "{answers:?}");
    // It ends with its client.
    drop(input);
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_works_and_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let well = program(&state).arg("doctor").output().await.unwrap();
    let text = String::from_utf8_lossy(&well.stdout);
    assert!(
        well.status.success() && text.contains("the driver and the browser start"),
        "{well:?}"
    );
    let mut bare = program(&state);
    bare.arg("doctor")
        .env("PATH", folder.path())
        .current_dir(folder.path());
    let ill = bare.output().await.unwrap();
    let text = String::from_utf8_lossy(&ill.stderr);
    for part in [
        "apt-get install nodejs",
        "npm install playwright-core@1.64.0",
        "apt-get install chromium",
    ] {
        assert!(!ill.status.success() && text.contains(part), "{text}");
    }
}
