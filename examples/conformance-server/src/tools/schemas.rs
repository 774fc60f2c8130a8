//! Tools whose schemas are the point.

use std::sync::Arc;

use rmcp::{
    handler::server::wrapper::Parameters,
    model::{JsonObject, object},
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::FixtureServer;

#[derive(Deserialize, JsonSchema)]
struct Query {
    region: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    query: String,
}

#[tool_router(router = schema_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(
        description = "Tool with JSON Schema 2020-12 features",
        input_schema = wide_schema()
    )]
    async fn json_schema_2020_12_tool(&self, arguments: JsonObject) -> String {
        Value::Object(arguments).to_string()
    }

    #[tool(
        description = "Takes arguments that clients repeat in HTTP headers (SEP-2243)",
        input_schema = mirrored_schema()
    )]
    async fn mirrored_arguments(&self, Parameters(query): Parameters<Query>) -> String {
        let region = query.region.as_deref().unwrap_or("-");
        let limit = query
            .limit
            .map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        format!("region={region} limit={limit} query={}", query.query)
    }
}

fn mirrored_schema() -> Arc<JsonObject> {
    Arc::new(object(json!({
        "type": "object",
        "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "limit": { "type": "integer", "x-mcp-header": "Limit" },
            "query": { "type": "string" },
        },
    })))
}

/// Keywords that a model of JSON Schema is likely to lose.
fn wide_schema() -> Arc<JsonObject> {
    Arc::new(object(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {
                    "street": { "type": "string" },
                    "city": { "type": "string" },
                },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": {
            "properties": { "contactMethod": { "const": "phone" } },
            "required": ["contactMethod"],
        },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })))
}
