//! Resilience layers for MCP services.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "breaker")]
pub mod breaker;
#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "coalesce")]
pub mod coalesce;
#[cfg(feature = "diagnose")]
pub mod diagnose;
#[cfg(feature = "hedge")]
pub mod hedge;
#[cfg(any(
    feature = "rate-limit",
    feature = "cache",
    feature = "coalesce",
    feature = "retry"
))]
mod keys;
#[cfg(feature = "meter")]
pub mod meter;
#[cfg(feature = "queue")]
pub mod queue;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "timeout")]
pub mod timeout;
