//! Checks that parameters mirrored in headers agree with the arguments (SEP-2243).

use std::sync::Arc;

use rmcp::model::JsonObject;

use crate::{Error, Request, mirror::Mirrors};

/// Checks a tool call against the schema of its tool, where there is one.
pub(super) fn check(
    request: &Request,
    schema: impl FnOnce(&str) -> Option<Arc<JsonObject>>,
) -> Result<(), Error> {
    let (Some(tool), Some(_)) = (request.tool(), request.mirrored()) else {
        return Ok(());
    };
    let Some(schema) = schema(tool) else {
        return Ok(());
    };
    let schema = serde_json::Value::Object(schema.as_ref().clone());
    Mirrors::of_schema(&schema).check(request)
}
