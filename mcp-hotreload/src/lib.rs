//! Hot reload, plugins and scaffolding for MCP services.
