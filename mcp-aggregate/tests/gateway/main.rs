//! Gateways over real sockets: what clients see of good, bad and lost upstreams.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod client;
mod fidelity;
mod fixture;
mod hostile;
#[path = "../../../mcp-core/tests/http_transport/json_text.rs"]
mod json_text;
mod living;
mod names;
mod restart;
mod starting;
mod tasks;
