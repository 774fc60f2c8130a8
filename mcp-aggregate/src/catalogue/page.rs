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
    /// Skills (SEP-2640).
    Skills,
}

/// The extension of skills (SEP-2640).
pub(crate) const SKILLS: &str = "io.modelcontextprotocol/skills";

impl ListKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Tools,
        Self::Prompts,
        Self::Resources,
        Self::Templates,
        Self::Skills,
    ];

    pub(crate) fn of_method(method: &Method) -> Option<Self> {
        match method.as_str() {
            "tools/list" => Some(Self::Tools),
            "prompts/list" => Some(Self::Prompts),
            "resources/list" => Some(Self::Resources),
            "resources/templates/list" => Some(Self::Templates),
            "skills/list" => Some(Self::Skills),
            _ => None,
        }
    }

    /// The kinds that a notification announces as changed.
    pub(crate) fn announced_by(method: &Method) -> &'static [Self] {
        match *method {
            Method::TOOLS_CHANGED => &[Self::Tools],
            Method::PROMPTS_CHANGED => &[Self::Prompts],
            Method::RESOURCES_CHANGED => &[Self::Resources, Self::Templates, Self::Skills],
            _ => &[],
        }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Self::Tools => Method::TOOLS_LIST,
            Self::Prompts => Method::PROMPTS_LIST,
            Self::Resources => Method::RESOURCES_LIST,
            Self::Templates => Method::RESOURCE_TEMPLATES_LIST,
            Self::Skills => Method::new("skills/list"),
        }
    }

    /// The member of the result that holds the entries.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Skills => "skills",
        }
    }

    /// The member of an entry that names it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources | Self::Skills => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// Whether a server with these capabilities has the list.
    pub(crate) fn is_offered(self, capabilities: &Json) -> bool {
        let name = match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
            Self::Skills => {
                let extensions = capabilities.member("extensions");
                return extensions.is_some_and(|own| own.member(SKILLS).is_some());
            }
        };
        capabilities.member(name).is_some()
    }

    pub(crate) fn entry_kind(self) -> EntryKind {
        match self {
            Self::Tools => EntryKind::Tool,
            Self::Prompts => EntryKind::Prompt,
            Self::Resources | Self::Skills => EntryKind::Resource,
            Self::Templates => EntryKind::ResourceTemplate,
        }
    }
}

/// What goes around the entries of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) ttl_ms: u64,
    pub(crate) private: bool,
    pub(crate) extra: Vec<(String, Json)>,
    pub(crate) degraded: Vec<String>,
    /// Who answers, for clients of revision 2026-07-28.
    pub(crate) server_info: Option<Json>,
}

/// Composes one page. `stateless` adds what revision 2026-07-28 wants in every list.
pub(crate) fn compose(
    kind: ListKind,
    entries: impl Iterator<Item = Json>,
    frame: &Frame,
    stateless: bool,
) -> Json {
    let mut out = String::with_capacity(1 << 10);
    out.push('{');
    if stateless {
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
    if stateless {
        let scope = if frame.private { "private" } else { "public" };
        out.push_str(&format!(
            r#","ttlMs":{},"cacheScope":"{scope}""#,
            frame.ttl_ms
        ));
    }
    for (key, value) in frame.extra.iter().filter(|(key, _)| key != "_meta") {
        out.push_str(&format!(",{}:{value}", Json::string(key)));
    }
    if let Some(own) = own_meta(frame, stateless) {
        out.push_str(&format!(r#","_meta":{own}"#));
    }
    out.push('}');
    Json::parse(out).unwrap_or(Json::EMPTY_OBJECT)
}

fn own_meta(frame: &Frame, stateless: bool) -> Option<Json> {
    let given = frame
        .extra
        .iter()
        .find(|(key, _)| key == "_meta")
        .map(|(_, value)| value.clone());
    let server_info = frame.server_info.as_ref().filter(|_| stateless);
    if frame.degraded.is_empty() && server_info.is_none() {
        return given;
    }
    let mut own = given
        .and_then(|given| mcp_core::Object::try_from(given).ok())
        .unwrap_or_default();
    if let Some(info) = server_info
        && !own.contains(mcp_core::meta::SERVER_INFO)
    {
        own.set(mcp_core::meta::SERVER_INFO, info.clone());
    }
    if !frame.degraded.is_empty() {
        own.set("mcp-aggregate/degraded", Json::from(json!(frame.degraded)));
    }
    Some(own.to_json())
}
