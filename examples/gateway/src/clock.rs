//! A server on standard input and output, for the gateway to start.

use std::time::{SystemTime, UNIX_EPOCH};

use rmcp::{
    ServerHandler, ServiceExt,
    model::{ServerCapabilities, ServerConfig},
    tool, tool_handler, tool_router,
    transport::stdio,
};

/// Tells the time.
#[derive(Clone, Debug, Default)]
struct Clock;

#[tool_router]
impl Clock {
    /// Returns the seconds since 1970-01-01 00:00 UTC.
    #[tool(annotations(read_only_hint = true))]
    fn now(&self) -> String {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
            .to_string()
    }
}

#[tool_handler]
impl ServerHandler for Clock {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// Serves one client on standard input and output until it goes.
///
/// # Errors
///
/// The client does not open a session.
pub async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    Clock.serve(stdio()).await?.waiting().await?;
    Ok(())
}
