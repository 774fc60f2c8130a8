//! Resilience layers for MCP services on tower.
//!
//! Each layer works on any service of the seam of `mcp-core` (`tower::Service<Request>`): an rmcp server, one
//! upstream, a whole gateway. They look at what only MCP knows: tool annotations decide what may be repeated,
//! progress resets timeouts, a tool's own error is not an outage, keys separate principals.
//!
//! # Features
//!
//! | Name | Adds | Default |
//! |---|---|---|
//! | `rate-limit` | [`rate_limit`]: quotas by principal, tool, upstream or any closure; over HTTP too | no |
//! | `timeout` | [`timeout`]: deadlines, and idle times that progress resets; over HTTP too | no |
//! | `breaker` | [`breaker`]: circuit breaker, registry, fallback | no |
//! | `retry` | [`retry`]: safe retries within a budget, and the loop guard | no |
//! | `queue` | [`queue`]: bounded concurrency, fair bounded queue | no |
//! | `meter` | [`meter`]: metrics of calls | no |
//! | `diagnose` | [`diagnose`]: explanations of errors, recorders, failure patterns | no |
//! | `cache` | [`cache`]: answers kept by principal | no |
//! | `coalesce` | [`coalesce`]: equal calls share one | no |
//! | `budget` | [`budget`]: quotas and money over days and months | no |
//! | `validate` | [`validate`]: arguments and results against JSON Schema | no |
//! | `hedge` | [`hedge`]: a second call for a slow one | no |
//! | `preset` | [`preset`]: the recommended stack from one configuration | no |
//! | `redis` | [`rate_limit::shared`]: one count over many processes | no |
//! | `full` | all of the above | no |
//!
//! # Order
//!
//! [`preset`] documents the recommended order for one provider and builds it. Around it, from the outside in:
//! audit and policy, limits for callers, validation, cache, coalescing, router; then for each upstream the
//! preset, budgets, hedging, credentials, connector.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "breaker")]
pub mod breaker;
#[cfg(feature = "budget")]
pub mod budget;
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
pub mod keys;
#[cfg(feature = "meter")]
pub mod meter;
#[cfg(feature = "preset")]
pub mod preset;
#[cfg(feature = "queue")]
pub mod queue;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "timeout")]
pub mod timeout;
#[cfg(feature = "validate")]
pub mod validate;
