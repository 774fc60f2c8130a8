//! An MCP server that offers every tool, prompt and resource the official conformance suite calls.
//!
//! It is the known good upstream of this workspace: what passes against it directly and fails
//! through a gateway is the gateway's fault. Beside the names of the suite it has tools for what
//! the suite does not look at (cancellation, per-session state, list changes, resource updates,
//! structured output, request metadata), which the client scripts in `clients/` use.
//!
//! [`Fixture`] holds what all connections share and builds one [`FixtureServer`] for each of them;
//! [`router`] serves it with rmcp's own Streamable HTTP service.
//!
//! ```
//! use conformance_server::{Fixture, FixtureOptions};
//! use rmcp::ServerHandler;
//!
//! let fixture = Fixture::new(FixtureOptions::default());
//! let server = fixture.handler();
//! assert!(server.get_info().capabilities.tools.is_some());
//! ```

mod ask;
mod fixture;
mod handler;
mod http;
mod log;
mod media;
mod page;
mod prompts;
mod resources;
mod state;
mod tools;

pub use fixture::{Fixture, FixtureOptions, FixtureServer};
pub use http::{HttpOptions, Replies, Sessions, router, transport, transport_service};
