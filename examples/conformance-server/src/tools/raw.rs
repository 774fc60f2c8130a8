//! Answers that rmcp's models do not know.
//!
//! rmcp hands a request it cannot parse to the handler as it came, and sends the handler's answer
//! as it is. That opens a way for content of a kind that does not exist yet, and for keys beside
//! the known ones: a `tools/call` of `raw_result` whose arguments are an array instead of an
//! object. What lies between must not lose them.

use rmcp::{
    ErrorData,
    model::{CustomRequest, CustomResult, ErrorCode},
    tool, tool_router,
};
use serde_json::{Value, json};

use crate::fixture::FixtureServer;

/// Returns its parameters as its result.
const ECHO: &str = "fixture/echo";

#[tool_router(router = raw_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(description = "Returns content of unknown kinds when its arguments are an array")]
    async fn raw_result(&self) -> String {
        "Pass an array as arguments".to_owned()
    }
}

/// Answers what rmcp could not parse.
///
/// # Errors
///
/// Refuses methods that the fixture does not have.
pub(crate) fn answer(request: CustomRequest) -> Result<CustomResult, ErrorData> {
    let params = request.params.unwrap_or_default();
    match request.method.as_str() {
        ECHO => Ok(CustomResult::new(params)),
        "tools/call" if params["name"] == "raw_result" => Ok(CustomResult::new(unknown(&params))),
        "tools/call" => Err(ErrorData::invalid_params("not a tool call", None)),
        _ => Err(ErrorData::new(
            ErrorCode::METHOD_NOT_FOUND,
            request.method,
            None,
        )),
    }
}

fn unknown(params: &Value) -> Value {
    json!({
        "content": [
            { "type": "example.com/hologram", "layers": [1, 2], "note": "kept" },
            { "type": "text", "text": "known", "example.com/extra": true },
        ],
        "example.com/top": { "arguments": params["arguments"] },
        "isError": false,
        "resultType": "complete",
    })
}
