//! Servers that are child processes, played by the shell.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

mod answers;
mod asking;
mod fixture;
mod start;
