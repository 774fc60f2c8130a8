use std::{sync::Arc, time::Duration};

use mcp_core::http_client::HttpClient;

use crate::discovery::{DiscoveryError, ServerMetadata, fetch};

/// The metadata of authorization servers, each kept for as long as it says. Clones share it.
#[derive(Clone)]
pub(crate) struct Directory {
    http: Arc<dyn HttpClient>,
    known: moka::sync::Cache<String, Known>,
}

#[derive(Clone)]
struct Known {
    metadata: Arc<ServerMetadata>,
    fresh: Duration,
}

/// Ends what is known by its own lifetime.
struct Ends;

impl moka::Expiry<String, Known> for Ends {
    #[allow(clippy::disallowed_types, reason = "the trait of the cache wants it")]
    fn expire_after_create(
        &self,
        _: &String,
        known: &Known,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(known.fresh)
    }

    #[allow(clippy::disallowed_types, reason = "the trait of the cache wants it")]
    fn expire_after_update(
        &self,
        _: &String,
        known: &Known,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(known.fresh)
    }
}

impl Directory {
    pub(crate) fn new(http: Arc<dyn HttpClient>) -> Self {
        Self {
            http,
            known: moka::sync::Cache::builder()
                .max_capacity(1000)
                .expire_after(Ends)
                .build(),
        }
    }

    /// As [`discover`](crate::discovery::discover), from memory while the document is fresh.
    pub(crate) async fn discover(&self, issuer: &str) -> Result<ServerMetadata, DiscoveryError> {
        if let Some(known) = self.known.get(issuer) {
            return Ok(ServerMetadata::clone(&known.metadata));
        }
        let (metadata, fresh) = fetch(&self.http, issuer).await?;
        if !fresh.is_zero() {
            let known = Known {
                metadata: Arc::new(metadata.clone()),
                fresh,
            };
            self.known.insert(issuer.to_owned(), known);
        }
        Ok(metadata)
    }

    /// Forgets an issuer whose endpoints do not work any more.
    pub(crate) fn forget(&self, issuer: &str) {
        self.known.invalidate(issuer);
    }
}
