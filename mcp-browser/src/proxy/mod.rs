//! The filtering proxy through which every request of a session goes.
//!
//! A browser context is given an HTTP proxy that runs in this process, one for each session. All that Chromium
//! sends goes through it: pages, redirects, parts of pages, `fetch`, WebSockets, service workers, popups,
//! downloads. For each connection the proxy
//!
//! 1. checks host and port against the [`OriginPolicy`] of the session;
//! 2. resolves the name itself and refuses unless every address is public, or the operator allowed the private
//!    origin as written;
//! 3. connects to an address that it has checked, so that a name whose answer changes gains nothing;
//! 4. counts bytes and cuts the connection at the limit.
//!
//! Connections of other users of the machine are refused, where the system tells (Linux).
//!
//! What is inside of TLS is not looked at: for `https` and WebSockets the policy sees host and port.

mod peer;
mod policy;
mod relay;
mod server;

pub use self::policy::OriginPolicy;
pub(crate) use self::policy::Target;
pub(crate) use self::server::{FilterProxy, ProxyConfig};
