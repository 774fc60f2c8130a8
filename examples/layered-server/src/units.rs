use rmcp::{
    ServerHandler,
    handler::server::wrapper::Parameters,
    model::{ServerCapabilities, ServerConfig},
    schemars::JsonSchema,
    tool, tool_handler, tool_router,
};
use serde::Deserialize;

/// Converts temperatures: a server on rmcp's macros, as one that is there already.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Units;

#[derive(Debug, Deserialize, JsonSchema)]
struct Temperature {
    /// Degrees to convert.
    degrees: f64,
}

#[tool_router]
impl Units {
    /// Converts degrees Celsius to Fahrenheit.
    #[tool(annotations(read_only_hint = true))]
    fn fahrenheit(&self, Parameters(Temperature { degrees }): Parameters<Temperature>) -> String {
        format!("{}", degrees * 9.0 / 5.0 + 32.0)
    }

    /// Converts degrees Fahrenheit to Celsius.
    #[tool(annotations(read_only_hint = true))]
    fn celsius(&self, Parameters(Temperature { degrees }): Parameters<Temperature>) -> String {
        format!("{}", (degrees - 32.0) * 5.0 / 9.0)
    }
}

#[tool_handler]
impl ServerHandler for Units {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}
