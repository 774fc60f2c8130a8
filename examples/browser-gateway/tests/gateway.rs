//! The gateway as a program: refuses strangers, serves the official clients, keeps to its budget.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use axum::{Router, response::Html, routing::get};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

const SHOP: &str = "<!doctype html><title>Shop</title><h1>Tea shop</h1>
    <form onsubmit=\"event.preventDefault(); out.textContent = 'Thank you, ' + who.value\">
    <label>Name <input id=who></label><button>Order</button></form><p id=out></p>";
const TOKEN: &str = "a-token-of-some-length";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

async fn shop() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/", get(|| async { Html(SHOP) }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    origin
}

async fn gateway(shop: &str, state: &Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_browser-gateway"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--origin",
            shop,
            "--private-origin",
            shop,
            "--state",
        ])
        .arg(state)
        .env("BROWSER_GATEWAY_TOKENS", format!("alice={TOKEN}"))
        .current_dir(root())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines
        .next_line()
        .await
        .unwrap()
        .expect("the gateway starts: if not, run .ci/test, which installs what it needs");
    (child, url)
}

async fn post(url: &str, token: &str) -> String {
    let address = url.trim_start_matches("http://").trim_end_matches("/mcp");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
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
async fn official_clients_call_the_tools_and_strangers_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let shop = shop().await;
    let (mut child, url) = gateway(&shop, &folder.path().join("state.redb")).await;
    for bad in ["", "wrong", "a-token-of-some-lengtH"] {
        let answer = post(&url, bad).await;
        assert!(
            answer.starts_with("HTTP/1.1 401")
                && answer.to_lowercase().contains("www-authenticate: bearer"),
            "{answer}"
        );
    }
    assert!(
        post(&url, TOKEN).await.starts_with("HTTP/1.1 4"),
        "an empty message is not one, but the token is good"
    );
    let (clients, cache) = (
        root().join("examples/browser-gateway/clients"),
        root().join(".cache/clients"),
    );
    let mut python = Command::new(cache.join("venv/bin/python"));
    python
        .arg(clients.join("python.py"))
        .args([&url, TOKEN, &shop])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(python, "python ok").await;
    // Node looks for packages beside the importing file.
    let script = cache.join("browser-gateway.mjs");
    std::fs::copy(clients.join("typescript.mjs"), &script)
        .expect("the clients are installed: run .ci/test");
    let mut node = Command::new("node");
    node.arg(script).args([&url, TOKEN, &shop]);
    run(node, "typescript ok").await;
    child.start_kill().unwrap();
    child.wait().await.unwrap();
}
