//! Two tenants and an attacker in one gateway: users who log in, roles, and upstreams that belong to somebody.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use client_driver::Client;
use http::StatusCode;
use mcp_aggregate::{Gateway, Running, Upstream};
use mcp_auth::{
    policy::{Pattern, PolicyChain, PolicyLayer, Rbac, RbacBuilder, UpstreamOwners},
    server::{ResourceServer, SharedRevocations},
    users::{NewUser, UserScheme, Users},
    vault::{ValueKey, Vault},
};
use mcp_core::{
    EntryKind, Error, ErrorKind, Request, Response, UpstreamId,
    clock::FakeClock,
    http_client::{GuardedClient, HttpClient as _},
    secret::Secret,
    store::MemoryStore,
    transport::http::{HttpConfig, HttpTransport},
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tower::service_fn;

const PASSWORD: &str = "correct horse battery";
const ERAS: [&str; 2] = ["2026-07-28", "2025-11-25"];

/// Who called which tool of which server.
type Calls = Arc<Mutex<Vec<(String, String)>>>;

/// Starts a server with the tools `read` and `erase`.
async fn server(name: &'static str, calls: &Calls) -> String {
    let calls = Arc::clone(calls);
    let service = service_fn(move |request: Request| {
        let calls = Arc::clone(&calls);
        async move { answer(name, &request, &calls) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let transport = HttpTransport::new(service, HttpConfig::default());
    let app = Router::new().route_service("/mcp", transport);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn answer(name: &str, request: &Request, calls: &Calls) -> Result<Response, Error> {
    let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
    let result = match request.method().as_str() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
            "capabilities": { "tools": {} }, "instructions": format!("how to use {name}"),
        }),
        "tools/list" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": [tool("read"), tool("erase")],
        }),
        "tools/call" => {
            let called = request.name().unwrap_or_default().to_owned();
            calls.lock().unwrap().push((name.to_owned(), called));
            json!({ "resultType": "complete", "content": [{ "type": "text", "text": name }] })
        }
        method => return Err(Error::new(ErrorKind::MethodNotFound, method.to_owned())),
    };
    Ok(Response::new(result.into()))
}

/// The roles of one tenant: operators use what they see, readers read.
fn roles() -> RbacBuilder {
    Rbac::builder()
        .allow("operator", EntryKind::Tool, Pattern::new("*"))
        .allow("reader", EntryKind::Tool, Pattern::new("*__read"))
        .assign_scope("role:operator", "operator")
        .assign_scope("role:reader", "reader")
}

/// An address at which nothing listens.
async fn nowhere() -> String {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/mcp", gone.local_addr().unwrap())
}

fn client() -> GuardedClient {
    let client = GuardedClient::builder().insecure_allow_loopback();
    client.build().unwrap()
}

struct World {
    origin: String,
    users: Users,
    owners: UpstreamOwners,
    running: Running,
    calls: Calls,
    clock: FakeClock,
    http: GuardedClient,
}

impl World {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let store = Arc::new(MemoryStore::new());
        let key = ValueKey::new(Secret::new("a key of at least 32 bytes, for tests"));
        let vault = || Vault::open(store.clone(), &key);
        let clock = FakeClock::new();
        let wall = || Arc::new(clock.clone());
        let base = Users::builder(&origin, vault().await.unwrap()).wall_clock(wall());
        let auth = ResourceServer::builder(&format!("{origin}/mcp"))
            .scheme(UserScheme::new(base.build().unwrap()))
            .wall_clock(wall())
            .build()
            .unwrap();
        let shared = auth.share_revocations(store.clone(), Duration::from_secs(3600));
        let shared: Arc<SharedRevocations> = Arc::new(shared.await.unwrap());
        let users = Users::builder(&origin, vault().await.unwrap()).revocations(shared);
        let users = users.wall_clock(wall()).build().unwrap();

