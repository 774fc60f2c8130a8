//! The vocabulary and front doors of an MCP service on tower and rmcp.
