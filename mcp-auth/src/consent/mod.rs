//! Asking the user for an authorisation in the middle of a conversation.
//!
//! Three parts, which share a [`Manager`](crate::oauth::Manager):
//!
//! 1. [`ConsentLayer`], outside the gateway's upstreams: asks by URL elicitation and continues with the call.
//! 2. [`AuthenticateLayer`], inside it: the tool `oauth_authenticate`.
//! 3. [`ConsentPages`], beside the MCP endpoint and outside its authentication: the pages that the addresses lead to. A
//!    [`BrowserGuard`] makes sure that whoever opens one is the user who was asked.

mod account;
mod browser;
mod host;
mod layer;
mod pages;
mod router;
mod tool;

pub use self::{
    browser::{BrowserGuard, LinkGuard, OidcGuard, Standing},
    layer::{ConsentLayer, ConsentService},
    router::ConsentPages,
    tool::{Authenticate, AuthenticateLayer, TOOL},
};