        let calls = Calls::default();
        let owners = UpstreamOwners::new();
        let mut gateway = Gateway::builder("tenants");
        for (name, tenant) in [
            ("acme-crm", Some("acme")),
            ("blue-crm", Some("blue")),
            ("common", None),
        ] {
            gateway = gateway.upstream(Upstream::http(name, &server(name, &calls).await));
            if let Some(tenant) = tenant {
                owners.give_to_tenant(&UpstreamId::new(name).unwrap(), tenant);
            }
        }
        // One of acme's is not there.
        owners.give_to_tenant(&UpstreamId::new("acme-lost").unwrap(), "acme");
        let nowhere = nowhere().await;
        let rbac = Rbac::builder()
            .tenant("acme", roles())
            .tenant("blue", roles());
        let policy = PolicyChain::new()
            .then("owners", Arc::new(owners.clone()))
            .then("roles", Arc::new(rbac.build()));
        let running = gateway
            .upstream(Upstream::http("acme-lost", &nowhere))
            .layer(PolicyLayer::new(Arc::new(policy)))
            .build()
            .unwrap()
            .start();
        let app = Router::new()
            .route_service("/mcp", running.http(HttpConfig::default()))
            .layer(auth.layer())
            .merge(users.router());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            origin,
            users,
            owners,
            running,
            calls,
            clock,
            http: client(),
        }
    }

    async fn create(&self, name: &str, tenant: &str, role: &str) -> String {
        let new = NewUser::new(name, Secret::new(PASSWORD)).in_tenant(tenant);
        self.users.create(new.with_role(role)).await.unwrap().id
    }

    async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.origin);
        let mut request = http::Request::post(url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::from(body.to_string())).unwrap();
        let (parts, body) = self.http.send(request).await.unwrap().into_parts();
        let body = body.collect(1 << 16).await.unwrap();
        (
            parts.status,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    /// Logs a user in by the routes, and returns the access and the refresh token.
    async fn log_in(&self, name: &str, tenant: &str) -> (String, String) {
        let body = json!({ "name": name, "password": PASSWORD, "tenant": tenant });
        let (status, answer) = self.post("/api/v1/auth/login", &[], &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let text = |member: &str| answer[member].as_str().unwrap().to_owned();
        (text("accessToken"), text("refreshToken"))
    }

    async fn open(&self, name: &str, token: &str, version: &str) -> Client {
        let url = format!("{}/mcp", self.origin);
        let opened = Client::open_as(&url, version, false, Some((name, token))).await;
        opened.unwrap()
    }

    fn calls(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

async fn tools(client: &mut Client) -> BTreeSet<String> {
    let tools = client.list("tools/list", "tools").await.unwrap();
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.iter().map(name).collect()
}

fn named(name: &str) -> Map<String, Value> {
    Map::from_iter([("name".to_owned(), json!(name))])
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_see_and_reach_their_own_and_learn_nothing_of_others_in_either_era() {
    let world = World::start().await;
    world.create("user", "acme", "operator").await;
    world.create("user", "blue", "reader").await;
    for version in ERAS {
        let (acme, _) = world.log_in("user", "acme").await;
        let (blue, _) = world.log_in("user", "blue").await;
        let mut acme = world.open("acme", &acme, version).await;
        let mut blue = world.open("blue", &blue, version).await;
        let hers = [
            "acme-crm__erase",
            "acme-crm__read",
            "common__erase",
            "common__read",
        ];
        assert_eq!(tools(&mut acme).await, set(hers), "{version}");
        assert_eq!(
            tools(&mut blue).await,
            set(["blue-crm__read", "common__read"])
        );
        acme.call("tools/call", named("acme-crm__erase"))
            .await
            .unwrap();
        blue.call("tools/call", named("blue-crm__read"))
            .await
            .unwrap();
        let expected = [("acme-crm", "erase"), ("blue-crm", "read")];
        let expected = expected.map(|(server, tool)| (server.to_owned(), tool.to_owned()));
        assert_eq!(world.calls(), expected);

        // What is hidden is answered as what is not there, to the word, and reaches nobody.
        let mut refusals = BTreeSet::new();
        for hidden in ["acme-crm__read", "acme-lost__read", "nowhere__read"] {
            let refusal = blue.call("tools/call", named(hidden)).await.unwrap_err();
            let shown = refusal.to_string().replace(hidden, "X");
            // But for the id of the call.
            refusals.insert(shown.split("requestId").next().unwrap().to_owned());
        }
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert!(!refusals.first().unwrap().contains("acme"), "{refusals:?}");
        // Their own that is not there is named to its owners.
        let missing = acme.call("tools/call", named("acme-lost__read")).await;
        let missing = missing.unwrap_err().to_string();
        assert!(missing.contains("acme-lost"), "{missing}");
        // A role that lacks the permission.
        assert!(
            blue.call("tools/call", named("blue-crm__erase"))
                .await
                .is_err()
        );
        assert_eq!(world.calls(), []);
        acme.close().await;
        blue.close().await;
    }
    world.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_describes_itself_by_what_the_caller_may_use() {
    let world = World::start().await;
    world.create("user", "blue", "reader").await;
    let (token, _) = world.log_in("user", "blue").await;
    let authorization = format!("Bearer {token}");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let discover = json!({
        "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": { "_meta": meta },
    });
    let headers = [
        ("authorization", authorization.as_str()),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "server/discover"),
    ];
    let (status, stateless) = world.post("/mcp", &headers, &discover).await;
    assert_eq!(status, StatusCode::OK, "{stateless}");
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "t", "version": "1" },
        },
    });
    let (status, session) = world.post("/mcp", &headers[..1], &initialize).await;
    assert_eq!(status, StatusCode::OK, "{session}");
    for answer in [stateless, session] {
        let text = answer["result"]["instructions"].as_str().unwrap();
        assert!(text.contains("how to use blue-crm"), "{text}");
        assert!(text.contains("how to use common"), "{text}");
        assert!(!answer.to_string().contains("acme"), "{answer}");
    }
    world.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attacker_with_an_account_gets_nothing_that_is_not_theirs() {
    let world = World::start().await;
    world.create("victim", "acme", "operator").await;
    // The roles of another tenant are of no use, whatever their names are.
    world.create("mallory", "blue", "acme.operator").await;
    let (victim, _) = world.log_in("victim", "acme").await;
    let (mallory, _) = world.log_in("mallory", "blue").await;
    for version in ERAS {
        let mut client = world.open("mallory", &mallory, version).await;
        assert_eq!(tools(&mut client).await, set([]), "{version}");
        for tool in ["common__read", "acme-crm__read", "blue-crm__read"] {
            assert!(client.call("tools/call", named(tool)).await.is_err());
        }
        client.close().await;
    }
    let url = format!("{}/mcp", world.origin);
    for token in [
        "",
        "mcpa_nothing",
        &format!("{victim}x"),
        &victim[..victim.len() - 1],
    ] {
        for version in ERAS {
            let opened = Client::open_as(&url, version, false, Some(("x", token))).await;
            assert!(opened.is_err(), "{token}");
        }
    }
    // A session is of no use to anybody but its user.
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "t", "version": "1" },
        },
    });
    let request = http::Request::post(&url)
        .header("authorization", format!("Bearer {victim}"))
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(Bytes::from(initialize.to_string()))
        .unwrap();
    let answer = world.http.send(request).await.unwrap();
    let session = answer.headers()["mcp-session-id"].to_str().unwrap();
    let call = json!({
        "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "acme-crm__erase" },
    });
    let authorization = format!("Bearer {mallory}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("mcp-session-id", session),
        ("mcp-protocol-version", "2025-11-25"),
    ];
    let (status, _) = world.post("/mcp", &headers, &call).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(world.calls(), []);
    world.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_from_a_user_is_gone_from_the_next_call_on_in_sessions_too() {
    for version in ERAS {
        let world = World::start().await;
        let id = world.create("user", "acme", "operator").await;
        let (access, refresh) = world.log_in("user", "acme").await;
        let mut client = world.open("user", &access, version).await;
        let erase = || named("acme-crm__erase");
        client.call("tools/call", erase()).await.unwrap();
        // Another role.
        world.users.set_roles(&id, &["reader"]).await.unwrap();
        assert!(
            client.call("tools/call", erase()).await.is_err(),
            "{version}"
        );
        client
            .call("tools/call", named("acme-crm__read"))
            .await
            .unwrap();
        assert_eq!(
            tools(&mut client).await,
            set(["acme-crm__read", "common__read"])
        );
        // The upstream has another owner.
        let crm = UpstreamId::new("acme-crm").unwrap();
        assert!(world.owners.release(&crm));
        world.owners.give_to_tenant(&crm, "blue");
        assert!(
            client
                .call("tools/call", named("acme-crm__read"))
                .await
                .is_err()
        );
        assert_eq!(tools(&mut client).await, set(["common__read"]));
        // A stolen refresh token that was used before ends the login.
        let body = json!({ "refreshToken": refresh });
        let used = world.post("/api/v1/auth/refresh", &[], &body).await;
        assert_eq!(used.0, StatusCode::OK);
        world.clock.advance(Duration::from_secs(60));
        let stolen = world.post("/api/v1/auth/refresh", &[], &body).await;
        assert_eq!(stolen.0, StatusCode::UNAUTHORIZED);
        assert!(
            client
                .call("tools/call", named("common__read"))
                .await
                .is_err()
        );
        // The tenant is gone.
        let (access, _) = world.log_in("user", "acme").await;
        let mut client = world.open("user", &access, version).await;
        client
            .call("tools/call", named("common__read"))
            .await
            .unwrap();
        assert_eq!(world.users.remove_tenant("acme").await.unwrap(), [id]);
        assert_eq!(world.owners.remove_tenant("acme").len(), 1);
        assert!(
            client
                .call("tools/call", named("common__read"))
                .await
                .is_err()
        );
        world.running.shutdown().await;
    }
}
