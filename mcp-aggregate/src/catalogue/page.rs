//! List results, composed once.

use mcp_core::{EntryKind, Json, Method};
use serde_json::json;

/// A list of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListKind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl ListKind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    pub(crate) fn of_method(method: &Method) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == *method)
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::Tools => Method::TOOLS_LIST,
            Self::Prompts => Method::PROMPTS_LIST,
            Self::Resources => Method::RESOURCES_LIST,
            Self::Templates => Method::RESOURCE_TEMPLATES_LIST,
        }
    }

    /// The member of the result that holds the entries.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The member of an entry that names it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// The capability of a server that has the list.
    pub(crate) fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    pub(crate) fn entry_kind(self) -> EntryKind {
        match self {
            Self::Tools => EntryKind::Tool,
            Self::Prompts => EntryKind::Prompt,
            Self::Resources => EntryKind::Resource,
            Self::Templates => EntryKind::ResourceTemplate,
        }
    }

    /// Whether public names differ from the upstream's.
    pub(crate) fn is_named(self) -> bool {
        matches!(self, Self::Tools | Self::Prompts)
    }
}

/// What goes around the entries of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) ttl_ms: u64,
    pub(crate) private: bool,
    pub(crate) extra: Vec<(String, Json)>,
    pub(crate) degraded: Vec<String>,
}

/// Composes one page. `modern` adds what revision 2026-07-28 wants in every list.
pub(crate) fn compose<'a>(
    kind: ListKind,
    entries: impl Iterator<Item = &'a Json>,
    frame: &Frame,
    next: Option<&str>,
    modern: bool,
) -> Json {
    let mut out = String::with_capacity(1 << 10);
    out.push('{');
    if modern {
        out.push_str(r#""resultType":"complete","#);
    }
    out.push_str(&format!(r#""{}":["#, kind.member()));
    for (index, entry) in entries.enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(entry.as_str());
    }
    out.push(']');
    if let Some(next) = next {
        out.push_str(&format!(r#","nextCursor":{}"#, Json::string(next)));
    }
    if modern {
        let scope = if frame.private { "private" } else { "public" };
        out.push_str(&format!(
            r#","ttlMs":{},"cacheScope":"{scope}""#,
            frame.ttl_ms
        ));
    }
    for (key, value) in frame.extra.iter().filter(|(key, _)| key != "_meta") {
        out.push_str(&format!(",{}:{value}", Json::string(key)));
    }
    if let Some(own) = own_meta(frame) {
        out.push_str(&format!(r#","_meta":{own}"#));
    }
    out.push('}');
    Json::parse(out).unwrap_or(Json::EMPTY_OBJECT)
}

fn own_meta(frame: &Frame) -> Option<Json> {
    let given = frame
        .extra
        .iter()
        .find(|(key, _)| key == "_meta")
        .map(|(_, value)| value.clone());
    if frame.degraded.is_empty() {
        return given;
    }
    let mut own = given
        .and_then(|given| mcp_core::Object::try_from(given).ok())
        .unwrap_or_default();
    own.set("mcp-aggregate/degraded", Json::from(json!(frame.degraded)));
    Some(own.to_json())
}
