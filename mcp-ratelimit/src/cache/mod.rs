//! Answers calls from earlier answers.
//!
//! 1. Lists, discovery and resource reads are kept for as long as they say (`ttlMs`; revision 2026-07-28,
//!    "Caching"), tools and prompts only where the operator says so. Kept are final answers only: no errors, no
//!    `isError`, nothing that asks for input, nothing too large.
//! 2. An answer is kept for the principal that asked, under method, name, upstream, parameters (`_meta` apart),
//!    scopes and revision. `cacheScope: "public"` is believed only with [`CacheLayer::with_public`]. A caller
//!    with a restricted view of lists is neither served nor kept.
//! 3. Invalidation comes by notification ([`Cache::apply`]), by a catalogue ([`Cache::follow`]) and by hand. An
//!    answer that was asked for before an invalidation is not kept after it.
//! 4. Stale answers are served only where [`CacheLayer::with_stale_while_revalidate`] or
//!    [`CacheLayer::with_stale_on_error`] say so.
//!
//! With [`CacheLayer::with_store`] answers are kept on a state store too, such as Redis, where other processes find
//! them: for each principal, not for everybody. An invalidation reaches what is on the store within a second; what
//! other processes hold in memory they have to invalidate themselves. A store that is unavailable is done without.
//!
//! A served answer is the one that was kept, with `ttlMs` set to what is left. No notifications come with it.
//! All services of one layer share the answers. Put it outside of limits for upstreams, and inside of whatever
//! decides what a principal may do.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use mcp_core::{Error, Json, Method, Request, Response, Stack};
//! use mcp_ratelimit::cache::CacheLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let layer = CacheLayer::new(64 * 1024 * 1024).with_tool("forecast", Duration::from_secs(600));
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(layer.clone())
//!     .into_service();
//! for _ in 0..3 {
//!     let call = Request::new(Method::TOOLS_CALL, Some(Json::parse(r#"{"name":"forecast"}"#)?))?;
//!     service.clone().oneshot(call).await?;
//! }
//! assert_eq!((layer.cache().stats().hits, layer.cache().stats().misses), (2, 1));
//! # Ok(()) }
//! ```

mod entry;
mod future;
mod layer;
mod remote;
mod service;
mod shelf;
#[cfg(test)]
mod tests;

pub use self::future::ResponseFuture;
pub use self::layer::CacheLayer;
pub use self::service::CacheService;
pub use self::shelf::{Cache, CacheStats};
