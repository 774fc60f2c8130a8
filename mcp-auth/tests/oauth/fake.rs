//! An authorization server of our own, for what a good one does not do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One request to the token endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) form: HashMap<String, String>,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
pub(crate) struct Script {
    /// What is changed in the metadata: a member and its value, null to remove it.
    pub(crate) metadata: Vec<(&'static str, Value)>,
    /// What the token endpoint answers, the last one again and again.
    pub(crate) answers: Vec<(u16, Value)>,
    pub(crate) delay: Duration,
    pub(crate) asked: Vec<Asked>,
    pub(crate) other: Vec<String>,
    pub(crate) rotating: Option<u64>,
    /// The issuer that the resource names, in the place of this server.
    pub(crate) issuer: Option<String>,
    /// The signing keys.
    pub(crate) keys: Value,
    /// What metadata say about their lifetime, and how often they were fetched.
    pub(crate) cache_control: Option<&'static str>,
    pub(crate) fetches: usize,
    /// What every request for metadata is answered with.
    pub(crate) redirect: Option<(u16, String)>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self {
            url,
            script: Arc::default(),
        };
        fake.answer(
            200,
            json!({ "access_token": "at-0", "token_type": "Bearer", "expires_in": 3600 }),
        );
        let app = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/.well-known/oauth-protected-resource/mcp", get(resource))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .fallback(any(other))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        fake
    }

    pub(crate) fn answer(&self, status: u16, body: Value) {
        self.script.lock().unwrap().answers = vec![(status, body)];
    }

    pub(crate) fn change(&self, member: &'static str, value: Value) {
        self.script.lock().unwrap().metadata.push((member, value));
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }
}

async fn metadata(State(fake): State<Fake>) -> Response {
    let redirect = fake.script.lock().unwrap().redirect.clone();
    if let Some((status, to)) = redirect {
        let status = StatusCode::from_u16(status).unwrap();
        return (status, [("location", to)]).into_response();
    }
    let url = &fake.url;
    let mut document = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "revocation_endpoint": format!("{url}/revoke"),
        "userinfo_endpoint": format!("{url}/userinfo"),
        "code_challenge_methods_supported": ["S256"],
    });
    for (member, value) in &fake.script.lock().unwrap().metadata {
        match value {
            Value::Null => drop(document.as_object_mut().unwrap().remove(*member)),
            value => document[*member] = value.clone(),
        }
    }
    let mut script = fake.script.lock().unwrap();
    script.fetches += 1;
    let mut response = Json(document).into_response();
    if let Some(lifetime) = script.cache_control {
        let headers = response.headers_mut();
        headers.insert("cache-control", lifetime.parse().unwrap());
    }
    response
}

async fn keys(State(fake): State<Fake>) -> Json<Value> {
    Json(fake.script.lock().unwrap().keys.clone())
}

async fn resource(State(fake): State<Fake>) -> Json<Value> {
    let issuer = fake.script.lock().unwrap().issuer.clone();
    let issuer = issuer.unwrap_or_else(|| fake.url.clone());
    Json(json!({
        "resource": format!("{}/mcp", fake.url), "authorization_servers": [issuer],
        "scopes_supported": ["mcp:read"],
    }))
}

async fn token(
    State(fake): State<Fake>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let delay = fake.script.lock().unwrap().delay;
    tokio::time::sleep(delay).await;
    let mut script = fake.script.lock().unwrap();
    let authorization = headers.get("authorization");
    script.asked.push(Asked {
        form: form.clone(),
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
    });
    if let Some(count) = script.rotating {
        // Each refresh token is good for one use; a used one is refused.
        if form.get("refresh_token") != Some(&format!("rt-{count}")) {
            return (
                StatusCode::BAD_REQUEST,
                Json(json!({ "error": "invalid_grant" })),
            )
                .into_response();
        }
        script.rotating = Some(count + 1);
        return Json(json!({
            "access_token": format!("at-{}", count + 1), "token_type": "Bearer", "expires_in": 3600,
            "refresh_token": format!("rt-{}", count + 1),
        }))
        .into_response();
    }
    let (status, body) = match script.answers.len() {
        1 => script.answers[0].clone(),
        _ => script.answers.remove(0),
    };
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

async fn other(State(fake): State<Fake>, request: axum::extract::Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    fake.script.lock().unwrap().other.push(what);
    match request.uri().path() {
        "/user" => Json(json!({ "id": 42, "login": "octocat", "email": null })).into_response(),
        "/revoke" | "/applications/id/token" => StatusCode::OK.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
