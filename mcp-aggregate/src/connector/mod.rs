//! Connectors: how a gateway reaches a server.
//!
//! A connector is a service of the seam. It speaks the dialect of its server, keeps the server's sessions or
//! processes apart as its [`SessionScope`] says, and cancels at the server what is dropped here.

#[cfg(any(feature = "http", feature = "stdio"))]
mod allowance;
#[cfg(any(feature = "http", feature = "stdio"))]
mod handshake;
#[cfg(feature = "http")]
pub mod http;
#[cfg(any(feature = "http", feature = "stdio"))]
mod key;
#[cfg(any(feature = "http", feature = "stdio"))]
mod lifecycle;
#[cfg(any(feature = "http", feature = "stdio", feature = "rmcp"))]
pub(crate) mod meta;
#[cfg(any(feature = "http", feature = "stdio"))]
mod pool;
mod scope;
#[cfg(any(feature = "http", feature = "stdio"))]
mod start;
#[cfg(feature = "stdio")]
pub mod stdio;
#[cfg(any(feature = "http", feature = "stdio"))]
mod turns;

#[cfg(any(feature = "http", feature = "stdio"))]
pub use self::allowance::{Allowance, AllowanceCounts};
#[cfg(any(feature = "http", feature = "stdio"))]
pub(crate) use self::key::ScopeKey;
pub use self::scope::SessionScope;
