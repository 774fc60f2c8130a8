//! Many MCP servers behind one endpoint.
//!
//! A [`Gateway`] puts [`Upstream`]s of every kind (Streamable HTTP, child processes, rmcp servers in this process,
//! any service of the seam) behind one service, which the transports of `mcp-core` serve. What passes through is kept
//! byte for byte, but for the names that the [`NamingPolicy`] gives to tools and prompts, and task ids.
//!
//! # Features
//!
//! | Name | Adds | Default |
//! |---|---|---|
//! | `http` | servers over Streamable HTTP | yes |
//! | `stdio` | servers that are child processes | yes |
//! | `rmcp` | rmcp servers in this process | no |
//! | `tls-aws-lc` | TLS with aws-lc-rs for servers over `https` | no |
//!
//! # Examples
//!
//! ```no_run
//! use mcp_aggregate::{Gateway, Upstream};
//! use mcp_core::transport::http::HttpConfig;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let gateway = Gateway::builder("gw")
//!     .upstream(Upstream::npm("files", "@modelcontextprotocol/server-filesystem").arg("/data"))
//!     .upstream(Upstream::http("crm", "https://crm.example/mcp"))
//!     .build()?;
//! let running = gateway.start();
//! let app = running.http(HttpConfig::default());
//! // axum::serve(listener, axum::Router::new().route_service("/mcp", app)).await?;
//! # drop(app);
//! running.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod bench;
mod catalogue;
pub mod connector;
mod digest;
mod gateway;
mod lifecycle;
mod node;
mod seal;
mod upstream;

pub use self::{
    catalogue::{
        Bare, Catalogue, CatalogueEntry, CatalogueReader, NamingPolicy, Prefixed, Withheld,
    },
    connector::SessionScope,
    digest::Digest,
    gateway::{
        Counts, EventStream, ExtensionRule, Gateway, GatewayBuilder, GatewayEvent, GatewayService,
        GraphDiff, GraphSpec, HealthReport, HealthService, Running, SessionState, UpstreamHealth,
        UpstreamState,
    },
    lifecycle::{Lifecycle, LifecycleState},
    upstream::Upstream,
};

#[cfg(all(doctest, feature = "http", feature = "rmcp", feature = "tls-aws-lc"))]
#[doc = include_str!("../README.md")]
struct Readme;
