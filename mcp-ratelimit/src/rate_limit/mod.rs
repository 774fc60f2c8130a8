//! Refuses or delays calls beyond a quota.
//!
//! 1. A call is charged to every [`Limit`] that counts it. If one refuses, nothing is charged.
//! 2. A refused call is answered at once ([`Overflow::Shed`], the default) or waits in a bounded room for its
//!    turn ([`Overflow::Wait`]).
//!
//! The caller of a refused call gets an error of kind `RateLimited` whose text, `data` (`limit`, `quota`,
//! `windowMs`, `retryAfterMs`) and headers (`Retry-After`, `RateLimit-Policy`, `RateLimit`) say when to come
//! back. At exactly that time the call is allowed, if no other call came in between. Over plain HTTP it is
//! answered with 429 and those headers.
//!
//! Clones and all services made by one layer count together. Each process counts for itself; see the feature
//! `redis` for one count over many processes.
//!
//! The decision is the generic cell rate algorithm of the crate `governor`: a key needs one number, and it is
//! forgotten when its burst has refilled. Put this layer outside of anything that costs more than it does, and
//! outside of retries, so that a repeated call is charged once.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, Json, Method, Request, Response, Stack};
//! use mcp_ratelimit::rate_limit::{KeyPart, Limit, Quota, RateLimitLayer};
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limit = Limit::new("tools", Quota::per_minute(60)?.with_burst(1)?)
//!     .per([KeyPart::Principal, KeyPart::Tool]);
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(RateLimitLayer::new(limit))
//!     .into_service();
//!
//! let call = Request::new(Method::TOOLS_CALL, Some(Json::parse(r#"{"name":"echo"}"#)?))?;
//! assert!(service.clone().oneshot(call.clone()).await.is_ok());
//! let refused = service.oneshot(call).await.unwrap_err();
//! assert_eq!(refused.retry_after().unwrap().as_secs_f64().ceil(), 1.0);
//! # Ok(()) }
//! ```

mod clock;
mod future;
mod http;
mod layer;
mod limit;
mod limiter;
mod quota;
mod refusal;
mod service;
#[cfg(feature = "redis")]
pub mod shared;
mod store;
#[cfg(test)]
mod tests;

pub use self::future::ResponseFuture;
pub use self::http::{HttpRateLimit, HttpRateLimitLayer, HttpResponseFuture};
pub use self::layer::{Overflow, RateLimitLayer};
pub use self::limit::{Applies, KeyPart, Limit};
pub use self::limiter::{Allowance, Limiter};
pub use self::quota::Quota;
pub use self::refusal::Refusal;
pub use self::service::RateLimit;
