//! A gateway at work.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use mcp_core::{ChangeFeed, ChangeStream, ConfigError, ConfigErrors, Drain, EntryKind};
use tokio::time::{Instant, timeout};

use super::{
    EventStream, GatewayService, GraphDiff, GraphSpec, HealthReport, HealthService, core::Core,
};
use crate::{
    Upstream,
    catalogue::{Catalogue, CatalogueReader},
};

/// A gateway at work: its graph of upstreams can be changed, read and drained.
///
/// Dropping it ends everything at once, in the background. [`Running::shutdown`] does so in order.
pub struct Running {
    core: Arc<Core>,
    service: GatewayService,
    transports: Mutex<Vec<super::Transport>>,
}

/// How many entries of each kind a catalogue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Tools.
    pub tools: usize,
    /// Prompts.
    pub prompts: usize,
    /// Resources.
    pub resources: usize,
    /// Resource templates.
    pub templates: usize,
}

impl Running {
    pub(super) fn new(core: Arc<Core>, service: GatewayService) -> Self {
        Self {
            core,
            service,
            transports: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Returns the gateway as a service of the seam, with its layers.
    #[must_use]
    pub fn service(&self) -> GatewayService {
        self.service.clone()
    }

    /// Serves the gateway over HTTP. The gateway owns the transport: it is drained and closed with it.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        &self,
        config: mcp_core::transport::http::HttpConfig,
    ) -> mcp_core::transport::http::HttpTransport<GatewayService> {
        let transport = mcp_core::transport::http::HttpTransport::new(self.service(), config);
        self.transports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(super::Transport::http(&transport));
        transport
    }

    /// Returns a service over HTTP that reports health.
    #[must_use]
    pub fn health_service(&self) -> HealthService {
        HealthService::new(Arc::clone(&self.core))
    }

    /// Returns the health of all upstreams.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        HealthReport::of(&self.core)
    }

