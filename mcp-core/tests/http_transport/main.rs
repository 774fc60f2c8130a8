//! The HTTP transport over real sockets, spoken to byte by byte.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod drain;
mod fidelity;
mod json_text;
mod limits;
mod negotiation;
mod neighbours;
mod raw;
mod refusals;
mod server;
mod sessions;
mod stateless;
