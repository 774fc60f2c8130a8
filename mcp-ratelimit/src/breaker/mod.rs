//! Stops calling what keeps failing, and looks now and then if it works again.
//!
//! 1. Closed admits every call and counts how calls go. Too many failures in a row, too large a share of
//!    failures or of slow calls within a window opens it.
//! 2. Open rejects every call until its reset timeout is over, which grows each time a probe fails. An answer
//!    "rate limited" opens it until the time that answer named.
//! 3. HalfOpen admits a few probes. Enough good ones close it, a bad one opens it again. A probe that is dropped
//!    gives its place back at once, one that hangs after its lease.
//!
//! What counts as a failure: by default errors that may pass by themselves (class `Transient`: unreachable,
//! timeout, overload, an internal error answered) and answers that are not MCP. Errors of the caller, a tool's
//! own `isError` and dropped calls do not. [`BreakerLayer::with_classifier`] decides otherwise.
//!
//! A rejected caller gets an error of kind `CircuitOpen` with a time to retry after, or the answer of a fallback
//! service. All services of one layer share the breaker, and so does whoever holds a [`Breaker`] or the
//! [`BreakerRegistry`]. Breakers of several processes are connected by a [`SharedBreaker`]. Put this layer inside of retries, so that they see the rejection, and outside of
//! timeouts, so that it sees them.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, ErrorKind, Method, Request, Response, Stack};
//! use mcp_ratelimit::breaker::{Breaker, BreakerConfig, BreakerLayer, BreakerState};
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = Breaker::new("crm", BreakerConfig::new().with_consecutive_failures(Some(2))?);
//! let down = service_fn(|_: Request| async {
//!     Err::<Response, _>(Error::new(ErrorKind::Unavailable, "nobody there"))
//! });
//! let service = Stack::new(down).layer(BreakerLayer::new(breaker.clone())).into_service();
//! for expected in [ErrorKind::Unavailable, ErrorKind::Unavailable, ErrorKind::CircuitOpen] {
//!     let ping = Request::new(Method::PING, None)?;
//!     assert_eq!(service.clone().oneshot(ping).await.unwrap_err().kind(), expected);
//! }
//! assert_eq!(breaker.state(), BreakerState::Open);
//! # Ok(()) }
//! ```

mod config;
mod future;
mod handle;
mod layer;
mod machine;
mod registry;
mod service;
mod shared;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

pub use self::config::BreakerConfig;
pub use self::future::ResponseFuture;
pub use self::handle::Breaker;
pub use self::layer::BreakerLayer;
pub use self::registry::BreakerRegistry;
pub use self::service::BreakerService;
pub use self::shared::{SharedBreaker, Sharing};

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Admits.
    Closed,
    /// Rejects.
    Open,
    /// Probes.
    HalfOpen,
}

impl BreakerState {
    /// A fixed name, for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// One change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state before.
    pub from: BreakerState,
    /// The state after.
    pub to: BreakerState,
    /// Whether someone forced it.
    pub forced: bool,
}

/// How a call went, in the eyes of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The service works.
    Success,
    /// The service does not work.
    Failure,
    /// The service wants to be left alone, for this long if it said so.
    RateLimited(Option<Duration>),
    /// The call says nothing about the service.
    Ignored,
}
