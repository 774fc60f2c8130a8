//! An rmcp server with resilience layers around it.
//!
//! [`layered`] is all that the layers take; the server is one on rmcp's macros and knows nothing of them. What its tools
//! say about themselves decides what is repeated, and their schemas what is let through.

mod units;

use std::time::Duration;

use axum::Router;
use mcp_core::{ConfigError, Seam, rmcp3::serve, transport::http::HttpTransport};
use mcp_ratelimit::{
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    rate_limit::{KeyPart, Limit, Quota, RateLimitLayer},
    retry::RetryLayer,
    timeout::TimeoutLayer,
    validate::ValidateLayer,
};
use rmcp::ServerHandler;

pub use self::units::Units;

/// Puts the layers around a server. The first is the outermost: what it refuses reaches none of the others.
///
/// # Errors
///
/// A setting is out of range.
pub fn layered(
    handler: impl ServerHandler,
    calls_per_minute: u32,
) -> Result<impl Seam, ConfigError> {
    let quota = Quota::per_minute(calls_per_minute)?;
    let limit = Limit::new("calls", quota).per([KeyPart::Principal, KeyPart::Tool]);
    Ok(serve(handler)
        .layer(RateLimitLayer::new(limit))
        .layer(ValidateLayer::by_request())
        .layer(RetryLayer::safe_only())
        .layer(BreakerLayer::new(Breaker::new(
            "units",
            BreakerConfig::default(),
        )))
        .layer(TimeoutLayer::new(Duration::from_secs(30)))
        .into_service())
}

/// Serves a transport at `/mcp`.
pub fn app(transport: HttpTransport<impl Seam>) -> Router {
    Router::new().route_service("/mcp", transport)
}
