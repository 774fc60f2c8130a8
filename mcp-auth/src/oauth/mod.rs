//! The gateway as an OAuth client, on behalf of each of its users.
//!
//! A [`Relation`] says how one upstream is authorised at: an MCP server that names its own authorization server
//! (RFC 9728, RFC 8414, OpenID Connect), or a [`Provider`] whose peculiarities are known. The [`Manager`] walks the user
//! through it, keeps the tokens in the [`Vault`](crate::vault::Vault), and refreshes them.
//!
//! Each upstream of a gateway has one of four strategies, each a [`CredentialProvider`](mcp_core::CredentialProvider):
//!
//! | Strategy | Whose token | Type |
//! |---|---|---|
//! | `bypass_auth` | nobody's, or the operator's | [`BypassAuth`] |
//! | `master_oauth` | the gateway's, or one exchanged for the caller's | [`MasterOauth`] |
//! | `delegate_oauth` | the user's, for a provider | [`UserOauth::delegate`] |
//! | `proxy_oauth` | the user's, for the upstream itself | [`UserOauth::proxy`] |
//!
//! They fail closed: where the right token cannot be had, no other is sent.
//!
//! # Rules
//!
//! 1. An authorization server that does not announce PKCE with `S256` is refused, and so is one whose endpoints are not
//!    `https` (or on this machine).
//! 2. The issuer in a document is compared character by character, and so is `iss` in an answer (RFC 9207).
//! 3. `resource` is in every request (RFC 8707), but to providers that refuse it.
//! 4. A client is chosen in the order: registered by the operator, metadata document, registered here. What was
//!    registered at one issuer is never used at another.
//! 5. `state` is random, good for ten minutes and for one answer.

mod builder;
mod client;
mod error;
mod flow;
mod grants;
mod manager;
mod provider;
mod refresh;
mod register;
mod relation;
mod resource;
mod strategy;
mod token;

pub use self::{
    builder::ManagerBuilder,
    client::{AssertionKey, ClientAuth, OAuthClient},
    error::OAuthError,
    flow::Authorized,
    grants::{DeviceCode, EnterpriseIdp, Exchange},
    manager::Manager,
    provider::{Provider, UserInfo},
    relation::Relation,
    strategy::{BypassAuth, MasterOauth, UserOauth},
    token::TokenSet,
};
#[cfg(feature = "consent")]
pub(crate) use self::{client::random, flow::Ticket, strategy::link};
