//! One generation of the catalogue: an immutable merged list of what upstreams offer, and its routing table.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use mcp_core::{
    Change, ChangedEntry, Entry as Listed, Json, ToolAnnotations, ToolSchemas, UpstreamId,
    Visibility, mirror::Mirrors, shapes::Shape,
};

use super::{
    ListKind, Listing, NamingPolicy,
    page::{self, Frame},
    skills::{self, Root},
    uri,
};
use crate::{digest::Digester, node::Node};

/// A page holds no more than this many bytes of entries, unless one entry alone does.
const PAGE: usize = 1 << 20;

/// What one upstream contributes. The listing is `None` while the upstream could not be listed.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) node: Arc<Node>,
    pub(crate) listing: Option<Arc<Listing>>,
}

/// Immutable merged catalogue and its routing table.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    sources: Vec<Source>,
    tables: [Table; 5],
    /// Folders of skills by their public URI, with the upstream that has each.
    skill_roots: HashMap<Box<str>, (Root, Arc<Node>)>,
    withheld: Vec<Withheld>,
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    by_name: HashMap<Arc<str>, usize>,
    frame: Frame,
    /// Pages for clients of each shape, composed when the first of them lists.
    pages: [OnceLock<Vec<Json>>; Shape::ALL.len()],
}

/// An entry of a list, and the upstream that it is routed to.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) public: Arc<str>,
    pub(crate) original: Arc<str>,
    pub(crate) node: Arc<Node>,
    pub(crate) annotations: ToolAnnotations,
    pub(crate) mirrors: Option<Arc<Mirrors>>,
    pub(crate) json: Json,
    /// Read when a layer first wants them.
    schemas: OnceLock<Arc<ToolSchemas>>,
}

impl Entry {
    /// Returns the schemas of a tool. Their generation is derived from what they say: clients whose catalogues differ
    /// elsewhere share what a layer makes of them.
    pub(crate) fn schemas(&self) -> &Arc<ToolSchemas> {
        self.schemas.get_or_init(|| {
            let input = self.json.member("inputSchema");
            let output = self.json.member("outputSchema");
            let mut digester = Digester::default();
            for schema in [&input, &output] {
                digester.put(schema.as_ref().map_or(b"", |schema| schema.as_bytes()));
            }
            let generation = digester.finish().number();
            Arc::new(ToolSchemas::new(generation, input, output))
        })
    }
}

/// An entry that is not offered because another one has its public name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// The public name, URI or URI template.
    pub name: Arc<str>,
    /// The upstream whose entry is offered.
    pub offered: UpstreamId,
    /// The upstream whose entry is withheld.
    pub withheld: UpstreamId,
}

/// An upstream that may have a resource.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) node: Arc<Node>,
    /// The skill that the resource is a file of.
    pub(crate) skill: Option<Root>,
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) json: Json,
    /// The number of the page that follows.
    pub(crate) next: Option<usize>,
}

impl Snapshot {
    /// Merges what upstreams offer, in their order: the first to offer a name keeps it.
    pub(crate) fn compose(
        sources: Vec<Source>,
        naming: &dyn NamingPolicy,
        info: &Json,
        generation: u64,
    ) -> Self {
        let mut snapshot = Self {
            generation,
            tables: Default::default(),
            skill_roots: HashMap::new(),
            withheld: Vec::new(),
            sources,
        };
        for kind in ListKind::ALL {
            for source in snapshot.sources.clone() {
                snapshot.add(kind, &source, naming);
            }
            snapshot.tables[kind as usize].frame = frame(kind, &snapshot.sources, info);
        }
        for one in &snapshot.withheld {
            tracing::debug!(name = %one.name, offered = %one.offered, withheld = %one.withheld, "name clash");
        }
        snapshot
    }

