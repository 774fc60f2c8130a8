//! Refuses calls that cost more than is left for the day or the month.
//!
//! 1. Before a call, what it may cost is set aside. If less is left, the call is refused with an error of kind
//!    `BudgetExhausted`, which says when there will be more.
//! 2. After it, what it really cost is booked. A call that is dropped, or whose process dies, is booked in full.
//! 3. Days and months are calendar ones in UTC. A clock that is set back gives nothing twice.
//! 4. When a part of an amount is gone (four fifths, by default) a warning is logged; the gauge
//!    `mcp_budget_remaining` always tells what is left.
//!
//! [`StoreBudget`] implements [`mcp_core::Budget`] on any store: one process or many spend from the same
//! accounts, and never more than there is, except that a call may cost more than was set aside for it. While the
//! store is unavailable calls that cost something are refused. Put this layer inside of caches and retries, so that
//! what is not called costs nothing and what is called twice costs twice.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use mcp_core::store::{MemoryStore, Namespace};
//! use mcp_core::{Account, Amount, Error, ErrorKind, Method, Request, Response, Stack};
//! use mcp_ratelimit::budget::{BudgetLayer, BudgetPlan, Period, StoreBudget};
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = BudgetPlan::new(Period::Day, Amount::units(2)).and(Period::Month, Amount::units(20));
//! let budget = StoreBudget::new(Arc::new(MemoryStore::new()), Namespace::new("budget")?, plan);
//! let layer = BudgetLayer::new(Arc::new(budget), |request| {
//!     Some((Account::new(request.principal().partition(), "search"), Amount::units(1)))
//! });
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(layer)
//!     .into_service();
//! for _ in 0..2 {
//!     service.clone().oneshot(Request::new(Method::PING, None)?).await?;
//! }
//! let error = service.oneshot(Request::new(Method::PING, None)?).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::BudgetExhausted);
//! # Ok(()) }
//! ```

mod calendar;
mod layer;
mod ledger;
mod store;
#[cfg(test)]
mod tests;

pub use self::calendar::Period;
pub use self::layer::{BudgetLayer, BudgetService, ResponseFuture};
pub use self::ledger::BudgetPlan;
pub use self::store::StoreBudget;
