//! The catalogue as users of the crate read it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mcp_core::{
    EntryKind, Json, Request, SchemaSource, ToolAnnotations, ToolSchemas, UpstreamId, Visibility,
};

use super::{Entry, ListKind, Snapshot, Withheld, listed};

/// One generation of a gateway's catalogue, read-only: what is offered to clients without capabilities of their own.
///
/// Cloning is cheap. A catalogue stays as it was read; [`CatalogueReader::current`] returns the newest.
#[derive(Clone, Debug)]
pub struct Catalogue(Arc<Snapshot>);

/// An entry of a [`Catalogue`].
#[derive(Clone, Copy, Debug)]
pub struct CatalogueEntry<'a> {
    kind: ListKind,
    entry: &'a Entry,
}

impl Catalogue {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(snapshot)
    }

    /// Returns the generation: it grows with every change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// Returns the entries of a kind, in the order in which they are listed.
    pub fn entries(&self, kind: EntryKind) -> impl Iterator<Item = CatalogueEntry<'_>> {
        let kind = list_of(kind);
        let entries = kind.map_or(&[][..], |kind| self.0.entries(kind));
        entries
            .iter()
            .zip(kind.into_iter().cycle())
            .map(|(entry, kind)| CatalogueEntry { kind, entry })
    }

    /// Finds an entry by its public name, URI or URI template.
    #[must_use]
    pub fn find(&self, kind: EntryKind, name: &str) -> Option<CatalogueEntry<'_>> {
        let kind = list_of(kind)?;
        let entry = self.0.find(kind, name)?;
        Some(CatalogueEntry { kind, entry })
    }

    /// Returns the entries that are not offered because another one has their public name.
    #[must_use]
    pub fn withheld(&self) -> &[Withheld] {
        self.0.withheld()
    }

    /// Returns the upstreams that are part of the catalogue, in their order, and whether each has been listed.
    pub fn upstreams(&self) -> impl Iterator<Item = (&UpstreamId, bool)> {
        let sources = self.0.sources().iter();
        sources.map(|source| (&source.node.id, source.listing.is_some()))
    }
}

fn list_of(kind: EntryKind) -> Option<ListKind> {
    match kind {
        EntryKind::Tool => Some(ListKind::Tools),
        EntryKind::Prompt => Some(ListKind::Prompts),
        EntryKind::Resource => Some(ListKind::Resources),
        EntryKind::ResourceTemplate => Some(ListKind::Templates),
        _ => None,
    }
}

impl<'a> CatalogueEntry<'a> {
    /// Returns what the entry is.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.kind.entry_kind()
    }

    /// Returns the name (or URI, or URI template) that clients see.
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.entry.public
    }

    /// Returns the upstream's own name.
    #[must_use]
    pub fn original_name(&self) -> &'a str {
        &self.entry.original
    }

    /// Returns the upstream that offers the entry.
    #[must_use]
    pub fn upstream(&self) -> &'a UpstreamId {
        &self.entry.node.id
    }

    /// Returns the generation of the upstream: 1, and one more for each replacement.
    #[must_use]
    pub fn upstream_generation(&self) -> u64 {
        self.entry.node.generation
    }

    /// Returns the definition as it is listed, under its public name.
    #[must_use]
    pub fn definition(&self) -> &'a Json {
        &self.entry.json
    }

    /// Returns what a tool says about itself.
    #[must_use]
    pub fn annotations(&self) -> ToolAnnotations {
        self.entry.annotations
    }

    /// Returns the `inputSchema` of a tool.
    #[must_use]
    pub fn input_schema(&self) -> Option<Json> {
        self.entry.json.member("inputSchema")
    }

    /// Returns the `outputSchema` of a tool.
    #[must_use]
    pub fn output_schema(&self) -> Option<Json> {
        self.entry.json.member("outputSchema")
    }

    /// Returns whether a caller with this visibility sees the entry.
    #[must_use]
    pub fn is_visible(&self, visibility: &Visibility) -> bool {
        visibility.allows(&listed(self.kind, self.entry))
    }
}

/// Reads the current catalogue of a gateway, from before its start until after its end.
///
/// It is a [`SchemaSource`], so that a validation layer can be put around the gateway or an upstream:
///
/// ```
/// use mcp_aggregate::Gateway;
/// use mcp_core::SchemaSource;
///
/// let builder = Gateway::builder("gw");
/// let schemas = builder.catalogue();
/// assert_eq!(schemas.generation(), 0);
/// // builder.layer(ValidateLayer::new(std::sync::Arc::new(schemas)))
/// # drop(builder);
/// ```
#[derive(Clone, Debug)]
pub struct CatalogueReader(Arc<ArcSwap<Snapshot>>);

impl CatalogueReader {
    pub(crate) fn new(first: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }

    /// Returns the catalogue as it is now.
    #[must_use]
    pub fn current(&self) -> Catalogue {
        Catalogue(self.0.load_full())
    }
}

impl SchemaSource for CatalogueReader {
    /// Finds the called tool by its public name, or by its upstream and the upstream's own name inside the upstream's
    /// layers.
    fn schemas(&self, request: &Request) -> Option<ToolSchemas> {
        let snapshot = self.0.load();
        let name = request.tool()?;
        let entry = match request.upstream() {
            None => snapshot.find(ListKind::Tools, name)?,
            Some(upstream) => snapshot
                .entries(ListKind::Tools)
                .iter()
                .find(|entry| entry.node.id == *upstream && *entry.original == *name)?,
        };
        Some(ToolSchemas::new(
            snapshot.generation,
            entry.json.member("inputSchema"),
            entry.json.member("outputSchema"),
        ))
    }

    fn generation(&self) -> u64 {
        self.0.load().generation
    }
}
