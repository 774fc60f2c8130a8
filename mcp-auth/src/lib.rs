//! Authentication, credentials, policy and audit for MCP services.
//!
//! # Features
//!
//! | Name | Adds | Default |
//! |---|---|---|
//! | `server` | OAuth resource server: tokens, introspection, API keys, metadata, challenges | no |
//! | `vault` | secrets sealed in a store, with a key ring and key providers | no |
//! | `redb` | the vault in a file of its own | no |
//! | `keyring` | the vault's key in the keyring of the operating system | no |
//! | `mtls` | identity from client certificates, and a TLS listener for axum | no |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "server")]
mod alive;
#[cfg(feature = "audit")]
pub mod audit;
mod challenge;
#[cfg(feature = "consent")]
pub mod consent;
#[cfg(any(feature = "server", feature = "oauth"))]
pub mod discovery;
#[cfg(feature = "edge")]
pub mod edge;
#[cfg(any(feature = "server", feature = "oauth"))]
mod jwk;
#[cfg(any(feature = "server", feature = "oauth"))]
mod jwt;
#[cfg(any(feature = "server", feature = "oauth"))]
mod net;
#[cfg(feature = "oauth")]
pub mod oauth;
#[cfg(any(feature = "oauth", feature = "session"))]
mod owner;
#[cfg(feature = "policy")]
pub mod policy;
mod scopes;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "session")]
pub mod session;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(feature = "vault")]
pub mod vault;

#[cfg(any(feature = "server", feature = "oauth"))]
pub use self::net::FetchError;
pub use self::{challenge::Challenge, scopes::ScopeHierarchy};
