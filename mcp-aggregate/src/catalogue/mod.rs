//! What all upstreams offer together: one immutable snapshot, whose list pages are prepared.

mod discover;
mod item;
mod listing;
mod naming;
mod page;
mod public;
mod skills;
mod snapshot;
mod uri;

pub(crate) use self::{
    item::Item,
    listing::{Interner, Listing, fetch},
    page::{ListKind, SKILLS},
    skills::Root,
    snapshot::{Entry, Page, Place, Snapshot, Source, listed},
};
pub use self::{
    naming::{Bare, NamingPolicy, Prefixed},
    public::{Catalogue, CatalogueEntry, CatalogueReader},
    snapshot::Withheld,
};
