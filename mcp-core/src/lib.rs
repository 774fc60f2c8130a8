//! The vocabulary and front doors of an MCP service on tower and rmcp.

pub mod clock;
pub mod store;
#[cfg(feature = "test-util")]
pub mod testing;
