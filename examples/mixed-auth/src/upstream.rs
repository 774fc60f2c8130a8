//! A server that says who calls it, and remembers which tokens it was shown.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Router, middleware};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mcp_auth::server::{JwtScheme, ResourceServer};
use mcp_core::{
    Error, ErrorKind, PrincipalKind, Request, Response,
    http_client::HttpClient,
    serve::Server,
    transport::http::{HttpConfig, HttpTransport},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tower::service_fn;
use url::Url;

use crate::Outcome;

/// The fingerprint of a token.
pub type Print = [u8; 32];

/// Returns the fingerprint of a token.
#[must_use]
pub fn print(token: &str) -> Print {
    Sha256::digest(token).into()
}

/// A token that a server was shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shown {
    /// With which request.
    pub method: String,
    /// Who it is about, by its own words.
    pub whose: String,
    /// Which one it was.
    pub print: Print,
}

impl Shown {
    /// Reads the token of a request, if it has one.
    fn with(request: &axum::extract::Request) -> Option<Self> {
        let text = |name: &str| request.headers().get(name)?.to_str().ok();
        let token = text("authorization")?.strip_prefix("Bearer ")?;
        let http = request.method().as_str();
        Some(Self {
            method: text("mcp-method").unwrap_or(http).to_owned(),
            whose: subject(token).unwrap_or_default(),
            print: print(token),
        })
    }
}

/// Reads whom a JSON Web Token is about. Whether it is a good one is for the layer to say.
fn subject(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}

/// A server at work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Upstream {
    /// Its address.
    pub url: Url,
    seen: Arc<Mutex<Vec<Shown>>>,
}

impl Upstream {
    /// Starts a server that wants tokens of an issuer for itself, or none.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn start(issuer: Option<&str>, http: Arc<dyn HttpClient>) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url: Url = format!("http://{}/mcp", listener.local_addr()?).parse()?;
        let transport = HttpTransport::new(service_fn(answer), HttpConfig::default());
        let seen: Arc<Mutex<Vec<Shown>>> = Arc::default();
        let mut app = Router::new().route_service("/mcp", transport);
        if let Some(issuer) = issuer {
            let auth = ResourceServer::builder(url.as_str())
                .authorization_server(issuer)
                .scheme(JwtScheme::new(issuer, url.as_str(), http))
                .scopes_supported(["openid", "mcp:read"])
                .build()?;
            app = app.layer(auth.layer());
        }
        let all = Arc::clone(&seen);
        let note = move |request: axum::extract::Request, next: middleware::Next| {
            let shown = Shown::with(&request);
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shown);
            next.run(request)
        };
        let app = app.layer(middleware::from_fn(note));
        tokio::spawn(Server::new(listener).serve(app, std::future::pending()));
        Ok(Self { url, seen })
    }

    /// Returns what the server was shown up to now, in order.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

async fn answer(request: Request) -> Result<Response, Error> {
    let result = match request.method().as_str() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"],
            "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "private",
        }),
        "tools/list" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "tools": [{ "name": "whoami", "inputSchema": { "type": "object" } }],
        }),
        "tools/call" => {
            let who = request.principal();
            let mut text = match who.kind() {
                PrincipalKind::Authenticated => who.subject().to_owned(),
                _ => "nobody".to_owned(),
            };
            for actor in who.actors() {
                text = format!("{text} through {actor}");
            }
            json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }] })
        }
        method => {
            let message = format!("{method} is not known here");
            return Err(Error::new(ErrorKind::MethodNotFound, message));
        }
    };
    Ok(Response::new(result.into()))
}
