//! A shop to visit, and a client of the stateless revision.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use axum::{Router, response::Html, routing::get};
use browser_gateway::{App, Outcome, Settings, State, build};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use mcp_browser::{Discover, DriverConfig};
use mcp_core::http_client::GuardedClient;
use serde_json::{Value, json};

const SHOP: &str = "<!doctype html><title>Shop</title><h1>Tea shop</h1>
    <form onsubmit=\"event.preventDefault(); out.textContent = 'Thank you, ' + who.value; size.textContent = pass.value.length + ' letters'\">
    <label>Name <input id=who></label><label>Password <input id=pass type=password></label>
    <button>Order</button></form><p id=out></p><p id=size></p>";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

pub(crate) async fn shop() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/", get(|| async { Html(SHOP) }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    origin
}

pub(crate) fn driver() -> DriverConfig {
    Discover::new()
        .programs_in(&std::env::var_os("PATH").unwrap_or_default())
        .package_at(root().join(".cache/playwright/node_modules/playwright-core"))
        .find()
        .unwrap_or_else(|error| panic!("{error}: run .ci/test, which installs it"))
}

/// A gateway in this process.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) state: State,
    app: App,
    http: GuardedClient,
    _folder: tempfile::TempDir,
}

/// What came back over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The tool's own error, by its name.
    pub(crate) fn tool_error(&self) -> &str {
        self.body["result"]["structuredContent"]["error"]
            .as_str()
            .unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        self.body["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
    }

    pub(crate) fn session(&self) -> String {
        self.body["result"]["structuredContent"]["session_id"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"))
            .to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl World {
    pub(crate) async fn start(driver: DriverConfig, change: impl FnOnce(&mut Settings)) -> Self {
        Self::try_start(driver, change).await.unwrap()
    }

    async fn try_start(driver: DriverConfig, change: impl FnOnce(&mut Settings)) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let state = State::open(folder.path().join("state")).await?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/mcp", listener.local_addr()?);
        let mut settings = Settings::new(driver, url.parse()?);
        change(&mut settings);
        let app = build(settings, &state).await?;
        let router = app.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let http = GuardedClient::builder().insecure_allow_loopback().build()?;
        Ok(Self {
            url,
            state,
            app,
            http,
            _folder: folder,
        })
    }

    /// A request as it stands.
    pub(crate) async fn send(&self, request: http::Request<Bytes>) -> Answer {
        let response = self.http.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        // An answer may come as the only event of a stream.
        let text = String::from_utf8_lossy(&body).into_owned();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        let data = data.map(str::trim).rfind(|data| !data.is_empty());
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(data.unwrap_or(&text)).unwrap_or(Value::String(text)),
        }
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        let request = http::Request::get(url).body(Bytes::new()).unwrap();
        self.send(request).await
    }

    /// Calls a tool as the owner of a key.
    pub(crate) async fn call(&self, key: Option<&str>, tool: &str, arguments: Value) -> Answer {
        let version = "2026-07-28";
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments, "_meta": {
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {} } } });
        let mut request = http::Request::post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", version)
            .header("mcp-method", "tools/call")
            .header("mcp-name", tool);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = Bytes::from(body.to_string());
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn key(&self, user: &str) -> String {
        self.state.issue(user).await.unwrap().secret().to_owned()
    }

    pub(crate) async fn stop(self) {
        self.app.shutdown().await;
    }
}
