//! Ends calls that take too long.
//!
//! 1. The deadline is the earliest of the one the request carries and the longest time set here.
//! 2. The idle time starts again whenever the call sends a notification, such as progress, through its
//!    [`Notifier`]: a call that reports progress may take as long as the deadline allows.
//! 3. A call past either is dropped, which cancels it upstream, and answered with an error of kind `Timeout`.
//!    Over plain HTTP the answer is 504.
//!
//! 4. While the client is asked something that a person may have to answer (elicitation, sampling), neither time runs, for
//!    [`TimeoutLayer::with_longest_pause`] at most in one call. The deadline that the request carries is not put off.
//!
//! Nothing is shared between calls. A call that answers at once costs no timer. Put this layer inside of retries
//! to bound each attempt, outside to bound them all.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use mcp_core::{Error, ErrorKind, Method, Request, Response, Stack};
//! use mcp_ratelimit::timeout::TimeoutLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let hangs = service_fn(|_: Request| std::future::pending::<Result<Response, Error>>());
//! let service = Stack::new(hangs)
//!     .layer(TimeoutLayer::new(Duration::from_secs(30)).with_idle(Duration::from_millis(10)))
//!     .into_service();
//! let error = service.oneshot(Request::new(Method::PING, None)?).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Timeout);
//! # Ok(()) }
//! ```
//!
//! [`Notifier`]: mcp_core::Notifier

mod asked;
mod future;
mod http;
mod layer;
mod service;
#[cfg(test)]
mod tests;

pub use self::future::ResponseFuture;
pub use self::http::{HttpResponseFuture, HttpTimeout, HttpTimeoutLayer};
pub use self::layer::TimeoutLayer;
pub use self::service::Timeout;
