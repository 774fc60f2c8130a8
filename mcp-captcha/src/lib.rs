//! Captcha solving as a service and as MCP tools.
