//! Lets a bounded number of calls through at once, and a bounded number wait for their turn.
//!
//! 1. A call goes through if fewer than the allowed number are in flight and no one waits.
//! 2. Else it waits if the queue has room. Turns go round between principals, so that one who queues a thousand
//!    calls does not hold up another's one; urgent calls have more turns, and no priority starves.
//! 3. A call for which there is no room, or whose turn does not come in time, is refused with an error of kind
//!    `Overloaded`. Nothing queued is lost silently: a call is answered, refused, or dropped by its caller.
//!
//! A principal with k calls queued has had them all let through after at most k turns of each other principal of
//! the same priority. All services of one layer share the places: give each upstream a layer of its own, so that
//! a slow one holds only its own places. Put it inside of rate limits and outside of timeouts, which should not
//! count the time spent waiting here.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, Method, Request, Response, Stack};
//! use mcp_ratelimit::queue::QueueLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let queue = QueueLayer::new("crm", 8.try_into()?).with_queue(100);
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(queue.clone())
//!     .into_service();
//! service.oneshot(Request::new(Method::PING, None)?).await?;
//! assert_eq!(queue.status().in_flight, 0);
//! # Ok(()) }
//! ```

mod adaptive;
mod core;
mod fair;
mod future;
mod layer;
mod service;
#[cfg(test)]
mod tests;

pub use self::core::QueueStatus;
pub use self::future::ResponseFuture;
pub use self::layer::{Adaptive, Priority, QueueLayer};
pub use self::service::Queue;
