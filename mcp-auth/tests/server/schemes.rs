//! API keys, opaque tokens, and several schemes side by side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Form, Router, extract::State, http::HeaderMap, routing::post};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use mcp_auth::server::{
    ApiKeyScheme, ApiKeys, Identity, IntrospectionScheme, JwtScheme, MemoryApiKeys, Presented,
    Refusal, ResourceServer, Scheme, StoredApiKeys,
};
use mcp_core::{
    Principal,
    clock::FakeClock,
    http_client::GuardedClient,
    secret::Secret,
    store::{MemoryStore, Namespace},
};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{Gate, issuer::AUDIENCE, jwt, simple, with};

/// Takes nothing.
#[derive(Debug)]
pub(crate) struct Nobody;

#[async_trait]
impl Scheme for Nobody {
    fn name(&self) -> &'static str {
        "nobody"
    }

    fn takes(&self, _: &Presented<'_>) -> bool {
        false
    }

    async fn verify(&self, _: &Presented<'_>) -> Result<Identity, Refusal> {
        Err(Refusal::invalid("nobody passes"))
    }
}

fn keys() -> ApiKeys {
    ApiKeys::new("gw", Secret::new("pepper"))
}

#[tokio::test]
async fn an_api_key_passes_until_it_expires_or_is_removed() {
    let clock = FakeClock::new();
    let end = clock.date() + Duration::from_secs(100);
    let (key, record) = keys().issue("alice", ["mcp:read"], Some(end));
    let id = record.id.clone();
    let stored = serde_json::to_string(&record).unwrap();
    assert!(!stored.contains(key.secret()) && !format!("{record:?}").contains("hash"));
    let store = Arc::new(MemoryApiKeys::new([record]));
    let scheme =
        ApiKeyScheme::new("keys", keys(), store.clone()).with_wall_clock(Arc::new(clock.clone()));
    let gate = Gate::new(
        ResourceServer::builder(AUDIENCE)
            .authorization_server("https://as.example")
            .wall_clock(Arc::new(clock.clone()))
            .scheme(scheme),
    );
    for request in [
        with("x-api-key", key.secret()),
        with("authorization", &format!("Bearer {}", key.secret())),
    ] {
        let answer = gate.send(request).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(
            answer.body,
            json!({ "issuer": "keys", "subject": "alice", "scheme": "api-key", "credential": false })
        );
    }
    // The public part alone, a changed end, another pepper's key: all the same to the caller.
    let mut wrong = key.secret().to_owned();
    wrong.pop();
    wrong.push('!');
    let (foreign, _) = ApiKeys::new("gw", Secret::new("other")).issue("alice", [], None);
    for bad in [wrong.as_str(), foreign.secret(), "gw_x_y", ""] {
        assert_eq!(
            gate.send(with("x-api-key", bad)).await.status,
            StatusCode::UNAUTHORIZED,
            "{bad}"
        );
    }
    clock.advance(Duration::from_secs(101));
    assert_eq!(
        gate.send(with("x-api-key", key.secret())).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert!(store.remove(&id));
}

#[tokio::test]
async fn stored_api_keys_are_removed_for_good() {
    let namespace = Namespace::new("api-keys").unwrap();
    let store = StoredApiKeys::new(Arc::new(MemoryStore::default()), namespace);
    let (key, record) = keys().issue("alice", [], None);
    store
        .add(&record, std::time::SystemTime::now())
        .await
        .unwrap();
    let clock = FakeClock::new();
    let scheme = ApiKeyScheme::new("keys", keys(), Arc::new(store.clone()))
        .with_wall_clock(Arc::new(clock.clone()));
    let gate = Gate::new(
        ResourceServer::builder(AUDIENCE)
            .authorization_server("https://as.example")
            .wall_clock(Arc::new(clock.clone()))
            .scheme(scheme),
    );
    let bearer = key.secret();
    assert_eq!(gate.bearer(bearer).await.status, StatusCode::OK);
    assert!(store.remove(&record.id).await.unwrap());
    clock.advance(Duration::from_secs(31));
    assert_eq!(gate.bearer(bearer).await.status, StatusCode::UNAUTHORIZED);
}

#[derive(Clone, Default)]
struct Introspection {
    asked: Arc<AtomicUsize>,
}

async fn introspect(
    State(state): State<Introspection>,
    headers: HeaderMap,
    Form(form): Form<Vec<(String, String)>>,
) -> (StatusCode, String) {
    state.asked.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(20)).await;
    // rs:s%2F -> the secret is form-encoded before it is joined.
    assert_eq!(headers["authorization"], "Basic cnM6cyUyRg==");
    let token = &form.iter().find(|(name, _)| name == "token").unwrap().1;
    let answer = match token.as_str() {
        "good" => {
            json!({ "active": true, "sub": "alice", "aud": AUDIENCE, "scope": "a b", "exp": 1_767_225_600 + 90 })
        }
        "elsewhere" => json!({ "active": true, "sub": "alice", "aud": "https://other.example" }),
        "nowhere" => json!({ "active": true, "sub": "alice" }),
        "username" => json!({ "active": true, "username": "alice", "aud": AUDIENCE }),
        "client" => json!({ "active": true, "sub": "", "client_id": "alice", "aud": AUDIENCE }),
        "text" => json!({ "active": "true", "sub": "alice", "aud": AUDIENCE }),
        "early" => {
            json!({ "active": true, "sub": "alice", "aud": AUDIENCE, "nbf": 1_767_225_600 + 90 })
        }
        "bound" => {
            json!({ "active": true, "sub": "alice", "aud": AUDIENCE, "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } })
        }
        "oddly-bound" => {
            json!({ "active": true, "sub": "alice", "aud": AUDIENCE, "cnf": { "kid": "x" } })
        }
        "ended" => json!({ "active": true, "sub": "alice", "aud": AUDIENCE, "exp": 1 }),
        "endless" => json!({ "active": true, "sub": "alice", "aud": AUDIENCE, "exp": u64::MAX }),
        "down" => return (StatusCode::BAD_GATEWAY, String::new()),
        _ => json!({ "active": false }),
    };
    (StatusCode::OK, answer.to_string())
}

#[tokio::test]
async fn opaque_tokens_are_looked_up_once_for_many_and_again_before_long() {
    let state = Introspection::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/introspect", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/introspect", post(introspect))
        .with_state(state.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let clock = FakeClock::new();
    let scheme = IntrospectionScheme::new(
        "https://as.example",
        url.parse().unwrap(),
        AUDIENCE,
        ("rs", Secret::new("s/")),
        Arc::new(GuardedClient::operator(&url).unwrap()),
    )
    .with_wall_clock(Arc::new(clock.clone()));
    let gate = Gate::new(
        ResourceServer::builder(AUDIENCE)
            .authorization_server("https://as.example")
            .wall_clock(Arc::new(clock.clone()))
            .scheme(scheme),
    );
    let many = join_all((0..20).map(|_| gate.bearer("good"))).await;
    assert!(many.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(state.asked.load(Ordering::SeqCst), 1);
    for (token, status) in [
        ("elsewhere", 401),
        ("nowhere", 401),
        ("unknown", 401),
        ("early", 401),
        ("ended", 401),
        // A token that is bound is no bearer's.
        ("bound", 401),
        ("oddly-bound", 401),
        // What is no answer of the protocol proves nothing, one way or the other.
        ("text", 503),
        ("endless", 503),
        ("down", 503),
    ] {
        assert_eq!(gate.bearer(token).await.status.as_u16(), status, "{token}");
    }
    // A subject, a user's name and a client's id of the same text are three principals.
    let mut issuers = Vec::new();
    for token in ["good", "username", "client"] {
        let answer = gate.bearer(token).await;
        assert_eq!(answer.body["subject"], "alice", "{token}");
        issuers.push(answer.body["issuer"].as_str().unwrap().to_owned());
    }
    let own = "https://as.example";
    assert_eq!(
        issuers,
        [
            own.to_owned(),
            format!("{own}#username"),
            format!("{own}#client")
        ]
    );
    clock.advance(Duration::from_secs(91));
    assert_eq!(gate.bearer("good").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn made_up_tokens_are_asked_about_a_few_at_a_time() {
    #[derive(Clone, Default)]
    struct Counted {
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }
    async fn slow(State(state): State<Counted>) -> String {
        let now = state.now.fetch_add(1, Ordering::SeqCst) + 1;
        state.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        state.now.fetch_sub(1, Ordering::SeqCst);
        json!({ "active": false }).to_string()
    }
    let state = Counted::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/introspect", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/introspect", post(slow))
        .with_state(state.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let scheme = IntrospectionScheme::new(
        "https://as.example",
        url.parse().unwrap(),
        AUDIENCE,
        ("rs", Secret::new("s")),
        Arc::new(GuardedClient::operator(&url).unwrap()),
    )
    .with_concurrency(std::num::NonZeroUsize::new(4).unwrap());
    let gate = Gate::new(
        ResourceServer::builder(AUDIENCE)
            .authorization_server("https://as.example")
            .scheme(scheme),
    );
    let tokens: Vec<_> = (0..40).map(|n| format!("made-up-{n}")).collect();
    let flood = join_all(tokens.iter().map(|token| gate.bearer(token))).await;
    let refused = |status| status == StatusCode::UNAUTHORIZED;
    assert!(flood.iter().all(|answer| refused(answer.status)));
    assert_eq!(state.most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn several_schemes_stand_side_by_side_and_one_decides() {
    let (issuer, signer, clock, _) = simple().await;
    let (key, record) = keys().issue("robot", [], None);
    let store = Arc::new(MemoryApiKeys::new([record]));
    let scheme = ApiKeyScheme::new("keys", keys(), store).with_wall_clock(Arc::new(clock.clone()));
    let gate = Gate::new(jwt(&issuer, &clock).scheme(scheme));
    let token = signer.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&token).await.body["subject"], "alice");
    assert_eq!(gate.bearer(key.secret()).await.body["subject"], "robot");
}

fn both(authorization: &str, key: &str) -> Request<()> {
    Request::post("/mcp")
        .header("authorization", authorization)
        .header("x-api-key", key)
        .body(())
        .unwrap()
}

#[tokio::test]
async fn two_credentials_are_refused_and_neither_is_remembered_for_the_other() {
    let (issuer, signer, clock, _) = simple().await;
    let (key, record) = keys().issue("carol", [], None);
    let store = Arc::new(MemoryApiKeys::new([record]));
    let scheme = || {
        ApiKeyScheme::new("keys", keys(), store.clone()).with_wall_clock(Arc::new(clock.clone()))
    };
    let of_key = ResourceServer::builder(AUDIENCE)
        .authorization_server(&issuer.url)
        .wall_clock(Arc::new(clock.clone()));
    let token = signer.sign(&issuer.claims("alice", clock.date()));
    let jwt_scheme = || {
        JwtScheme::new(&issuer.url, AUDIENCE, issuer.client())
            .with_clocks(Arc::new(clock.clone()), Arc::new(clock.clone()))
    };
    for gate in [
        Gate::new(jwt(&issuer, &clock).scheme(scheme())),
        Gate::new(of_key.scheme(scheme()).scheme(jwt_scheme())),
    ] {
        let bearer = format!("Bearer {token}");
        for authorization in ["Bearer undefined", "Basic eDp5", &bearer] {
            let answer = gate.send(both(authorization, key.secret())).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{authorization}");
            assert!(answer.challenge.contains("invalid_request"));
        }
        let dummy = gate.bearer("undefined").await;
        assert_eq!(dummy.status, StatusCode::UNAUTHORIZED);
        assert_eq!(gate.bearer(&token).await.body["subject"], "alice");
        // A verdict that is remembered does not let a second credential pass.
        let again = gate.send(both(&bearer, key.secret())).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        let alone = gate.send(with("x-api-key", key.secret())).await;
        assert_eq!(alone.body["subject"], "carol");
    }
}

/// Takes a cookie, whatever stands beside it, and says nothing about its headers.
#[derive(Debug)]
struct Cookies;

#[async_trait]
impl Scheme for Cookies {
    fn name(&self) -> &'static str {
        "cookie"
    }

    fn takes(&self, presented: &Presented<'_>) -> bool {
        presented.headers.contains_key("cookie")
    }

    async fn verify(&self, _: &Presented<'_>) -> Result<Identity, Refusal> {
        Ok(Identity::new(Principal::authenticated("cookies", "carol")))
    }
}

#[tokio::test]
async fn a_verdict_about_something_else_is_not_remembered_for_the_bearer_token() {
    let gate = Gate::new(
        ResourceServer::builder(AUDIENCE)
            .authorization_server("https://as.example")
            .scheme(Cookies),
    );
    let request = Request::post("/mcp")
        .header("authorization", "Bearer undefined")
        .header("cookie", "a=b")
        .body(())
        .unwrap();
    assert_eq!(gate.send(request).await.status, StatusCode::OK);
    let alone = gate.bearer("undefined").await;
    assert_eq!(alone.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_optional_credential_may_be_missing_but_not_wrong() {
    let (issuer, signer, clock, _) = simple().await;
    let gate = Gate::new(jwt(&issuer, &clock).optional().open_path("/healthz"));
    let nobody = Request::post("/mcp").body(()).unwrap();
    let answer = gate.send(nobody).await;
    assert_eq!(
        (answer.status, &answer.body["subject"]),
        (StatusCode::OK, &json!(null))
    );
    assert_eq!(gate.bearer("wrong").await.status, StatusCode::UNAUTHORIZED);
    let token = signer.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&token).await.body["subject"], "alice");
    let open = Request::get("/healthz/live").body(()).unwrap();
    assert_eq!(gate.send(open).await.status, StatusCode::OK);
}
