//! Servers that are child processes, played by the shell.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(unix)]

mod answers;
mod asking;
mod bounds;
#[cfg(target_os = "linux")]
mod ends;
mod fixture;
mod serving;
mod start;
