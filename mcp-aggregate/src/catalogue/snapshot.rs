//! One generation of the catalogue.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use mcp_core::{
    Change, ChangedEntry, Entry as Listed, Error, ErrorKind, Json, Object, ToolAnnotations,
    UpstreamId, Visibility, mirror::Mirrors,
};
use serde_json::json;

use super::{
    ListKind, Listing, NamingPolicy,
    page::{self, Frame},
    uri,
};

/// A page holds no more than this, unless one entry alone does.
const PAGE: usize = 1 << 20;

/// What one upstream contributes. `None` while it cannot be asked.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) id: UpstreamId,
    pub(crate) listing: Option<Arc<Listing>>,
}

/// Everything that is offered, with the way back to who offers it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    sources: Vec<Source>,
    tables: [Table; 4],
    withheld: Vec<Withheld>,
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    by_name: HashMap<Arc<str>, usize>,
    frame: Frame,
    /// Pages for clients of the session era, and of revision 2026-07-28.
    pages: [OnceLock<Vec<Json>>; 2],
}

/// An entry of a list, and where it comes from.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) public: Arc<str>,
    pub(crate) original: Arc<str>,
    pub(crate) upstream: usize,
    pub(crate) annotations: ToolAnnotations,
    pub(crate) mirrors: Option<Arc<Mirrors>>,
    json: Json,
}

/// An entry that is not offered because another one has its public name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// The public name, URI or URI template.
    pub name: Arc<str>,
    /// Whose entry is offered.
    pub offered: UpstreamId,
    /// Whose entry is withheld.
    pub withheld: UpstreamId,
}

impl Snapshot {
    /// Composes what upstreams offer, in their order.
    pub(crate) fn compose(
        sources: Vec<Source>,
        naming: &dyn NamingPolicy,
        generation: u64,
    ) -> Self {
        let mut withheld = Vec::new();
        let tables = ListKind::ALL.map(|kind| {
            let mut table = Table::default();
            for upstream in 0..sources.len() {
                table.add(kind, upstream, &sources, naming, &mut withheld);
            }
            table.frame = frame(kind, &sources);
            table
        });
        for one in &withheld {
            tracing::warn!(name = %one.name, offered = %one.offered, withheld = %one.withheld, "name clash");
        }
        Self {
            generation,
            sources,
            tables,
            withheld,
        }
    }

