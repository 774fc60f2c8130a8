//! Checks a tool's arguments before the upstream sees them, and its results before the caller does.
//!
//! 1. The arguments of `tools/call` must fit the tool's `inputSchema`, and have neither more bytes nor more
//!    levels than allowed. A call that does not is answered with an error of kind `InvalidParams` that tells the
//!    model which members are wrong, and why.
//! 2. The `structuredContent` of a result that is no error must fit the `outputSchema`; else the caller gets an
//!    error of kind `BadUpstream`. [`ValidateLayer::without_results`] turns this off.
//! 3. Schemas are of the draft that their `$schema` names, else of JSON Schema 2020-12. Formats are not asserted. References
//!    to other documents are not followed. Patterns run in time linear in the text, or, if they have look-around, with a
//!    bounded number of steps back. A pattern that cannot be used is left out; it is logged and listed by
//!    [`ValidateLayer::problems`], as is a schema that cannot be used as a whole.
//!
//! Schemas come from a [`SchemaSource`](mcp_core::SchemaSource) or with the call ([`ValidateLayer::by_request`]) and are compiled once for each generation of its catalogue. Put this
//! layer inside of policy and outside of anything that costs something.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use mcp_core::{Error, ErrorKind, Json, Method, Request, Response, SchemaSource, Stack, ToolSchemas};
//! use mcp_ratelimit::validate::ValidateLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! #[derive(Debug)]
//! struct Catalogue(Json);
//!
//! impl SchemaSource for Catalogue {
//!     fn schemas(&self, _: &Request) -> Option<ToolSchemas> {
//!         Some(ToolSchemas::new(1, Some(self.0.clone()), None))
//!     }
//!     fn generation(&self) -> u64 {
//!         1
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let schema = Json::parse(r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#)?;
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(ValidateLayer::new(Arc::new(Catalogue(schema))))
//!     .into_service();
//! let call = Json::parse(r#"{"name":"count","arguments":{"n":"three"}}"#)?;
//! let error = service.oneshot(Request::new(Method::TOOLS_CALL, Some(call))?).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::InvalidParams);
//! assert!(error.message().contains("/n"));
//! # Ok(()) }
//! ```

mod compile;
mod layer;
mod schema;
#[cfg(test)]
mod tests;

pub use self::layer::{ResponseFuture, Validate, ValidateLayer};
pub use self::schema::SchemaProblem;
