//! A policy inside a gateway: what a user may not use is not listed, not called, and not told about.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use axum::{Router, middleware};
use client_driver::Client;
use mcp_aggregate::{Gateway, Running, Upstream};
use mcp_auth::{
    oauth::BypassAuth,
    policy::{Pattern, PolicyChain, PolicyLayer, Rbac, ScopeRules},
    server::{ApiKeyScheme, ApiKeys, MemoryApiKeys, ResourceServer},
};
use mcp_core::{
    EntryKind, Error, ErrorKind, Request, Response,
    secret::Secret,
    transport::http::{HttpConfig, HttpTransport},
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tower::service_fn;

/// A server with two entries of each kind, which remembers what it was asked and with which credential.
#[derive(Clone, Default)]
struct Server {
    called: Arc<Mutex<Vec<String>>>,
    shown: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Server {
    async fn start(&self) -> url::Url {
        let called = Arc::clone(&self.called);
        let service = service_fn(move |request: Request| {
            let called = Arc::clone(&called);
            async move { answer(&request, &called) }
        });
        let shown = Arc::clone(&self.shown);
        let note = move |request: axum::extract::Request, next: middleware::Next| {
            let headers = request.headers();
            let own = headers
                .get("authorization")
                .is_some_and(|own| own == "Bearer operators");
            let method = format!("{} {:?}", request.method(), headers.get("mcp-method"));
            shown.lock().unwrap().push((method, own));
            next.run(request)
        };
        let app = Router::new()
            .route_service("/mcp", HttpTransport::new(service, HttpConfig::default()))
            .layer(middleware::from_fn(note));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        url.parse().unwrap()
    }
}

fn answer(request: &Request, called: &Mutex<Vec<String>>) -> Result<Response, Error> {
    let both = |entry: fn(&str) -> Value| json!([entry("open"), entry("secret")]);
    let list = |member: &str, all: Value| {
        let mut page = json!({ "resultType": "complete", "ttlMs": 0, "cacheScope": "private" });
        page[member] = all;
        page
    };
    let result = match request.method().as_str() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
            "capabilities": { "tools": {}, "prompts": {}, "resources": {} },
        }),
        "tools/list" => list(
            "tools",
            both(|name| json!({ "name": name, "inputSchema": { "type": "object" } })),
        ),
        "prompts/list" => list("prompts", both(|name| json!({ "name": name }))),
        "resources/list" => list(
            "resources",
            both(|name| json!({ "name": name, "uri": format!("data://{name}") })),
        ),
        "resources/templates/list" => list(
            "resourceTemplates",
            both(|name| json!({ "name": name, "uriTemplate": format!("data://{name}/{{x}}") })),
        ),
        "tools/call" | "prompts/get" | "resources/read" => {
            called
                .lock()
                .unwrap()
                .push(request.name().unwrap_or_default().to_owned());
            json!({ "resultType": "complete", "content": [], "messages": [], "contents": [],
                "ttlMs": 0, "cacheScope": "private" })
        }
        method => return Err(Error::new(ErrorKind::MethodNotFound, method.to_owned())),
    };
    Ok(Response::new(result.into()))
}

struct World {
    url: String,
    server: Server,
    running: Running,
    alice: Secret,
    root: Secret,
}

async fn world() -> World {
    let server = Server::default();
    let credentials = [(
        "authorization".parse().unwrap(),
        "Bearer operators".parse().unwrap(),
    )];
    let bypass = BypassAuth::with_headers(credentials.into_iter().collect());
    let url = server.start().await;
    let upstream = Upstream::http("up", url.as_str()).credentials(Arc::new(bypass));
    let mut rbac = Rbac::builder()
        .assign_authenticated("user")
        .assign_subject("https://gw.example", "root", "admin")
        .allow_everything("admin");
    for (kind, pattern) in [
        (EntryKind::Tool, "*open"),
        (EntryKind::Prompt, "*open"),
        (EntryKind::Resource, "*open"),
        (EntryKind::ResourceTemplate, "*open/*"),
    ] {
        rbac = rbac.allow("user", kind, Pattern::new(pattern));
    }
    let scopes =
        ScopeRules::new().require(EntryKind::Prompt, Pattern::new("*open"), ["prompts:use"]);
    let chain = PolicyChain::new()
        .then("roles", Arc::new(rbac.build()))
        .then("scopes", Arc::new(scopes));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let keys = ApiKeys::new("gw", Secret::new("pepper"));
    let (alice, one) = keys.issue("alice", [], None);
    let (root, other) = keys.issue("root", ["prompts:use"], None);
    let auth = ResourceServer::builder(&url)
        .authorization_server("https://as.example")
        .scheme(ApiKeyScheme::new(
            "https://gw.example",
            keys,
            Arc::new(MemoryApiKeys::new([one, other])),
        ))
        .build()
        .unwrap();
    let resource = auth.resource().clone();
    let policy = PolicyLayer::new(Arc::new(chain))
        .with_challenges(move |scopes| resource.insufficient_scope(scopes));
    let running = Gateway::builder("policed")
        .upstream(upstream)
        .layer(policy)
        .build()
        .unwrap()
        .start();
    let transport = running.http(HttpConfig::default());
    let app = Router::new()
        .route_service("/mcp", transport)
        .layer(auth.layer());
    tokio::spawn(async move { axum::serve(listener, app).await });
    World {
        url,
        server,
        running,
        alice,
        root,
    }
}