    /// Returns the current catalogue: what clients without capabilities of their own are offered.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::new(Arc::clone(&self.core.graph.load().catalogue))
    }

    /// Returns a handle that reads the current catalogue at any time.
    #[must_use]
    pub fn catalogue_reader(&self) -> CatalogueReader {
        self.core.reader.clone()
    }

    /// Returns how many entries of each kind the current catalogue has.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let catalogue = self.catalogue();
        let count = |kind| catalogue.entries(kind).count();
        Counts {
            tools: count(EntryKind::Tool),
            prompts: count(EntryKind::Prompt),
            resources: count(EntryKind::Resource),
            templates: count(EntryKind::ResourceTemplate),
        }
    }

    /// Returns a stream of everything that happens from now on.
    #[must_use]
    pub fn events(&self) -> EventStream {
        self.core.events.subscribe()
    }

    /// Waits up to `longest` for every upstream to finish its first listing attempt. Returns `false` on timeout.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn settled(&self, longest: Duration) -> bool {
        let graph = self.core.graph.load_full();
        let settled = graph.members().iter().map(|member| member.settled());
        timeout(longest, futures_util::future::join_all(settled))
            .await
            .is_ok()
    }

    /// Brings the graph of upstreams to what a description says, as a whole.
    ///
    /// An upstream with the same id and the same [`digest`](Upstream::digest) continues as it is, with its sessions,
    /// processes and lists. A new one is started in the background. One whose description changed is started beside the
    /// old one and takes over when it has listed; if it cannot, the old one stays and the diff names it in
    /// [`failed`](GraphDiff::failed). Calls finish on the upstream that they began on, for at most its
    /// [`Timing::drain`](mcp_core::Timing::drain). Clients that listen are sent one `list_changed` for each kind that
    /// changed.
    ///
    /// # Errors
    ///
    /// Every setting that is not allowed, under its key. Nothing has changed then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is done leaves the graph as it was.
    pub async fn apply(&self, spec: GraphSpec) -> Result<GraphDiff, ConfigErrors> {
        let mut current = self.core.spec.lock().await;
        let diff = self.core.apply(&mut current, spec).await?;
        self.service.put_layers(&current.layers);
        Ok(diff)
    }

    /// Adds an upstream, which is started in the background.
    ///
    /// # Errors
    ///
    /// There is an upstream with this id, or a setting is not allowed.
    pub async fn add(&self, upstream: Upstream) -> Result<GraphDiff, ConfigErrors> {
        self.change(|spec| {
            if spec.upstreams.iter().any(|one| one.id() == upstream.id()) {
                return Err(ConfigError::new(
                    format!("upstreams.{}", upstream.id()),
                    upstream.id(),
                    "an id that no other upstream has; use replace to change one",
                ));
            }
            spec.upstreams.push(upstream);
            Ok(())
        })
        .await
    }

    /// Replaces the upstream of the same id, as [`apply`](Self::apply) does.
    ///
    /// # Errors
    ///
    /// There is no upstream with this id, or a setting is not allowed.
    pub async fn replace(&self, upstream: Upstream) -> Result<GraphDiff, ConfigErrors> {
        self.change(|spec| {
            let old = spec
                .upstreams
                .iter_mut()
                .find(|one| one.id() == upstream.id());
            match old {
                Some(old) => {
                    *old = upstream;
                    Ok(())
                }
                None => Err(no_upstream(upstream.id())),
            }
        })
        .await
    }

    /// Removes an upstream. Its calls in flight finish for at most its [`Timing::drain`](mcp_core::Timing::drain).
    ///
    /// # Errors
    ///
    /// There is no upstream with this id.
    pub async fn remove(&self, id: &str) -> Result<GraphDiff, ConfigErrors> {
        self.change(|spec| {
            let before = spec.upstreams.len();
            spec.upstreams.retain(|upstream| upstream.id() != id);
            match spec.upstreams.len() < before {
                true => Ok(()),
                false => Err(no_upstream(id)),
            }
        })
        .await
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut GraphSpec) -> Result<(), ConfigError>,
    ) -> Result<GraphDiff, ConfigErrors> {
        let mut current = self.core.spec.lock().await;
        let mut spec = current.clone();
        change(&mut spec)?;
        self.core.apply(&mut current, spec).await
    }

    /// Returns the description of the current graph.
    pub async fn spec(&self) -> GraphSpec {
        self.core.spec.lock().await.clone()
    }

    /// Takes no new sessions and calls, lets those in flight finish for at most `deadline`, and ends the streams of clients.
    /// Returns whether all have finished. Readiness turns false first; upstreams stop in [`shutdown`](Self::shutdown).
    pub async fn drain(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        self.core.start_draining();
        let transports = self.transports();
        let draining = transports.iter().map(|one| one.drain(deadline));
        let drained = futures_util::future::join_all(draining).await;
        let left = until.saturating_duration_since(Instant::now());
        let finished = self.core.drain(left).await;
        self.core.ending.cancel();
        finished && drained.into_iter().all(|drained| drained)
    }

    /// Ends everything now: calls in flight fail, transports are closed, upstream sessions ended, process groups killed.
    /// Returns when they have ended. [`drain`](Self::drain) before it lets calls finish.
    pub async fn shutdown(&self) {
        self.core.start_draining();
        let transports = self.transports();
        let closing = transports.iter().map(super::Transport::close);
        futures_util::future::join_all(closing).await;
        self.core.end().await;
    }

    fn transports(&self) -> Vec<super::Transport> {
        self.transports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn no_upstream(id: &str) -> ConfigError {
    ConfigError::new(
        format!("upstreams.{id}"),
        id,
        "the id of an upstream that is there; use add for a new one",
    )
}

#[async_trait]
impl Drain for Running {
    async fn drain(&self, deadline: Duration) -> bool {
        Self::drain(self, deadline).await
    }

    async fn close(&self) {
        self.shutdown().await;
    }
}

impl ChangeFeed for Running {
    fn subscribe(&self) -> ChangeStream {
        self.core.feed.subscribe()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Watchers end, and with the last reference the connectors, which end what they started.
        self.core.start_draining();
        self.core.ending.cancel();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let core = Arc::clone(&self.core);
            runtime.spawn(async move { core.end().await });
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
