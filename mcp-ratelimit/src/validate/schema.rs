//! Which schemas are held compiled, and what is wrong with those that are not.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jsonschema::Validator;
use mcp_core::{Json, Request, SchemaSource, ToolSchemas};

use super::compile::{Made, compile};

/// How many tools' schemas are held compiled.
const MOST: usize = 10_000;

/// A part of a tool's schema that checks nothing, because it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaProblem {
    /// The upstream; empty where there is none.
    pub upstream: String,
    /// The tool.
    pub tool: String,
    /// `inputSchema` or `outputSchema`.
    pub schema: &'static str,
    /// The place of the part as a JSON pointer; empty for the whole schema.
    pub place: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// Both schemas of a tool, ready for use.
#[derive(Debug)]
pub(super) struct Compiled {
    generation: u64,
    problems: Vec<SchemaProblem>,
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
        source: Option<&dyn SchemaSource>,
        request: &Request,
    ) -> Option<Arc<Compiled>> {
        let upstream = request.upstream().map_or("", |upstream| upstream.as_str());
        let key: Tool = (Box::from(upstream), Box::from(request.tool()?));
        let generation = match source {
            Some(source) => source.generation(),
            None => request.schemas()?.generation,
        };
        let held = self
            .compiled
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(held) = held.filter(|held| held.generation == generation) {
            return Some(held);
        }
        let schemas = match source {
            Some(source) => source.schemas(request)?,
            None => ToolSchemas::clone(request.schemas()?),
        };
        let mut problems = Vec::new();
        let mut make = |schema: Option<&Json>, which| {
            let Made { validator, faults } = compile(schema?);
            for (place, reason) in faults {
                tracing::warn!(
                    upstream,
                    tool = request.tool(),
                    schema = which,
                    place,
                    reason,
                    "a part of a schema cannot be used and checks nothing"
                );
                problems.push(SchemaProblem {
                    upstream: upstream.to_owned(),
                    tool: request.tool().unwrap_or_default().to_owned(),
                    schema: which,
                    place,
                    reason,
                });
            }
            validator
        };
        let input = make(schemas.input.as_ref(), "inputSchema");
        let output = make(schemas.output.as_ref(), "outputSchema");
        let made = Arc::new(Compiled {
            generation: schemas.generation,
            problems,
            input,
            output,
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

    /// What is wrong with the schemas that have been used.
    pub(super) fn problems(&self) -> Vec<SchemaProblem> {
        let compiled = self.compiled.read().unwrap_or_else(PoisonError::into_inner);
        let all = compiled.values().flat_map(|own| own.problems.clone());
        let mut all: Vec<_> = all.collect();
        all.sort_by(|one, other| {
            let key = |own: &SchemaProblem| (own.upstream.clone(), own.tool.clone(), own.schema);
            key(one).cmp(&key(other))
        });
        all
    }
}
