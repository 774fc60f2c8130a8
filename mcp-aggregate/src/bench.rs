//! What the benchmarks need of the catalogue. Not for use: it changes without notice.

use std::time::Duration;

use mcp_core::{BoxSeam, Error, Json, Method, Principal, Request, Visibility};

use crate::{
    Upstream,
    catalogue::{self, ListKind, Prefixed, Snapshot, Source},
    node::Node,
};

/// What upstreams have listed, to be composed again and again.
#[derive(Debug)]
pub struct Listings(Vec<Source>);

/// A composed catalogue.
#[derive(Debug)]
pub struct Catalogue(Snapshot);

impl Listings {
    /// Lists upstreams.
    ///
    /// # Errors
    ///
    /// An upstream does not list, or its id is malformed.
    pub async fn fetch(upstreams: &[(&str, BoxSeam)]) -> Result<Self, Error> {
        let context = Request::new(Method::DISCOVER, None)?.with_principal(Principal::local());
        let mut sources = Vec::new();
        for (id, service) in upstreams {
            let parts = Upstream::service(id, service.clone())
                .prepare(&crate::upstream::Shared::default())
                .map_err(|error| Error::new(mcp_core::ErrorKind::Internal, error.to_string()))?;
            let listing = catalogue::fetch(service, &context, Duration::from_secs(10)).await?;
            sources.push(Source {
                node: Node::new(parts, 1).into(),
                listing: Some(listing.into()),
            });
        }
        Ok(Self(sources))
    }

    /// Composes a catalogue with prefixed names.
    #[must_use]
    pub fn compose(&self) -> Catalogue {
        let info = Json::EMPTY_OBJECT;
        Catalogue(Snapshot::compose(self.0.clone(), &Prefixed, &info, 0))
    }
}

impl Catalogue {
    /// Returns whether a tool has a route.
    #[must_use]
    pub fn route(&self, tool: &str) -> bool {
        self.0.find(ListKind::Tools, tool).is_some()
    }

    /// Returns how many entries changed from another catalogue to this one.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> usize {
        self.0.changes_since(&earlier.0).len()
    }

    /// Returns the first page of tools, which is composed once.
    #[must_use]
    pub fn tools(&self) -> Option<Json> {
        let page = self.0.page(
            ListKind::Tools,
            0,
            &Visibility::default(),
            mcp_core::shapes::Shape::Stateless,
        )?;
        Some(page.json)
    }
}
