//! Explains errors, and keeps them to learn from.
//!
//! [`Diagnosis`] turns any error of the seam into its class, an advice, and two texts: one for the person, one
//! for the model, with tool, upstream and number of tries. [`RecordLayer`] gives every error to an
//! [`ErrorRecorder`]: [`MemoryRecorder`] keeps the last ones and finds patterns, [`StoreRecorder`] keeps them on
//! a [`StateStore`](mcp_core::store::StateStore) and answers queries. [`ToolFailureLayer`] answers a refused tool call with a
//! result that a model reads, in the place of a JSON-RPC error.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, ErrorKind, Json, Method, Request};
//! use mcp_ratelimit::diagnose::{Advice, Diagnosis};
//!
//! let call = Request::new(Method::TOOLS_CALL, Some(Json::parse(r#"{"name":"search"}"#)?))?;
//! let error = Error::new(ErrorKind::InvalidParams, "`query` is missing");
//! let diagnosis = Diagnosis::of(&error, &call);
//! assert_eq!(diagnosis.advice(), Advice::ChangeTheCall);
//! assert!(diagnosis.for_model().contains("search"));
//! # Ok::<(), Error>(())
//! ```

mod explain;
mod failure;
mod layer;
mod memory;
mod record;
mod store;
#[cfg(test)]
mod tests;

pub use self::explain::{Advice, Diagnosis};
pub use self::failure::{ToolFailureFuture, ToolFailureLayer, ToolFailureService};
pub use self::layer::{Record, RecordLayer, RecordTask, ResponseFuture};
pub use self::memory::{MemoryRecorder, Pattern};
pub use self::record::{ErrorQuery, ErrorRecord, ErrorRecorder};
pub use self::store::StoreRecorder;
