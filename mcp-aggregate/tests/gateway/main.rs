//! Gateways over real sockets: what clients see of good, bad and lost upstreams.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod fixture;
mod hostile;
mod names;
mod restart;
mod tasks;
