//! Values that satisfy a schema, well enough to see what becomes of them.

use serde_json::{Map, Value, json};

/// Makes arguments for a tool. One that wants an object is given the input schema of the first other tool.
pub(crate) fn arguments(tool: &Value, tools: &[Value]) -> Value {
    let schema = &tool["inputSchema"];
    let object = tools
        .iter()
        .find(|other| other["name"] != tool["name"])
        .map_or_else(|| json!({}), |other| other["inputSchema"].clone());
    let required = schema["required"].as_array();
    let names = required.into_iter().flatten().filter_map(Value::as_str);
    names
        .map(|name| (name.to_owned(), value(&schema["properties"][name], &object)))
        .collect::<Map<_, _>>()
        .into()
}

/// Makes arguments for a prompt.
pub(crate) fn prompt_arguments(prompt: &Value) -> Value {
    let arguments = prompt["arguments"].as_array();
    let names = arguments.into_iter().flatten().filter_map(|argument| {
        let name = argument["name"].as_str()?.to_owned();
        Some((name, json!("sample")))
    });
    names.collect::<Map<_, _>>().into()
}

/// Answers an elicitation as a user does who accepts every default.
pub(crate) fn answer(method: &str, params: &Value) -> Value {
    match method {
        "elicitation/create" => {
            let properties = params["requestedSchema"]["properties"].as_object();
            let content = properties.into_iter().flatten().map(|(name, property)| {
                let default = property.get("default").cloned();
                (
                    name.clone(),
                    default.unwrap_or_else(|| value(property, &json!({}))),
                )
            });
            json!({ "action": "accept", "content": content.collect::<Map<_, _>>() })
        }
        "sampling/createMessage" => json!({
            "role": "assistant",
            "model": "sample",
            "content": { "type": "text", "text": "sample" },
        }),
        "roots/list" => json!({ "roots": [] }),
        _ => json!({}),
    }
}

fn value(schema: &Value, object: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(1),
        Some("array") => json!([]),
        Some("object") => object.clone(),
        _ => json!("sample"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_fit_their_schema() {
        let echo = json!({ "name": "echo", "inputSchema": {
            "properties": { "n": { "type": "number" }, "s": { "type": "object" }, "o": {} },
            "required": ["n", "s"],
        }});
        let other = json!({ "name": "other", "inputSchema": { "$anchor": "a" } });
        assert_eq!(
            arguments(&echo, &[echo.clone(), other]),
            json!({ "n": 1, "s": { "$anchor": "a" } })
        );
    }

    #[test]
    fn defaults_are_accepted() {
        let params = json!({ "requestedSchema": { "properties": {
            "age": { "type": "integer", "default": 30 },
            "name": { "type": "string" },
        }}});
        assert_eq!(
            answer("elicitation/create", &params),
            json!({ "action": "accept", "content": { "age": 30, "name": "sample" } })
        );
    }
}
