//! Making a validator of a schema that an upstream has written, whatever library it has written it with.

use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use mcp_core::Json;
use serde_json::{Map, Value};

const MAX_SCHEMA: usize = 512 * 1024;

/// The size of a compiled pattern, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// How often the second engine may go back in one text before the text counts as not fitting.
const BACKTRACKS: usize = 10_000;

/// How deep a schema is looked into for patterns.
const MAX_DEPTH: usize = 64;

/// A validator, if there is one, and what it does not check: the place and the reason.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) validator: Option<Validator>,
    pub(super) faults: Vec<(String, String)>,
}

/// Refuses every reference to another document.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("references to other documents are not followed".into())
    }
}

/// The engine that runs patterns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    /// In time linear in the text.
    Linear,
    /// With look-around, which JavaScript has and the linear engine has not; bounded by a number of steps back.
    Backtracking,
}

/// Compiles a schema.
///
/// The draft is the one that `$schema` names, if it is known, else 2020-12, or draft 7 for a schema that is none of
/// 2020-12. A pattern that no engine takes is left out; the rest of the schema still checks.
pub(super) fn compile(schema: &Json) -> Made {
    let whole = |reason: String| Made {
        validator: None,
        faults: vec![(String::new(), reason)],
    };
    if schema.len() > MAX_SCHEMA {
        return whole(format!("it has more than {MAX_SCHEMA} bytes"));
    }
    let mut schema: Value = match schema.decode() {
        Ok(schema) => schema,
        Err(error) => return whole(error.to_string()),
    };
    let first = match build_any(&schema) {
        Ok(validator) => {
            return Made {
                validator: Some(validator),
                faults: Vec::new(),
            };
        }
        Err(reason) => reason,
    };
    let mut faults = Vec::new();
    drop_patterns(&mut schema, &mut String::new(), 0, &mut faults);
    match build_any(&schema) {
        Ok(validator) => Made {
            validator: Some(validator),
            faults,
        },
        Err(_) => whole(first),
    }
}

/// Tries the engines and drafts in order.
fn build_any(schema: &Value) -> Result<Validator, String> {
    let draft = named_draft(schema);
    let first = match build(schema, draft, Engine::Linear) {
        Ok(validator) => return Ok(validator),
        Err(reason) => reason,
    };
    build(schema, draft, Engine::Backtracking)
        .or_else(|_| build(schema, Draft::Draft7, Engine::Linear))
        .or_else(|_| build(schema, Draft::Draft7, Engine::Backtracking))
        .map_err(|_| first)
}

/// The draft that a schema names. Servers that name none mean 2020-12 (revision 2025-11-25, tools, "JSON Schema usage").
fn named_draft(schema: &Value) -> Draft {
    let named = schema.get("$schema").and_then(Value::as_str);
    match named.map(|named| named.trim_end_matches('#').trim_end_matches('/')) {
        Some("http://json-schema.org/draft-04/schema") => Draft::Draft4,
        Some("http://json-schema.org/draft-06/schema") => Draft::Draft6,
        Some(
            "http://json-schema.org/draft-07/schema" | "https://json-schema.org/draft-07/schema",
        ) => Draft::Draft7,
        Some("https://json-schema.org/draft/2019-09/schema") => Draft::Draft201909,
        _ => Draft::Draft202012,
    }
}

fn build(schema: &Value, draft: Draft, engine: Engine) -> Result<Validator, String> {
    let options = jsonschema::options()
        .with_draft(draft)
        .with_retriever(Nowhere)
        // Whether a format is asserted would else depend on the draft.
        .should_validate_formats(false);
    let built = match engine {
        Engine::Linear => {
            let patterns = PatternOptions::regex().size_limit(PATTERN_SIZE);
            options.with_pattern_options(patterns).build(schema)
        }
        Engine::Backtracking => {
            let patterns = PatternOptions::fancy_regex()
                .backtrack_limit(BACKTRACKS)
                .size_limit(PATTERN_SIZE);
            options.with_pattern_options(patterns).build(schema)
        }
    };
    built.map_err(|error| error.to_string().chars().take(500).collect())
}

/// Returns why a pattern cannot be used, if neither engine takes it.
fn unusable(pattern: &str) -> Option<String> {
    let mut alone = Map::new();
    alone.insert("pattern".to_owned(), pattern.into());
    build_any(&alone.into()).err()
}

/// Removes the patterns that no engine takes, wherever they stand as keywords, and notes where they were.
fn drop_patterns(
    schema: &mut Value,
    place: &mut String,
    depth: usize,
    faults: &mut Vec<(String, String)>,
) {
    if depth > MAX_DEPTH {
        return;
    }
    match schema {
        Value::Object(members) => {
            if let Some(pattern) = members.get("pattern").and_then(Value::as_str)
                && let Some(reason) = unusable(pattern)
            {
                members.remove("pattern");
                faults.push((format!("{place}/pattern"), reason));
            }
            if let Some(Value::Object(by_pattern)) = members.get_mut("patternProperties") {
                by_pattern.retain(|pattern, _| match unusable(pattern) {
                    None => true,
                    Some(reason) => {
                        faults.push((format!("{place}/patternProperties"), reason));
                        false
                    }
                });
            }
            for (name, member) in members {
                // What stands there is data and no schema.
                if !matches!(name.as_str(), "const" | "enum" | "default" | "examples") {
                    within(place, name, |place| {
                        drop_patterns(member, place, depth + 1, faults);
                    });
                }
            }
        }
        Value::Array(all) => {
            for (index, member) in all.iter_mut().enumerate() {
                within(place, &index.to_string(), |place| {
                    drop_patterns(member, place, depth + 1, faults);
                });
            }
        }
        _ => {}
    }
}

/// Does something with a place extended by a member (RFC 6901).
fn within(place: &mut String, name: &str, work: impl FnOnce(&mut String)) {
    let length = place.len();
    place.push('/');
    place.push_str(&name.replace('~', "~0").replace('/', "~1"));
    work(place);
    place.truncate(length);
}