const LISTS: [(&str, &str, &str); 4] = [
    ("tools/list", "tools", "name"),
    ("prompts/list", "prompts", "name"),
    ("resources/list", "resources", "uri"),
    (
        "resources/templates/list",
        "resourceTemplates",
        "uriTemplate",
    ),
];

async fn names(client: &mut Client) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (method, member, name) in LISTS {
        for entry in client.list(method, member).await.unwrap() {
            names.insert(format!("{member} {}", entry[name].as_str().unwrap()));
        }
    }
    names
}

/// The name that the gateway has for a tool of its server; prompts are named alike.
fn tool(all: &BTreeSet<String>, own: &str) -> String {
    let mut tools = all.iter().filter_map(|name| name.strip_prefix("tools "));
    tools.find(|name| name.ends_with(own)).unwrap().to_owned()
}

fn params(name: &str, value: &str) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), json!(value))])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_use_is_neither_listed_nor_reached_in_either_era() {
    for version in ["2026-07-28", "2025-11-25"] {
        let world = world().await;
        let open = async |name: &'static str, key: &Secret| {
            let known = Some((name, key.secret()));
            Client::open_as(&world.url, version, false, known)
                .await
                .unwrap()
        };
        let (mut alice, mut root) = (
            open("alice", &world.alice).await,
            open("root", &world.root).await,
        );
        let (hers, all) = (names(&mut alice).await, names(&mut root).await);
        assert_eq!((hers.len(), all.len()), (4, 8), "{hers:?} {all:?}");
        assert!(
            hers.iter()
                .all(|name| name.contains("open") && all.contains(name)),
            "{hers:?}"
        );
        for (method, member, open, secret) in [
            (
                "tools/call",
                "name",
                tool(&all, "open"),
                tool(&all, "secret"),
            ),
            (
                "resources/read",
                "uri",
                "data://open".to_owned(),
                "data://secret".to_owned(),
            ),
        ] {
            alice.call(method, params(member, &open)).await.unwrap();
            let refused = alice
                .call(method, params(member, &secret))
                .await
                .unwrap_err();
            assert!(!refused.to_string().contains("operators"), "{refused}");
            root.call(method, params(member, &secret)).await.unwrap();
        }
        // A prompt is seen before its scopes are there, so that a client can ask for them.
        assert!(
            alice
                .call("prompts/get", params("name", &tool(&all, "open")))
                .await
                .is_err()
        );
        root.call("prompts/get", params("name", &tool(&all, "open")))
            .await
            .unwrap();
        let called = world.server.called.lock().unwrap().clone();
        assert_eq!(
            called,
            ["open", "secret", "data://open", "data://secret", "open"],
            "{version}"
        );
        alice.close().await;
        root.close().await;
        world.running.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_39_the_credential_goes_with_every_request_to_the_upstream() {
    let world = world().await;
    let known = Some(("root", world.root.secret()));
    let mut root = Client::open_as(&world.url, "2025-11-25", false, known)
        .await
        .unwrap();
    names(&mut root).await;
    root.call("resources/read", params("uri", "data://open"))
        .await
        .unwrap();
    root.close().await;
    world.running.shutdown().await;
    let shown = world.server.shown.lock().unwrap().clone();
    assert!(shown.len() >= 6, "{shown:?}");
    assert!(shown.iter().all(|(_, own)| *own), "{shown:?}");
}
