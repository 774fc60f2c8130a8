use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use mcp_core::{Json, Request, SchemaSource};
use serde_json::Value;

/// How many tools' schemas are held compiled.
const MOST: usize = 10_000;
const MAX_SCHEMA: usize = 512 * 1024;
const PATTERN_SIZE: usize = 1 << 20;

/// Both schemas of a tool, ready for use.
#[derive(Debug)]
pub(super) struct Compiled {
    generation: u64,
    pub(super) input: Option<Validator>,
    pub(super) output: Option<Validator>,
}

/// Upstream and tool.
type Tool = (Box<str>, Box<str>);

#[derive(Debug, Default)]
pub(super) struct Shelf {
    compiled: RwLock<HashMap<Tool, Arc<Compiled>>>,
}

impl Shelf {
    pub(super) fn get(
        &self,
        source: &dyn SchemaSource,
        request: &Request,
    ) -> Option<Arc<Compiled>> {
        let upstream = request.upstream().map_or("", |upstream| upstream.as_str());
        let key: Tool = (Box::from(upstream), Box::from(request.tool()?));
        let generation = source.generation();
        let held = self
            .compiled
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(held) = held.filter(|held| held.generation == generation) {
            return Some(held);
        }
        let schemas = source.schemas(request)?;
        let compile = |schema: Option<&Json>, which| {
            let made = compile(schema?);
            made.inspect_err(|reason| {
                tracing::warn!(
                    tool = request.tool(),
                    which,
                    reason,
                    "a schema cannot be used"
                )
            })
            .ok()
        };
        let made = Arc::new(Compiled {
            generation: schemas.generation,
            input: compile(schemas.input.as_ref(), "inputSchema"),
            output: compile(schemas.output.as_ref(), "outputSchema"),
        });
        let mut compiled = self
            .compiled
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= MOST {
            compiled.clear();
        }
        compiled.insert(key, Arc::clone(&made));
        Some(made)
    }
}

/// Refuses every reference to another document.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("references to other documents are not followed".into())
    }
}

fn compile(schema: &Json) -> Result<Validator, String> {
    if schema.len() > MAX_SCHEMA {
        return Err(format!("it has more than {MAX_SCHEMA} bytes"));
    }
    let schema: Value = schema.decode().map_err(|error| error.to_string())?;
    // Patterns come from an upstream: an engine that cannot be made to backtrack for ever.
    let patterns = PatternOptions::regex().size_limit(PATTERN_SIZE);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_retriever(Nowhere)
        .with_pattern_options(patterns)
        .build(&schema)
        .map_err(|error| error.to_string())
}
