//! Resilience layers for MCP services.
