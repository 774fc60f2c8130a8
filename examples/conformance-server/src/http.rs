//! The fixture behind rmcp's Streamable HTTP service.

use std::sync::Arc;

use axum::Router;
use mcp_core::{
    BoxSeam, Stack,
    rmcp3::RmcpService,
    transport::http::{HttpConfig, HttpTransport},
};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;

/// Pages that may call a server on this machine: its own.
const LOCAL_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// Whether requests of the session era get a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sessions {
    /// `initialize` opens a session.
    #[default]
    Kept,
    /// Every request stands alone.
    None,
}

/// How replies are sent where the client accepts both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replies {
    /// As an event stream.
    #[default]
    Events,
    /// As one JSON object, unless something precedes the result. Needs [`Sessions::None`].
    Json,
}

/// How the fixture is served.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Whether there are sessions.
    pub sessions: Sessions,
    /// How replies are sent.
    pub replies: Replies,
    /// Ends all sessions when cancelled.
    pub shutdown: CancellationToken,
}

impl HttpOptions {
    /// Sets whether there are sessions.
    #[must_use]
    pub fn with_sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = sessions;
        self
    }

    /// Sets how replies are sent.
    #[must_use]
    pub fn with_replies(mut self, replies: Replies) -> Self {
        self.replies = replies;
        self
    }

    /// Sets the token that ends all sessions.
    #[must_use]
    pub fn with_shutdown(mut self, shutdown: CancellationToken) -> Self {
        self.shutdown = shutdown;
        self
    }
}

/// Serves `fixture` at `/mcp` for clients on this machine.
pub fn router(fixture: &Fixture, options: &HttpOptions) -> Router {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(options.sessions == Sessions::Kept)
        .with_json_response(options.replies == Replies::Json)
        .with_cancellation_token(options.shutdown.clone())
        .with_allowed_origins(LOCAL_ORIGINS);
    let fixture = fixture.clone();
    let service = StreamableHttpService::new(
        move || Ok(fixture.handler()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    Router::new().route_service("/mcp", service)
}

/// Makes `fixture` a service of `mcp-core`, with a handler for each session.
#[must_use]
pub fn transport_service(fixture: &Fixture) -> BoxSeam {
    let fixture = fixture.clone();
    let service = RmcpService::per_session(move || Ok(fixture.handler()));
    Stack::new(service).boxed()
}

/// Makes the HTTP transport of `mcp-core` for `fixture`.
pub fn transport(fixture: &Fixture) -> HttpTransport<BoxSeam> {
    HttpTransport::new(transport_service(fixture), HttpConfig::default())
}
