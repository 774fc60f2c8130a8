//! One entry of a list.

use std::sync::Arc;

use mcp_core::{Json, ToolAnnotations, mirror::Mirrors};

use super::ListKind;

/// An entry of a list.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The name, URI or URI template.
    pub(crate) name: Arc<str>,
    pub(crate) json: Json,
    pub(crate) annotations: ToolAnnotations,
    pub(crate) mirrors: Option<Arc<Mirrors>>,
}

impl Item {
    /// Reads an entry. One without a name, or with a malformed `x-mcp-header`, is left out (revision 2026-07-28,
    /// Streamable HTTP, "Custom Headers").
    pub(super) fn read(json: &Json, kind: ListKind) -> Option<Self> {
        let name = json.member(kind.key())?.to_text()?;
        let mut item = Self {
            name: name.into(),
            json: json.clone(),
            annotations: ToolAnnotations::default(),
            mirrors: None,
        };
        if kind == ListKind::Tools {
            if let Some(annotations) = json.member("annotations") {
                item.annotations = ToolAnnotations::from_json(&annotations);
            }
            item.mirrors = read_mirrors(json)?;
        }
        Some(item)
    }
}

/// Returns the mirrored arguments of a tool; the outer `None` for malformed annotations.
#[allow(
    clippy::option_option,
    reason = "there may be none, and there may be bad ones"
)]
fn read_mirrors(tool: &Json) -> Option<Option<Arc<Mirrors>>> {
    let Some(schema) = tool.member("inputSchema") else {
        return Some(None);
    };
    // Decoding a schema costs more than all the rest: most have no such annotation.
    let mut words = schema.as_bytes().windows(b"x-mcp-header".len());
    if !words.any(|word| word == b"x-mcp-header") {
        return Some(None);
    }
    let mirrors = Mirrors::read(&schema.decode().ok()?).ok()?;
    Some((!mirrors.is_empty()).then(|| Arc::new(mirrors)))
}
