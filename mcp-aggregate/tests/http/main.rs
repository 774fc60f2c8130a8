//! Servers over Streamable HTTP that answer in odd ways, played byte by byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod bounds;
mod consent;
mod fixture;
mod sessions;
mod transport;
