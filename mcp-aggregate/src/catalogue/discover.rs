//! What a gateway says about itself: identity, capabilities and instructions, merged.

use mcp_core::{Json, Object, ProtocolVersion, UpstreamId};
use serde_json::{Map, Value, json};

use super::{Listing, Snapshot, Source};

impl Snapshot {
    /// Composes the result of `server/discover`, of the upstreams that the caller may see. A single upstream speaks for itself.
    pub(crate) fn discovered(
        &self,
        info: &Json,
        instructions: Option<&str>,
        advertises: &dyn Fn(&str) -> bool,
        visible: &dyn Fn(&UpstreamId) -> bool,
    ) -> Json {
        let single = self.only().filter(|only| visible(&only.node.id));
        let single = single.and_then(|only| only.listing.as_ref());
        let info = single
            .and_then(|listing| listing.server_info.clone())
            .unwrap_or_else(|| info.clone());
        let mut own = Object::default();
        own.set(mcp_core::meta::SERVER_INFO, info);
        let versions: Vec<_> = ProtocolVersion::SESSION_ERA
            .iter()
            .chain([&ProtocolVersion::V_2026_07_28])
            .map(ProtocolVersion::as_str)
            .collect();
        let mut result = Object::default();
        result.set("resultType", Json::string("complete"));
        result.set("supportedVersions", Json::from(json!(versions)));
        result.set("capabilities", self.capabilities(advertises, visible));
        let instructions = match (instructions, single) {
            (Some(text), _) => Some(Json::string(text)),
            (None, Some(listing)) => listing.instructions.clone(),
            (None, None) => self.joined_instructions(visible),
        };
        if let Some(instructions) = instructions {
            result.set("instructions", instructions);
        }
        result.set("ttlMs", Json::from(json!(0)));
        result.set("cacheScope", Json::string("private"));
        result.set("_meta", own.to_json());
        result.to_json()
    }

    fn joined_instructions(&self, visible: &dyn Fn(&UpstreamId) -> bool) -> Option<Json> {
        let parts: Vec<_> = self
            .sources()
            .iter()
            .filter(|source| visible(&source.node.id))
            .filter_map(|source| {
                let text = source.listing.as_ref()?.instructions.as_ref()?.to_text()?;
                Some(format!("## {}\n{text}", source.node.id))
            })
            .collect();
        (!parts.is_empty()).then(|| Json::string(&parts.join("\n\n")))
    }

    /// Merges capabilities: what any upstream has, and what one that could not be listed yet may have. A single upstream
    /// has its own, to the byte.
    fn capabilities(
        &self,
        advertises: &dyn Fn(&str) -> bool,
        visible: &dyn Fn(&UpstreamId) -> bool,
    ) -> Json {
        if let Some(only) = self.only()
            && visible(&only.node.id)
            && let Some(listing) = &only.listing
        {
            return listing.capabilities.clone().unwrap_or(Json::EMPTY_OBJECT);
        }
        let mut merged = Map::new();
        let own = self.sources().iter();
        for source in own.filter(|source| visible(&source.node.id)) {
            merge(&mut merged, &capabilities_of(source));
        }
        for list in ["tools", "prompts", "resources"] {
            if let Some(Value::Object(own)) = merged.get_mut(list) {
                // Upstreams come and go.
                own.insert("listChanged".to_owned(), true.into());
            }
        }
        if let Some(Value::Object(extensions)) = merged.get_mut("extensions") {
            extensions.retain(|id, _| advertises(id));
            if extensions.is_empty() {
                merged.remove("extensions");
            }
        }
        Value::Object(merged).into()
    }

    /// Returns the upstreams that declare an extension.
    pub(crate) fn declaring<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a Source> {
        self.sources().iter().filter(move |source| {
            source
                .listing
                .as_deref()
                .is_some_and(|listing| declares(listing, extension))
        })
    }
}

/// Whether the upstream of a listing declares an extension.
pub(crate) fn declares(listing: &Listing, extension: &str) -> bool {
    let extensions = listing
        .capabilities
        .as_ref()
        .and_then(|own| own.member("extensions"));
    extensions.is_some_and(|own| own.member(extension).is_some())
}

fn capabilities_of(source: &Source) -> Value {
    match &source.listing {
        Some(listing) => listing
            .capabilities
            .as_ref()
            .and_then(|own| own.decode().ok())
            .unwrap_or_default(),
        None => json!({
            "tools": {}, "prompts": {}, "resources": { "subscribe": true },
            "completions": {}, "logging": {},
        }),
    }
}

/// Adds what `from` has and `into` lacks, at every depth; `true` wins over `false`.
fn merge(into: &mut Map<String, Value>, from: &Value) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        match into.get_mut(key) {
            None => {
                into.insert(key.clone(), value.clone());
            }
            Some(Value::Object(own)) => merge(own, value),
            Some(own @ Value::Bool(false)) => *own = value.clone(),
            Some(_) => {}
        }
    }
}
