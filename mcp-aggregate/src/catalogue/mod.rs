//! What all upstreams offer together: one immutable snapshot, whose list pages are prepared.

mod listing;
mod naming;
mod page;
mod snapshot;
mod uri;

pub(crate) use self::{
    listing::{Interner, Listing, fetch},
    page::ListKind,
    snapshot::{Entry, Snapshot, Source},
};
pub use self::{
    naming::{Bare, NamingPolicy, Prefixed},
    snapshot::Withheld,
};
