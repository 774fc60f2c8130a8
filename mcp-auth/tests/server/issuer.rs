//! An issuer of tokens that does as the test wants.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use mcp_core::http_client::{GuardedClient, HttpClient};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A signing key.
#[derive(Clone)]
pub(crate) struct TestKey {
    pub(crate) id: String,
    pub(crate) encoding: EncodingKey,
    pub(crate) public: Value,
}

impl TestKey {
    pub(crate) fn new(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let encoding = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256).unwrap();
        let mut public = serde_json::to_value(jwk).unwrap();
        public["kid"] = id.into();
        public["use"] = "sig".into();
        Self {
            id: id.to_owned(),
            encoding,
            public,
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.id.clone());
        self.sign_with(&header, claims)
    }

    pub(crate) fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.encoding).unwrap()
    }
}

/// What the issuer publishes, and how often it was asked.
pub(crate) struct Shared {
    pub(crate) keys: Mutex<Vec<Value>>,
    pub(crate) fetches: AtomicUsize,
    pub(crate) delay: Mutex<Duration>,
    pub(crate) status: Mutex<StatusCode>,
    pub(crate) padding: Mutex<usize>,
}

#[derive(Clone)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) shared: Arc<Shared>,
}

impl Issuer {
    pub(crate) async fn start(keys: &[&TestKey]) -> Self {
        let shared = Arc::new(Shared {
            keys: Mutex::new(keys.iter().map(|key| key.public.clone()).collect()),
            fetches: AtomicUsize::new(0),
            delay: Mutex::default(),
            status: Mutex::new(StatusCode::OK),
            padding: Mutex::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/jwks") });
        let app = Router::new()
            .route("/jwks", get(jwks))
            .route(
                "/.well-known/oauth-authorization-server",
                get(move || async move { Json(metadata) }),
            )
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, shared }
    }

    pub(crate) fn publish(&self, keys: &[&TestKey]) {
        *self.shared.keys.lock().unwrap() = keys.iter().map(|key| key.public.clone()).collect();
    }

    pub(crate) fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    pub(crate) fn client(&self) -> Arc<dyn HttpClient> {
        Arc::new(
            GuardedClient::builder()
                .allow_origin(&self.url)
                .unwrap()
                .with_total_timeout(Some(Duration::from_millis(500)))
                .build()
                .unwrap(),
        )
    }

    /// The claims of a token that is good for an hour from `now`.
    pub(crate) fn claims(&self, subject: &str, now: SystemTime) -> Value {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        json!({
            "iss": self.url, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 3600,
            "scope": "mcp:read", "client_id": "c1", "jti": format!("id-{subject}"),
        })
    }
}

pub(crate) const AUDIENCE: &str = "https://gw.example/mcp";

async fn jwks(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Value>) {
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    let delay = *shared.delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    let keys = shared.keys.lock().unwrap().clone();
    let padding = "x".repeat(*shared.padding.lock().unwrap());
    let status = *shared.status.lock().unwrap();
    (status, Json(json!({ "keys": keys, "padding": padding })))
}
