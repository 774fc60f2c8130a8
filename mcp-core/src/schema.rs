use std::fmt;

use crate::{Json, Request};

/// The schemas of a tool, as a catalogue knows them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ToolSchemas {
    /// The generation of the catalogue. What is made of the schemas can be kept until it changes.
    pub generation: u64,
    /// `inputSchema`.
    pub input: Option<Json>,
    /// `outputSchema`.
    pub output: Option<Json>,
}

impl ToolSchemas {
    /// Joins the schemas of one tool in one generation of a catalogue.
    #[must_use]
    pub const fn new(generation: u64, input: Option<Json>, output: Option<Json>) -> Self {
        Self {
            generation,
            input,
            output,
        }
    }
}

/// Finds the schemas of the tool that a request calls. A gateway's catalogue implements it.
pub trait SchemaSource: fmt::Debug + Send + Sync + 'static {
    /// Returns the schemas of the called tool; `None` for a tool that is not known.
    fn schemas(&self, request: &Request) -> Option<ToolSchemas>;

    /// Returns the generation of the catalogue, at the cost of one load.
    fn generation(&self) -> u64;
}
