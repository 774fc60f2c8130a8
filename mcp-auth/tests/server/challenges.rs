//! The metadata document and the challenges.

use http::{Request, StatusCode};
use mcp_auth::{Challenge, ScopeHierarchy, server::ResourceServer};
use mcp_core::Era;
use serde_json::json;

use crate::{Gate, issuer::AUDIENCE, jwt, simple, with};

#[tokio::test]
async fn check_01_the_document_names_the_resource_and_its_issuers() {
    let (issuer, _, _, gate) = simple().await;
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
    ] {
        // The document is made from the configuration: a proxy that ends TLS, or a forged Host, changes nothing.
        let request = Request::get(path)
            .header("host", "evil.example")
            .body(())
            .unwrap();
        let answer = gate.send(request).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body["resource"], AUDIENCE);
        assert_eq!(answer.body["authorization_servers"], json!([issuer.url]));
        assert_eq!(answer.body["bearer_methods_supported"], json!(["header"]));
    }
    let answer = gate
        .send(
            Request::post("/.well-known/oauth-protected-resource")
                .body(())
                .unwrap(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn check_02_and_03_a_request_without_a_token_is_told_where_to_get_one() {
    let (issuer, _, clock, _) = simple().await;
    let gate = Gate::new(jwt(&issuer, &clock).require(["mcp:read"]));
    let answer = gate.send(Request::post("/mcp").body(()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer.challenge,
        r#"Bearer scope="mcp:read", resource_metadata="https://gw.example/.well-known/oauth-protected-resource/mcp""#
    );
}

#[tokio::test]
async fn check_08_a_wrong_token_is_told_so() {
    let (_, _, _, gate) = simple().await;
    let answer = gate.bearer("abc").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(
        answer.challenge.contains(r#"error="invalid_token""#),
        "{}",
        answer.challenge
    );
    assert!(answer.challenge.contains("resource_metadata="));
    assert!(!answer.challenge.contains("abc"));
}

#[tokio::test]
async fn check_09_statuses_are_those_of_the_specification() {
    let (issuer, key, clock, _) = simple().await;
    let gate = Gate::new(jwt(&issuer, &clock).require(["mcp:admin"]));
    let token = key.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&token).await.status, StatusCode::FORBIDDEN);
    assert_eq!(gate.bearer("a b").await.status, StatusCode::BAD_REQUEST);
    let twice = Request::post("/mcp")
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    assert_eq!(gate.send(twice).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        gate.send(with("authorization", "Basic eDp5")).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn check_10_and_11_missing_scopes_are_asked_for_all_at_once() {
    let (issuer, key, clock, _) = simple().await;
    let gate = Gate::new(jwt(&issuer, &clock).require(["mcp:read", "mcp:write", "mcp:admin"]));
    let token = key.sign(&issuer.claims("alice", clock.date()));
    let answer = gate.bearer(&token).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let value = answer.headers.get("www-authenticate").unwrap();
    let challenge = &Challenge::parse_all([value])[0];
    assert_eq!(challenge.param("error"), Some("insufficient_scope"));
    assert_eq!(
        challenge.param("scope"),
        Some("mcp:read mcp:write mcp:admin")
    );
    assert!(challenge.resource_metadata().is_some());

    let error = gate
        .server
        .resource()
        .insufficient_scope(&["files:write".to_owned()]);
    for era in [Era::Stateless, Era::Session] {
        assert_eq!(error.status(era), StatusCode::FORBIDDEN);
    }
    let challenge = &Challenge::of_headers(error.headers())[0];
    assert_eq!(challenge.param("scope"), Some("files:write"));
}

#[tokio::test]
async fn check_12_a_broad_scope_is_enough() {
    let (issuer, key, clock, _) = simple().await;
    let scopes = ScopeHierarchy::new().with("mcp:read", ["mcp:list"]);
    let gate = Gate::new(jwt(&issuer, &clock).require(["mcp:list"]).hierarchy(scopes));
    let token = key.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn check_13_offline_access_is_never_asked_for() {
    let (issuer, _, clock, _) = simple().await;
    let builder = jwt(&issuer, &clock)
        .scopes_supported(["mcp:read", "offline_access"])
        .require(["mcp:read", "offline_access"]);
    let gate = Gate::new(builder);
    let document = String::from_utf8(gate.server.resource().document().unwrap().to_vec()).unwrap();
    assert!(document.contains("mcp:read") && !document.contains("offline_access"));
    let answer = gate.send(Request::post("/mcp").body(()).unwrap()).await;
    assert!(!answer.challenge.contains("offline_access"));
}

#[test]
fn a_server_with_a_bad_address_is_not_built() {
    for resource in [
        "http://gw.example/mcp",
        "https://gw.example/mcp#x",
        "gw.example",
    ] {
        let builder = ResourceServer::builder(resource).authorization_server("https://as.example");
        assert!(
            builder.scheme(crate::schemes::Nobody).build().is_err(),
            "{resource}"
        );
    }
}

#[tokio::test]
async fn a_challenge_leads_to_the_document_whatever_the_order_of_an_axum_router() {
    use axum::{Router, routing::get};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let (issuer, _, clock, _) = simple().await;
    let auth = jwt(&issuer, &clock).build().unwrap();
    let pages = Router::new().route("/pages", get(|| async { "a page" }));
    let inside = Router::new().route("/mcp", get(|| async { "inside" }));
    for app in [
        inside
            .clone()
            .layer(auth.layer())
            .merge(pages.clone())
            .merge(auth.router()),
        auth.router().merge(pages).merge(inside.layer(auth.layer())),
    ] {
        let get = async |path: &str| {
            let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
            app.clone().oneshot(request).await.unwrap()
        };
        let refused = get("/mcp").await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let challenge = &Challenge::of_headers(refused.headers())[0];
        let document = challenge.resource_metadata().unwrap();
        let answer = get(document.path()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{document}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["resource"], AUDIENCE);
        assert_eq!(get("/pages").await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn api_keys_alone_need_no_authorization_server() {
    use mcp_auth::server::{ApiKeyScheme, ApiKeys, MemoryApiKeys};
    let keys = ApiKeys::new("gw", mcp_core::secret::Secret::new("pepper"));
    let scheme = ApiKeyScheme::new("keys", keys, std::sync::Arc::new(MemoryApiKeys::default()));
    let gate = Gate::new(ResourceServer::builder(AUDIENCE).scheme(scheme));
    let answer = gate.send(Request::post("/mcp").body(()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.challenge, format!("Bearer realm=\"{AUDIENCE}\""));
    let path = "/.well-known/oauth-protected-resource";
    let document = gate.send(Request::get(path).body(()).unwrap()).await;
    assert_eq!(document.status, StatusCode::UNAUTHORIZED);
    // Tokens come from somewhere.
    let (issuer, _, _, _) = simple().await;
    let scheme = mcp_auth::server::JwtScheme::new(&issuer.url, AUDIENCE, issuer.client());
    let error = ResourceServer::builder(AUDIENCE).scheme(scheme).build();
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("authorization_server")
    );
}
