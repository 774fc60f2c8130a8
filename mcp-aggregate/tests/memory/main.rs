//! Gateways in memory and on a paused clock: upstreams are services of this process, and clients call the gateway's service.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod classes;
mod listening;
mod paging;
mod routing;
mod spans;
mod starting;
mod support;
mod tasks;
mod watching;
