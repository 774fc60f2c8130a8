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
//! | `bypass_auth` | no one's, or the operator's | [`BypassAuth`] |
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
//!
//! # What others do
//!
//! The requests of RFC 6749, 7009, 7636 and 8628 are written and read by the crate `oauth2`; token exchange (RFC 8693) and
//! assertions (RFC 7523), which it does not know, are its client credentials request under another `grant_type`. All go
//! through the guarded [`HttpClient`](mcp_core::http_client::HttpClient).
//!
//! rmcp's `AuthorizationManager` (3.9) is not used, although its `OAuthHttpClient`, `CredentialStore` and `StateStore`
//! could be given ours, because these promises cannot be kept through it:
//!
//! - One refresh by all replicas: `CredentialStore::save` is given no version to compare with, and `refresh_token` does not
//!   look, after it has `acquire_refresh_guard`, whether another has refreshed in the meantime. Every waiting replica
//!   refreshes again, and with rotation the loser's write puts a used token in place of the good one.
//! - Confidential clients: `StoredCredentials` has no client secret, so that `initialize_from_store` comes back as a public
//!   client; `register_client` always registers with `token_endpoint_auth_method: none`; `private_key_jwt` is there for the
//!   client credentials grant alone.
//! - A code, a token and an ID token in no message: `exchange_code_for_token_with_issuer` writes them to the log.
//! - No authorization server without PKCE: a document without `code_challenge_methods_supported` is taken with a warning,
//!   and endpoints are guessed (`LegacyEndpointFallback`) where there is no document.
//! - The challenge as it was written: `WWWAuthenticateParams` looks for `scope=` anywhere in the text, in descriptions too.
//! - Providers: `resource` is in every request and cannot be left out, which Entra refuses; there is no revocation and no
//!   exchange; time is the system's, which tests cannot set.

mod binding;
mod builder;
mod client;
mod directory;
pub(crate) mod dpop;
mod endpoint;
mod error;
mod flow;
mod grants;
mod limits;
mod manager;
mod provider;
mod refresh;
mod register;
mod relation;
mod resource;
mod state;
mod strategy;
mod token;
mod workload;

pub use self::{
    builder::ManagerBuilder,
    client::{AssertionKey, ClientAuth, OAuthClient},
    dpop::{DpopKey, DpopUse},
    error::OAuthError,
    flow::Authorized,
    grants::{DeviceCode, EnterpriseIdp, Exchange},
    limits::AuthorizationLimits,
    manager::Manager,
    provider::{Provider, UserInfo},
    relation::Relation,
    strategy::{BypassAuth, MasterOauth, UserOauth},
    token::TokenSet,
    workload::{WorkloadIdentity, WorkloadTokenSource},
};
#[cfg(feature = "consent")]
pub(crate) use self::{client::random, flow::Ticket, strategy::link};
