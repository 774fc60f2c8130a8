//! Tokens that a real authorization server binds to a key, at a server that demands that, through the gateway.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use client_driver::{Client, browser::Browser};
use mcp_aggregate::{Bare, Gateway, Upstream};
use mcp_auth::{
    oauth::{
        DpopUse, Manager, MasterOauth, OAuthClient, OAuthError, Provider, Relation, UserOauth,
    },
    server::{Dpop, JwtScheme, ResourceServer},
    testing::AuthorizationServer,
};
use mcp_core::{
    CredentialProvider, Error, ErrorKind, Principal, Request, Response,
    secret::Secret,
    transport::http::{HttpConfig, HttpTransport},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::service_fn;

use crate::{http, query, user, vault};

fn gw() -> OAuthClient {
    OAuthClient::with_secret("gw", Secret::new("gw-secret"))
}

/// Says who calls.
fn answer(request: &Request) -> Result<Response, Error> {
    let result = match request.method().as_str() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0,
            "cacheScope": "private", "capabilities": { "tools": {} },
        }),
        "tools/list" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "tools": [{ "name": "who", "inputSchema": { "type": "object" } }],
        }),
        "tools/call" => json!({
            "resultType": "complete",
            "content": [{ "type": "text", "text": request.principal().subject() }],
        }),
        method => return Err(Error::new(ErrorKind::MethodNotFound, method.to_owned())),
    };
    Ok(Response::new(result.into()))
}

/// Starts a server that takes only tokens that are bound to a key, each proof with its nonce and for its body.
async fn upstream(issuer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let dpop = Dpop::new()
        .required()
        .with_content_digest_required()
        .with_nonces(Secret::new("a key that the replicas of this server share"));
    let auth = ResourceServer::builder(&url)
        .authorization_server(issuer)
        .scopes_supported(["mcp:read"])
        .scheme(JwtScheme::new(issuer, &url, http()))
        .dpop(dpop)
        .build()
        .unwrap();
    let service = service_fn(|request: Request| async move { answer(&request) });
    let app = Router::new()
        .route_service("/mcp", HttpTransport::new(service, HttpConfig::default()))
        .layer(auth.layer())
        .merge(auth.router());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

struct World {
    manager: Manager,
    url: String,
    _server: AuthorizationServer,
}

async fn world(seconds: u32, change: impl Fn(Relation) -> Relation) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback = format!("http://{}/cb", listener.local_addr().unwrap());
    let server = AuthorizationServer::start(&[&callback], seconds, "").await;
    let landing = Router::new().route("/cb", get(|| async { "back" }));
    tokio::spawn(async move { axum::serve(listener, landing).await });
    let url = upstream(&server.issuer()).await;
    let relation = Relation::mcp("up", url.parse().unwrap())
        .with_client(&server.issuer(), gw())
        .with_scopes(["offline_access", "mcp:read"]);
    let manager = Manager::builder(callback.parse().unwrap(), http(), vault().await)
        .relation(change(relation))
        .build()
        .unwrap();
    World {
        manager,
        url,
        _server: server,
    }
}

async fn authorize(manager: &Manager, who: &Principal, relation: &str) -> Result<(), OAuthError> {
    let ticket = manager.ticket(who, relation, &[], None).await?;
    let url = manager.begin(&ticket, None).await?;
    assert!(
        query(url.as_str())
            .iter()
            .any(|(name, _)| name == "dpop_jkt")
    );
    let mut browser = Browser::new("alice").unwrap();
    let page = browser.visit(url.as_str()).await.unwrap();
    let answer = query(page.url.as_str());
    manager.finish(&answer, None).await.map(drop)
}

/// Calls the tool some times through a gateway that acts with these credentials.
async fn call(world: &World, credentials: Arc<dyn CredentialProvider>, times: usize) -> Vec<Value> {
    let running = Gateway::builder("gw")
        .upstream(Upstream::http("up", &world.url).credentials(credentials))
        .naming(Bare)
        .build()
        .unwrap()
        .start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let app =
        Router::new().route_service("/mcp", running.http(HttpConfig::default().single_user()));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = Client::open(&url, "2026-07-28").await.unwrap();
    let tools = client.list("tools/list", "tools").await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..times {
        let answer = client.call_tool(&tools, "who", json!({})).await.unwrap();
        answers.push(answer["content"][0]["text"].clone());
    }
    client.close().await;
    running.shutdown().await;
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_s_token_is_bound_to_a_key_and_proven_with_each_call() {
    let world = world(60, |relation| relation).await;
    let local = Principal::local();
    authorize(&world.manager, &local, "up").await.unwrap();
    let consent = world.url.parse().unwrap();
    let user = UserOauth::proxy(world.manager.clone(), "up", consent);
    let answers = call(&world, Arc::new(user), 3).await;
    assert_eq!(answers, ["alice", "alice", "alice"]);
    // The token alone is worth nothing.
    let token = world.manager.token(&local, "up").await.unwrap().unwrap();
    for scheme in ["Bearer", "DPoP"] {
        let response = reqwest_like(&world.url, &format!("{scheme} {}", token.secret())).await;
        assert_eq!(response, 401, "{scheme}");
    }
}

/// Posts a list request with a header of its own, and returns the status.
async fn reqwest_like(url: &str, authorization: &str) -> u16 {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let request = http::Request::post(url)
        .header("authorization", authorization)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .body(bytes::Bytes::from_static(body.as_bytes()))
        .unwrap();
    http().send(request).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_refreshed_with_its_key() {
    let world = world(3, |relation| relation).await;
    let alice = user("alice");
    authorize(&world.manager, &alice, "up").await.unwrap();
    let first = world.manager.token(&alice, "up").await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let second = world.manager.token(&alice, "up").await.unwrap().unwrap();
    assert_ne!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_s_own_token_is_bound_too() {
    let world = world(60, |relation| relation).await;
    let own = MasterOauth::client_credentials(world.manager.clone(), "up", &["mcp:read"]);
    assert_eq!(call(&world, Arc::new(own), 2).await.len(), 2);
    let tokens = world.manager.client_credentials("up", &[]).await.unwrap();
    let key = tokens.key.expect("the metadata of the server demand a key");
    let claims = tokens.access.secret().split('.').nth(1).unwrap().to_owned();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims);
    let claims: Value = serde_json::from_slice(&claims.unwrap()).unwrap();
    assert_eq!(claims["cnf"]["jkt"], key.thumbprint());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_bound_always_or_never_where_the_operator_says_so() {
    let never = world(60, |relation| relation.with_dpop(DpopUse::Never)).await;
    let tokens = never.manager.client_credentials("up", &[]).await.unwrap();
    assert!(tokens.key.is_none());
    let server = AuthorizationServer::start(&[crate::CALLBACK], 60, "").await;
    let provider = Relation::provider("as", Provider::oidc(&server.issuer()), gw())
        .with_resource("http://127.0.0.1:9/mcp");
    for (used, bound) in [(DpopUse::WhereAsked, false), (DpopUse::Always, true)] {
        let manager = crate::manager()
            .await
            .relation(provider.clone().with_dpop(used));
        let tokens = manager.build().unwrap().client_credentials("as", &[]).await;
        assert_eq!(tokens.unwrap().key.is_some(), bound, "{used:?}");
    }
}
