//! Repeats what failed and is safe to repeat, and stops who repeats without success.
//!
//! [`RetryLayer`] sends a call again if all of this holds:
//!
//! 1. The error may pass: class `Transient` or `RateLimited`.
//! 2. [`Repeat`] says it is safe: the method only reads by definition, the tool's annotations say so, or a
//!    policy of one's own does. What no one has seen (kind `NotSent`) may always be sent again.
//! 3. The client has seen no notification of this call.
//! 4. The budget pays for it, and neither the count of tries nor a deadline is used up.
//!
//! It waits by [`Backoff`], but at least as long as the error asks for. When it gives up, the last error is
//! returned unchanged but for its source, which then begins with [`Attempts`]. Inner layers find the number of
//! the try in the request's extensions ([`Attempt`]).
//!
//! [`LoopGuardLayer`] stops a model that makes the same call with the same arguments without success again and again.
//!
//! The retry budget is shared by all services of one layer. Put these layers outside of breakers and timeouts,
//! and inside of rate limits for callers.
//!
//! # Examples
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use mcp_core::{Error, ErrorKind, Method, Request, Response, Stack};
//! use mcp_ratelimit::retry::RetryLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! static TRIES: AtomicU32 = AtomicU32::new(0);
//! let flaky = service_fn(|_: Request| async {
//!     match TRIES.fetch_add(1, Ordering::Relaxed) {
//!         0 => Err(Error::new(ErrorKind::Unavailable, "not yet")),
//!         _ => Ok(Response::empty()),
//!     }
//! });
//! let service = Stack::new(flaky).layer(RetryLayer::safe_only()).into_service();
//! service.oneshot(Request::new(Method::TOOLS_LIST, None)?).await?;
//! assert_eq!(TRIES.load(Ordering::Relaxed), 2);
//! # Ok(()) }
//! ```

mod backoff;
mod guard;
mod layer;
mod loops;
mod policy;
mod safety;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;

use mcp_core::Error;

pub use self::backoff::{Backoff, Growth, Jitter};
pub use self::guard::{LoopGuard, LoopGuardFuture, LoopGuardLayer};
pub use self::layer::RetryLayer;
pub use self::safety::Repeat;
pub use self::service::{ResponseFuture, Retry};

/// Which try of a call this is, from 2 on, in the extensions of a repeated request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(u32);

impl Attempt {
    /// The number of the try.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// How often a call was tried without success, as the source of its last error.
#[derive(Debug)]
pub struct Attempts {
    count: u32,
    last: Error,
}

impl Attempts {
    pub(crate) const fn new(count: u32, last: Error) -> Self {
        Self { count, last }
    }

    /// The number of tries.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Finds it behind an error.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error).and_then(|source| source.downcast_ref())
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tried {} times", self.count)
    }
}

impl std::error::Error for Attempts {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.last)
    }
}
