//! Governed browser sessions as a service and as MCP tools.