    fn table(&self, kind: ListKind) -> &Table {
        &self.tables[kind as usize]
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(crate) fn withheld(&self) -> &[Withheld] {
        &self.withheld
    }

    pub(crate) fn entries(&self, kind: ListKind) -> &[Entry] {
        &self.table(kind).entries
    }

    /// Finds an entry by its public name.
    pub(crate) fn find(&self, kind: ListKind, public: &str) -> Option<&Entry> {
        let table = self.table(kind);
        table
            .by_name
            .get(public)
            .map(|index| &table.entries[*index])
    }

    /// Finds the upstreams that may have a resource, the likeliest first: who lists it, who has a template for
    /// it, who lists others of its scheme and authority, and the rest of its scheme.
    pub(crate) fn find_resource(&self, wanted: &str) -> Vec<usize> {
        if let Some(entry) = self.find(ListKind::Resources, wanted) {
            return vec![entry.upstream];
        }
        let mut found = Vec::new();
        let mut add = |upstream| {
            if !found.contains(&upstream) {
                found.push(upstream);
            }
        };
        let templates = self.entries(ListKind::Templates);
        let all = || self.entries(ListKind::Resources).iter().chain(templates);
        templates
            .iter()
            .filter(|entry| uri::matches(&entry.original, wanted))
            .for_each(|entry| add(entry.upstream));
        all()
            .filter(|entry| uri::place(&entry.original) == uri::place(wanted))
            .for_each(|entry| add(entry.upstream));
        all()
            .filter(|entry| uri::scheme(&entry.original) == uri::scheme(wanted))
            .for_each(|entry| add(entry.upstream));
        if found.is_empty() && self.sources.len() == 1 {
            found.push(0);
        }
        found
    }

    /// Returns a page of a list.
    pub(crate) fn page(
        &self,
        kind: ListKind,
        cursor: Option<&str>,
        visibility: &Visibility,
        modern: bool,
    ) -> Result<Json, Error> {
        let bad_cursor = || {
            Error::new(
                ErrorKind::InvalidParams,
                "the cursor is not one of this list as it is now; list from the start",
            )
        };
        let number = match cursor {
            None => 0,
            Some(cursor) => self.read_cursor(cursor).ok_or_else(bad_cursor)?,
        };
        let table = self.table(kind);
        if visibility.is_all() {
            let pages = table.pages[usize::from(modern)]
                .get_or_init(|| self.pages(kind, modern, &table.frame, |_| true));
            return pages.get(number).cloned().ok_or_else(bad_cursor);
        }
        let frame = Frame {
            private: true,
            ..table.frame.clone()
        };
        let sees = |entry: &Entry| visibility.allows(&self.listed(kind, entry));
        let pages = self.pages(kind, modern, &frame, sees);
        pages.into_iter().nth(number).ok_or_else(bad_cursor)
    }

    /// Describes an entry to a visibility predicate.
    pub(crate) fn listed<'a>(&'a self, kind: ListKind, entry: &'a Entry) -> Listed<'a> {
        Listed::new(kind.entry_kind(), &entry.public)
            .with_upstream(&self.sources[entry.upstream].id)
            .with_annotations(entry.annotations)
    }

    fn pages(
        &self,
        kind: ListKind,
        modern: bool,
        frame: &Frame,
        sees: impl Fn(&Entry) -> bool,
    ) -> Vec<Json> {
        let seen: Vec<_> = self.entries(kind).iter().filter(|e| sees(e)).collect();
        let mut cuts = vec![0];
        let mut size = 0;
        for (index, entry) in seen.iter().enumerate() {
            if size > 0 && size + entry.json.len() > PAGE {
                cuts.push(index);
                size = 0;
            }
            size += entry.json.len();
        }
        let count = cuts.len();
        cuts.push(seen.len());
        (0..count)
            .map(|number| {
                let next = (number + 1 < count).then(|| self.write_cursor(number + 1));
                let entries = seen[cuts[number]..cuts[number + 1]].iter().map(|e| &e.json);
                page::compose(kind, entries, frame, next.as_deref(), modern)
            })
            .collect()
    }

    fn write_cursor(&self, page: usize) -> String {
        format!("g{}p{page}", self.generation)
    }

    fn read_cursor(&self, cursor: &str) -> Option<usize> {
        let (generation, page) = cursor.strip_prefix('g')?.split_once('p')?;
        let generation: u64 = generation.parse().ok()?;
        (generation == self.generation).then(|| page.parse().ok())?
    }

    /// Returns what changed from another snapshot to this one.
    pub(crate) fn changes_since(&self, earlier: &Self) -> Vec<ChangedEntry> {
        let mut changes = Vec::new();
        for kind in ListKind::ALL {
            let changed = |entry: &Entry, snapshot: &Self, change| {
                ChangedEntry::new(kind.entry_kind(), Arc::clone(&entry.public), change)
                    .with_upstream(snapshot.sources[entry.upstream].id.clone())
            };
            for entry in self.entries(kind) {
                match earlier.find(kind, &entry.public) {
                    None => changes.push(changed(entry, self, Change::Added)),
                    Some(old) if old.json != entry.json => {
                        changes.push(changed(entry, self, Change::Altered));
                    }
                    Some(_) => {}
                }
            }
            for entry in earlier.entries(kind) {
                if self.find(kind, &entry.public).is_none() {
                    changes.push(changed(entry, earlier, Change::Removed));
                }
            }
        }
        changes
    }

    /// Composes the result of `server/discover`.
    pub(crate) fn discovered(&self, info: &Json, instructions: Option<&str>) -> Json {
        let mut own = Object::default();
        let single = match &self.sources[..] {
            [
                Source {
                    listing: Some(listing),
                    ..
                },
            ] => Some(listing),
            _ => None,
        };
        let info = single
            .and_then(|listing| listing.server_info.clone())
            .unwrap_or_else(|| info.clone());
        own.set(mcp_core::meta::SERVER_INFO, info);
        let versions: Vec<_> = mcp_core::ProtocolVersion::SESSION_ERA
            .iter()
            .chain([&mcp_core::ProtocolVersion::V_2026_07_28])
            .map(mcp_core::ProtocolVersion::as_str)
            .collect();
        let mut result = Object::default();
        result.set("resultType", Json::string("complete"));
        result.set("supportedVersions", Json::from(json!(versions)));
        result.set("capabilities", self.capabilities());
        let instructions = match (instructions, single) {
            (Some(text), _) => Some(Json::string(text)),
            (None, Some(listing)) => listing.instructions.clone(),
            (None, None) => self.joined_instructions(),
        };
        if let Some(instructions) = instructions {
            result.set("instructions", instructions);
        }
        result.set("ttlMs", Json::from(json!(0)));
        result.set("cacheScope", Json::string("private"));
        result.set("_meta", own.to_json());
        result.to_json()
    }

    fn joined_instructions(&self) -> Option<Json> {
        let parts: Vec<_> = self
            .sources
            .iter()
            .filter_map(|source| {
                let text = source.listing.as_ref()?.instructions.as_ref()?.to_text()?;
                Some(format!("## {}\n{text}", source.id))
            })
            .collect();
        (!parts.is_empty()).then(|| Json::string(&parts.join("\n\n")))
    }

    /// Merges capabilities: what any upstream has, and what one that cannot be asked yet may have.
    fn capabilities(&self) -> Json {
        let mut merged = serde_json::Map::new();
        for source in &self.sources {
            let capabilities = match &source.listing {
                Some(listing) => listing
                    .capabilities
                    .as_ref()
                    .and_then(|own| own.decode().ok())
                    .unwrap_or_default(),
                None => json!({
                    "tools": {}, "prompts": {}, "resources": { "subscribe": true },
                    "completions": {}, "logging": {},
                }),
            };
            merge(&mut merged, &capabilities);
        }
        for list in ["tools", "prompts", "resources"] {
            if let Some(serde_json::Value::Object(own)) = merged.get_mut(list) {
                own.insert("listChanged".to_owned(), true.into());
            }
        }
        serde_json::Value::Object(merged).into()
    }
}

/// Adds what `from` has and `into` lacks, at every depth; `true` wins over `false`.
fn merge(into: &mut serde_json::Map<String, serde_json::Value>, from: &serde_json::Value) {
    use serde_json::Value;

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

fn frame(kind: ListKind, sources: &[Source]) -> Frame {
    let lists = || {
        sources
            .iter()
            .filter_map(|source| source.listing.as_ref())
            .map(|listing| listing.list(kind))
    };
    let degraded = sources
        .iter()
        .filter(|source| source.listing.is_none())
        .map(|source| source.id.as_str().to_owned())
        .collect();
    Frame {
        ttl_ms: lists()
            .map(|list| list.ttl_ms.unwrap_or(0))
            .min()
            .unwrap_or(0),
        private: lists().any(|list| list.private || list.ttl_ms.is_none()),
        extra: match sources {
            [
                Source {
                    listing: Some(listing),
                    ..
                },
            ] => listing.list(kind).extra.clone(),
            _ => Vec::new(),
        },
        degraded,
    }
}

impl Table {
    fn add(
        &mut self,
        kind: ListKind,
        upstream: usize,
        sources: &[Source],
        naming: &dyn NamingPolicy,
        withheld: &mut Vec<Withheld>,
    ) {
        let source = &sources[upstream];
        let Some(listing) = &source.listing else {
            return;
        };
        for item in &listing.list(kind).items {
            let public: Arc<str> = match kind.is_named() {
                true => naming.public_name(&source.id, &item.name).into(),
                false => Arc::clone(&item.name),
            };
            if let Some(index) = self.by_name.get(&public) {
                withheld.push(Withheld {
                    name: public,
                    offered: sources[self.entries[*index].upstream].id.clone(),
                    withheld: source.id.clone(),
                });
                continue;
            }
            self.by_name.insert(Arc::clone(&public), self.entries.len());
            self.entries.push(Entry {
                json: renamed(&item.json, kind, &item.name, &public),
                public,
                original: Arc::clone(&item.name),
                upstream,
                annotations: item.annotations,
                mirrors: item.mirrors.clone(),
            });
        }
    }
}

/// Splices the public name into a definition.
fn renamed(json: &Json, kind: ListKind, original: &str, public: &str) -> Json {
    if original == public {
        return json.clone();
    }
    match Object::index(json) {
        Ok(mut object) => {
            object.set(kind.key(), Json::string(public));
            object.to_json()
        }
        Err(_) => json.clone(),
    }
}
