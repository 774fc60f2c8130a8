//! The recommended stack for one provider, from one configuration.
//!
//! From the outside in:
//!
//! | Layer | Why there |
//! |---|---|
//! | [`MeterLayer`] | sees what the caller sees |
//! | [`LoopGuardLayer`] | a call that keeps failing costs nothing further in |
//! | [`RetryLayer`] | everything below is asked again for each try |
//! | [`RateLimitLayer`] | the provider counts tries, so each is charged |
//! | [`BreakerLayer`] | sees every try, and none that the limit refused |
//! | [`QueueLayer`] | a call that the breaker rejects takes no place |
//! | [`TimeoutLayer`] | counts the time of the call, not the time in the queue |
//!
//! Limits for callers, caches, policy and budgets for money go outside of this stack; credentials go inside of it.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, Method, Request, Response, Stack};
//! use mcp_ratelimit::preset::{Preset, ProviderConfig};
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config: ProviderConfig = serde_json::from_str(
//!     r#"{"requests_per_minute": 300, "burst": 20, "queue_length": 50, "retry_strategy": "fibonacci"}"#,
//! )?;
//! let preset = Preset::new("crm", &config)?;
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(preset.clone())
//!     .into_service();
//! service.oneshot(Request::new(Method::PING, None)?).await?;
//! assert_eq!(preset.breaker().name(), "crm");
//! # Ok(()) }
//! ```
//!
//! [`MeterLayer`]: crate::meter::MeterLayer
//! [`LoopGuardLayer`]: crate::retry::LoopGuardLayer
//! [`RetryLayer`]: crate::retry::RetryLayer
//! [`RateLimitLayer`]: crate::rate_limit::RateLimitLayer
//! [`BreakerLayer`]: crate::breaker::BreakerLayer
//! [`QueueLayer`]: crate::queue::QueueLayer
//! [`TimeoutLayer`]: crate::timeout::TimeoutLayer

mod config;
mod layer;
#[cfg(test)]
mod tests;

pub use self::config::{ProviderConfig, RetryStrategy};
pub use self::layer::{Preset, PresetService};
