//! Authentication, credentials, policy and audit for MCP services.
//!
//! Each part stands on its own, behind a feature: [`server`] finds out who calls, [`oauth`] gets and keeps each user's
//! credentials for upstreams in a [`vault`], [`consent`] asks users for them in the conversation, [`policy`] decides who may
//! call what, [`audit`] records it.
//!
//! # Features
//!
//! | Name | Adds | Default |
//! |---|---|---|
//! | `server` | OAuth resource server: tokens, introspection, API keys, metadata, challenges | no |
//! | `axum` | the metadata document as routes of an axum router | no |
//! | `mtls` | identity from client certificates, and a TLS listener for axum | no |
//! | `vault` | secrets sealed in a store, with a key ring and key providers | no |
//! | `redb` | the vault in a file of its own | no |
//! | `keyring` | the vault's key in the keyring of the operating system | no |
//! | `age` | secrets in age files | no |
//! | `sops` | secrets in SOPS files with age keys | no |
//! | `aws` | secrets in AWS Secrets Manager | no |
//! | `azure` | secrets in Azure Key Vault | no |
//! | `google` | secrets in Google Secret Manager | no |
//! | `hashicorp` | secrets in HashiCorp Vault or OpenBao | no |
//! | `oauth` | OAuth client per principal and upstream, providers, strategies | no |
//! | `consent` | URL elicitation, the tool `oauth_authenticate`, consent pages | no |
//! | `policy` | roles, scopes, chains, explanations | no |
//! | `approval` | holding calls until a person approves exactly them | no |
//! | `audit` | hash-chained file, tracing, layer, verifier | no |
//! | `session` | sessions of people | no |
//! | `plugin` | what plugins need to log in: descriptions, forms, the vault | no |
//! | `users` | accounts of people: passwords, second factors, roles, tokens; with `axum` routes to log in | no |
//! | `edge` | cross-origin rules, limits on attempts | no |
//! | `test-util` | a real authorization server for tests | no |
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(
    feature = "approval",
    feature = "audit",
    feature = "edge",
    feature = "policy",
    feature = "server"
))]
#[cfg(feature = "server")]
mod alive;
#[cfg(feature = "approval")]
pub mod approval;
#[cfg(feature = "audit")]
pub mod audit;
mod challenge;
#[cfg(feature = "consent")]
pub mod consent;
#[cfg(feature = "server")]
pub mod discovery;
#[cfg(feature = "edge")]
pub mod edge;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "server")]
mod jwk;
#[cfg(feature = "server")]
mod jwt;
#[cfg(any(feature = "server", feature = "__managers"))]
mod net;
#[cfg(feature = "oauth")]
pub mod oauth;
#[cfg(any(feature = "approval", feature = "oauth", feature = "session"))]
mod owner;
#[cfg(any(feature = "consent", all(feature = "users", feature = "axum")))]
mod peer;
#[cfg(feature = "plugin")]
pub mod plugin;
#[cfg(feature = "policy")]
pub mod policy;
mod scopes;
#[cfg(any(feature = "approval", feature = "consent"))]
mod seal;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "session")]
pub mod session;
#[cfg(feature = "test-util")]
pub mod testing;
#[cfg(feature = "users")]
pub mod users;
#[cfg(feature = "vault")]
pub mod vault;
#[cfg(feature = "server")]
mod wire;

#[cfg(any(feature = "server", feature = "__managers"))]
pub use self::net::FetchError;
pub use self::{challenge::Challenge, scopes::ScopeHierarchy};

/// Compiles and runs the examples of the README.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the programs of the guide.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../../docs/auth.md")]
struct Guide;
