//! Tools that return each kind of content.

use rmcp::{
    ErrorData, Json,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock, ErrorCode, Resource, ResourceContents},
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{fixture::FixtureServer, media};

#[derive(Deserialize, JsonSchema)]
struct Name {
    /// Whom to greet
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct Text {
    /// What to return
    text: String,
}

#[derive(Deserialize, JsonSchema)]
struct AnyValue {
    /// What to return
    value: Value,
}

#[derive(Deserialize, JsonSchema)]
struct Size {
    /// Length of the text in bytes
    bytes: usize,
}

#[derive(Deserialize, JsonSchema)]
struct City {
    /// Name of the city
    city: String,
}

#[derive(Serialize, JsonSchema)]
struct Weather {
    /// Name of the city
    city: String,
    /// Temperature in degrees Celsius
    celsius: f64,
    /// Hours of the day with rain
    rain_hours: Vec<i32>,
}

#[derive(Deserialize, JsonSchema)]
struct Failure {
    /// JSON-RPC error code
    code: i32,
    /// Message of the error
    message: String,
    /// Data of the error
    data: Option<Value>,
}

#[tool_router(router = content_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(
        description = "Returns one text",
        annotations(read_only_hint = true, idempotent_hint = true)
    )]
    async fn test_simple_text(&self) -> String {
        "This is a simple text response for testing.".to_owned()
    }

    #[tool(description = "Returns one image", annotations(read_only_hint = true))]
    async fn test_image_content(&self) -> CallToolResult {
        CallToolResult::success(vec![ContentBlock::image(media::PNG, "image/png")])
    }

    #[tool(description = "Returns one sound", annotations(read_only_hint = true))]
    async fn test_audio_content(&self) -> CallToolResult {
        CallToolResult::success(vec![ContentBlock::audio(media::WAV, "audio/wav")])
    }

    #[tool(
        description = "Returns one embedded resource",
        annotations(read_only_hint = true)
    )]
    async fn test_embedded_resource(&self) -> CallToolResult {
        let text = "This is an embedded resource content.";
        let contents = ResourceContents::text(text, "test://embedded-resource");
        let contents = contents.with_mime_type("text/plain");
        CallToolResult::success(vec![ContentBlock::resource(contents)])
    }

    #[tool(description = "Returns a text, an image and a resource")]
    async fn test_multiple_content_types(&self) -> CallToolResult {
        let text = json!({ "test": "data", "value": 123 }).to_string();
        let contents = ResourceContents::text(text, "test://mixed-content-resource");
        CallToolResult::success(vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(media::PNG, "image/png"),
            ContentBlock::resource(contents.with_mime_type("application/json")),
        ])
    }

    #[tool(description = "Links to a resource that can be read")]
    async fn resource_link(&self) -> CallToolResult {
        let link = Resource::new("test://static-text", "static-text").with_mime_type("text/plain");
        CallToolResult::success(vec![ContentBlock::resource_link(link)])
    }

    #[tool(description = "Always fails as a tool")]
    async fn test_error_handling(&self) -> CallToolResult {
        let text = "This tool intentionally returns an error for testing";
        CallToolResult::error(vec![ContentBlock::text(text)])
    }

    #[tool(description = "Always fails as a request, with the given code, message and data")]
    async fn protocol_error(
        &self,
        Parameters(failure): Parameters<Failure>,
    ) -> Result<CallToolResult, ErrorData> {
        let code = ErrorCode(failure.code);
        Err(ErrorData::new(code, failure.message, failure.data))
    }

    #[tool(description = "Greets", annotations(read_only_hint = true))]
    async fn greet(&self, Parameters(Name { name }): Parameters<Name>) -> String {
        format!("Hello, {name}!")
    }

    #[tool(
        description = "Returns the text it is given",
        annotations(read_only_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn echo(&self, Parameters(Text { text }): Parameters<Text>) -> String {
        text
    }

    #[tool(description = "Returns the value it is given as structured content")]
    async fn echo_json(
        &self,
        Parameters(AnyValue { value }): Parameters<AnyValue>,
    ) -> CallToolResult {
        CallToolResult::structured(json!({ "value": value }))
    }

    #[tool(description = "Returns a text of the given length")]
    async fn big_text(&self, Parameters(Size { bytes }): Parameters<Size>) -> String {
        // Not one letter repeated: a cut or doubled piece shows.
        ('a'..='z').cycle().take(bytes).collect()
    }

    #[tool(
        description = "Returns the weather, always the same, as structured content",
        title = "Weather"
    )]
    async fn structured_weather(
        &self,
        Parameters(City { city }): Parameters<City>,
    ) -> Json<Weather> {
        Json(Weather {
            city,
            celsius: 21.5,
            rain_hours: vec![3, 4, 17],
        })
    }
}