    fn add(&mut self, kind: ListKind, source: &Source, naming: &dyn NamingPolicy) {
        let Some(listing) = &source.listing else {
            return;
        };
        for item in &listing.list(kind).items {
            let table = &self.tables[kind as usize];
            let public: Arc<str> = match kind {
                ListKind::Tools | ListKind::Prompts => {
                    naming.public_name(&source.node.id, &item.name).into()
                }
                ListKind::Skills => {
                    let taken = table.by_name.contains_key(&item.name);
                    let apart = || skills::with_upstream(&item.name, &source.node.id);
                    match taken.then(apart).flatten() {
                        Some(renamed) => renamed.into(),
                        None => Arc::clone(&item.name),
                    }
                }
                ListKind::Resources | ListKind::Templates => Arc::clone(&item.name),
            };
            if let Some(index) = table.by_name.get(&public) {
                self.withheld.push(Withheld {
                    name: public,
                    offered: table.entries[*index].node.id.clone(),
                    withheld: source.node.id.clone(),
                });
                continue;
            }
            let json = match kind {
                ListKind::Skills => self.add_skill(&public, item, source),
                _ => renamed(&item.json, kind, &item.name, &public),
            };
            let table = &mut self.tables[kind as usize];
            let number = table.entries.len();
            table.by_name.insert(Arc::clone(&public), number);
            table.entries.push(Entry {
                public,
                original: Arc::clone(&item.name),
                node: Arc::clone(&source.node),
                annotations: item.annotations,
                mirrors: item.mirrors.clone(),
                json,
                schemas: OnceLock::new(),
            });
        }
    }

