//! The resource server: what is let through, what is refused, and how.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod attacks;
mod challenges;
mod dpop;
mod issuer;
mod keys;
mod schemes;
mod tls;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use mcp_auth::server::{
    JwtScheme, RequestBody, ResourceServer, ResourceServerBuilder, VerifiedIdentity,
};
use mcp_core::{Principal, clock::FakeClock};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};

use self::issuer::{AUDIENCE, Issuer, TestKey};

/// A resource server, and what it answers.
pub(crate) struct Gate {
    pub(crate) server: ResourceServer,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) challenge: String,
    pub(crate) body: Value,
    pub(crate) headers: http::HeaderMap,
}

impl Gate {
    pub(crate) fn new(builder: ResourceServerBuilder) -> Self {
        Self {
            server: builder.build().unwrap(),
        }
    }

    pub(crate) async fn send(&self, request: Request<()>) -> Answer {
        let inner = service_fn(|request: Request<RequestBody<()>>| async move {
            let who = request.extensions().get::<Principal>();
            let proved = request.extensions().get::<VerifiedIdentity>();
            let body = serde_json::json!({
                "issuer": who.map(|who| who.issuer().to_owned()),
                "subject": who.map(|who| who.subject().to_owned()),
                "scheme": proved.map(VerifiedIdentity::scheme),
                "credential": request.headers().contains_key("authorization")
                    || request.headers().contains_key("x-api-key"),
            });
            let body = Full::new(Bytes::from(body.to_string()));
            Ok::<_, std::convert::Infallible>(Response::new(body))
        });
        let response = self
            .server
            .layer()
            .layer(inner)
            .oneshot(request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let challenge = parts.headers.get("www-authenticate");
        Answer {
            status: parts.status,
            challenge: challenge
                .map_or("", |value| value.to_str().unwrap())
                .to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            headers: parts.headers,
        }
    }

    pub(crate) async fn bearer(&self, token: &str) -> Answer {
        self.send(with("authorization", &format!("Bearer {token}")))
            .await
    }
}

pub(crate) fn with(name: &'static str, value: &str) -> Request<()> {
    Request::post("/mcp").header(name, value).body(()).unwrap()
}

/// A resource server that accepts the tokens of an issuer.
pub(crate) fn jwt(issuer: &Issuer, clock: &FakeClock) -> ResourceServerBuilder {
    let scheme = JwtScheme::new(&issuer.url, AUDIENCE, issuer.client())
        .with_clocks(Arc::new(clock.clone()), Arc::new(clock.clone()));
    ResourceServer::builder(AUDIENCE)
        .authorization_server(&issuer.url)
        .wall_clock(Arc::new(clock.clone()))
        .scheme(scheme)
}

pub(crate) async fn simple() -> (Issuer, TestKey, FakeClock, Gate) {
    let key = TestKey::new("k1");
    let issuer = Issuer::start(&[&key]).await;
    let clock = FakeClock::new();
    let gate = Gate::new(jwt(&issuer, &clock));
    (issuer, key, clock, gate)
}
