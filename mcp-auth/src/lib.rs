//! Authentication, credentials, policy and audit for MCP services.