    /// Registers the folder of a skill and returns the skill's public definition.
    fn add_skill(&mut self, public: &str, item: &super::Item, source: &Source) -> Json {
        let (Some(public), Some(original)) = (skills::root(public), skills::root(&item.name))
        else {
            return item.json.clone();
        };
        let root = Root {
            public: public.into(),
            original: original.into(),
        };
        let json = match root.is_renamed() {
            true => root.publish(&item.json),
            false => item.json.clone(),
        };
        let place = (root, Arc::clone(&source.node));
        self.skill_roots.insert(place.0.public.clone(), place);
        json
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

    /// Returns whether every upstream has been listed.
    pub(crate) fn is_complete(&self) -> bool {
        self.sources.iter().all(|source| source.listing.is_some())
    }

    /// Returns whether a list may have more than one page.
    pub(crate) fn is_paged(&self) -> bool {
        let size = |table: &Table| table.entries.iter().map(|entry| entry.json.len()).sum();
        self.tables.iter().any(|table| {
            let size: usize = size(table);
            size > PAGE
        })
    }

    /// Returns the source if there is exactly one.
    pub(crate) fn only(&self) -> Option<&Source> {
        match &self.sources[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Finds an entry by its public name.
    pub(crate) fn find(&self, kind: ListKind, public: &str) -> Option<&Entry> {
        let table = self.table(kind);
        table
            .by_name
            .get(public)
            .map(|index| &table.entries[*index])
    }

    /// Finds the upstreams that may have a resource, the likeliest first: who lists it, who has it in a skill, who has a
    /// template for it, who lists others of its scheme and authority, and the rest of its scheme.
    pub(crate) fn find_resource(&self, wanted: &str) -> Vec<Place> {
        let at = |node: &Arc<Node>| Place {
            node: Arc::clone(node),
            skill: None,
        };
        if let Some(entry) = self.find(ListKind::Resources, wanted) {
            return vec![at(&entry.node)];
        }
        if let Some((root, node)) = skills::find_root(&self.skill_roots, wanted) {
            let skill = Some(root.clone());
            return vec![Place { skill, ..at(node) }];
        }
        let mut found: Vec<Place> = Vec::new();
        let mut add = |entry: &Entry| {
            if !found
                .iter()
                .any(|place| Arc::ptr_eq(&place.node, &entry.node))
            {
                found.push(at(&entry.node));
            }
        };
        let templates = self.entries(ListKind::Templates);
        let all = || self.entries(ListKind::Resources).iter().chain(templates);
        templates
            .iter()
            .filter(|entry| uri::matches(&entry.original, wanted))
            .for_each(&mut add);
        all()
            .filter(|entry| uri::place(&entry.original) == uri::place(wanted))
            .for_each(&mut add);
        all()
            .filter(|entry| uri::scheme(&entry.original) == uri::scheme(wanted))
            .for_each(&mut add);
        match self.only() {
            Some(only) if found.is_empty() => vec![at(&only.node)],
            _ => found,
        }
    }

    /// Returns a page of a list; `None` for a page that is not there.
    pub(crate) fn page(
        &self,
        kind: ListKind,
        number: usize,
        visibility: &Visibility,
        shape: Shape,
    ) -> Option<Page> {
        let table = self.table(kind);
        let filtered;
        let pages = if visibility.is_all() {
            table.pages[shape as usize]
                .get_or_init(|| self.pages(kind, shape, &table.frame, |_| true))
        } else {
            let frame = Frame {
                private: true,
                ..table.frame.clone()
            };
            let sees = |entry: &Entry| visibility.allows(&listed(kind, entry));
            filtered = self.pages(kind, shape, &frame, sees);
            &filtered
        };
        Some(Page {
            json: pages.get(number)?.clone(),
            next: (number + 1 < pages.len()).then_some(number + 1),
        })
    }

    fn pages(
        &self,
        kind: ListKind,
        shape: Shape,
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
        cuts.push(seen.len());
        cuts.windows(2)
            .map(|cut| {
                let entries = seen[cut[0]..cut[1]].iter();
                let entries = entries.map(|entry| shape.entry(kind.entry_kind(), &entry.json));
                page::compose(kind, entries, frame, shape == Shape::Stateless)
            })
            .collect()
    }

    /// Returns what changed from another snapshot to this one.
    pub(crate) fn changes_since(&self, earlier: &Self) -> Vec<ChangedEntry> {
        let mut changes = Vec::new();
        for kind in ListKind::ALL {
            let changed = |entry: &Entry, change| {
                ChangedEntry::new(kind.entry_kind(), Arc::clone(&entry.public), change)
                    .with_upstream(entry.node.id.clone())
            };
            for entry in self.entries(kind) {
                match earlier.find(kind, &entry.public) {
                    None => changes.push(changed(entry, Change::Added)),
                    Some(old) if old.json != entry.json => {
                        changes.push(changed(entry, Change::Altered));
                    }
                    Some(_) => {}
                }
            }
            for entry in earlier.entries(kind) {
                if self.find(kind, &entry.public).is_none() {
                    changes.push(changed(entry, Change::Removed));
                }
            }
        }
        changes
    }
}

/// Describes an entry to a visibility predicate.
pub(crate) fn listed(kind: ListKind, entry: &Entry) -> Listed<'_> {
    Listed::new(kind.entry_kind(), &entry.public)
        .with_upstream(&entry.node.id)
        .with_annotations(entry.annotations)
}

fn frame(kind: ListKind, sources: &[Source], info: &Json) -> Frame {
    let lists = || {
        sources
            .iter()
            .filter_map(|source| source.listing.as_ref())
            .map(|listing| listing.list(kind))
    };
    let lacks = |source: &&Source| match &source.listing {
        Some(listing) => listing.list(kind).failure.is_some(),
        None => true,
    };
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
        server_info: match sources {
            [only] => only
                .listing
                .as_ref()
                .and_then(|own| own.server_info.clone()),
            _ => Some(info.clone()),
        },
        degraded: sources
            .iter()
            .filter(lacks)
            .map(|source| source.node.id.to_string())
            .collect(),
    }
}

/// Splices the public name into a definition.
fn renamed(json: &Json, kind: ListKind, original: &str, public: &str) -> Json {
    if original == public {
        return json.clone();
    }
    match mcp_core::Object::index(json) {
        Ok(mut object) => {
            object.set(kind.key(), Json::string(public));
            object.to_json()
        }
        Err(_) => json.clone(),
    }
}

#[cfg(test)]
mod tests;
