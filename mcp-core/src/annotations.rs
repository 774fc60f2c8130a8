use crate::Json;

/// What a tool says about itself (revision 2025-03-26 and later, "Tool annotations").
///
/// Hints of an upstream that is not trusted prove nothing: they may make a call more careful, never less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ToolAnnotations {
    /// The tool changes nothing.
    pub read_only: Option<bool>,
    /// What the tool changes may be lost.
    pub destructive: Option<bool>,
    /// Calling it again with the same arguments changes nothing more.
    pub idempotent: Option<bool>,
    /// It deals with the world outside.
    pub open_world: Option<bool>,
}

impl ToolAnnotations {
    /// Reads the `annotations` member of a tool.
    #[must_use]
    pub fn from_json(annotations: &Json) -> Self {
        let hint = |name| annotations.member(name).and_then(|hint| hint.decode().ok());
        Self {
            read_only: hint("readOnlyHint"),
            destructive: hint("destructiveHint"),
            idempotent: hint("idempotentHint"),
            open_world: hint("openWorldHint"),
        }
    }

    /// Returns whether calling the tool twice does no more than calling it once. Without a hint, it may.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.read_only == Some(true) || self.idempotent == Some(true)
    }
}
