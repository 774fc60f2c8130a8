//! A server that says who calls it, and remembers which tokens it was shown.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, middleware};
use mcp_auth::server::{JwtScheme, ResourceServer};
use mcp_core::{
    Error, ErrorKind, PrincipalKind, Request, Response,
    front::http::{HttpConfig, HttpFront},
    http_client::HttpClient,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tower::service_fn;
use url::Url;

use crate::Outcome;

/// Fingerprints of tokens.
pub type Prints = HashSet<[u8; 32]>;

/// A server at work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Upstream {
    /// Its address.
    pub url: Url,
    seen: Arc<Mutex<Prints>>,
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
        let front = HttpFront::new(service_fn(answer), HttpConfig::default());
        let seen: Arc<Mutex<Prints>> = Arc::default();
        let mut app = Router::new().route_service("/mcp", front);
        if let Some(issuer) = issuer {
            let auth = ResourceServer::builder(url.as_str())
                .authorization_server(issuer)
                .scheme(JwtScheme::new(issuer, url.as_str(), http))
                .scopes_supported(["openid", "mcp:read"])
                .build()?;
            app = app.layer(auth.layer());
        }
        let prints = Arc::clone(&seen);
        let note = move |request: axum::extract::Request, next: middleware::Next| {
            let value = request.headers().get("authorization");
            if let Some(token) = value.and_then(|value| value.as_bytes().strip_prefix(b"Bearer ")) {
                let mut prints = prints.lock().unwrap_or_else(PoisonError::into_inner);
                prints.insert(Sha256::digest(token).into());
            }
            next.run(request)
        };
        let app = app.layer(middleware::from_fn(note));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { url, seen })
    }

    /// Returns the fingerprints of the tokens that the server was shown since the last time, and forgets them.
    #[must_use]
    pub fn take_seen(&self) -> Prints {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
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
