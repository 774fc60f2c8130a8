//! What the benchmarks need of the catalogue. Not for use: it changes without notice.

use std::time::Duration;

use mcp_core::{BoxSeam, Error, Json, Method, Principal, Request, UpstreamId, Visibility};

use crate::catalogue::{self, ListKind, Prefixed, Snapshot, Source};

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
        let facts = Request::new(Method::DISCOVER, None)?.with_principal(Principal::local());
        let mut sources = Vec::new();
        for (id, service) in upstreams {
            let id = UpstreamId::new(id)
                .map_err(|error| Error::new(mcp_core::ErrorKind::Internal, error.to_string()))?;
            let listing = Some(
                catalogue::fetch(service, &facts, Duration::from_secs(10))
                    .await?
                    .into(),
            );
            sources.push(Source { id, listing });
        }
        Ok(Self(sources))
    }

    /// Composes a catalogue with prefixed names.
    #[must_use]
    pub fn compose(&self) -> Catalogue {
        Catalogue(Snapshot::compose(self.0.clone(), &Prefixed, 0))
    }
}

impl Catalogue {
    /// Returns which upstream has a tool.
    #[must_use]
    pub fn route(&self, tool: &str) -> Option<usize> {
        let entry = self.0.find(ListKind::Tools, tool)?;
        Some(entry.upstream)
    }

    /// Returns the first page of tools, which is composed once.
    ///
    /// # Errors
    ///
    /// None while there is a first page, which there always is.
    pub fn tools(&self) -> Result<Json, Error> {
        self.0
            .page(ListKind::Tools, None, &Visibility::default(), true)
    }
}
