//! Many upstreams as one service.

mod health;
mod listen;
mod router;
mod tasks;
mod view;
mod watch;

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use mcp_core::{
    BoxSeam, ChangeFeed, ChangeStream, ConfigError, IntoSeam, Json, MemoryChangeFeed, Seam,
};
use serde_json::json;
use tokio::task::JoinSet;
use tower_layer::Layer;

pub use self::health::{HealthReport, HealthService, UpstreamHealth, UpstreamState};
use self::{health::Board, router::Router, tasks::TaskIds, view::Views};
use crate::{
    Upstream,
    catalogue::{Interner, NamingPolicy, Prefixed, Snapshot, Source, Withheld},
    upstream::Connected,
};

/// Describes a gateway. Building is pure: nothing is sent, started or bound before [`Gateway::start`].
#[must_use]
pub struct GatewayBuilder {
    name: String,
    instructions: Option<String>,
    upstreams: Vec<Upstream>,
    naming: Box<dyn NamingPolicy>,
    layers: Vec<Box<dyn FnOnce(BoxSeam) -> BoxSeam + Send>>,
    task_key: Option<[u8; 32]>,
}

/// A gateway that has been checked and not started.
pub struct Gateway {
    core: Arc<Core>,
    layers: Vec<Box<dyn FnOnce(BoxSeam) -> BoxSeam + Send>>,
}

/// A gateway at work. Dropping it stops what it started; [`Running::shutdown`] does so in order.
pub struct Running {
    core: Arc<Core>,
    service: BoxSeam,
    tasks: JoinSet<()>,
}

/// What everything in a gateway shares.
pub(crate) struct Core {
    pub(crate) upstreams: Vec<Connected>,
    pub(crate) naming: Box<dyn NamingPolicy>,
    pub(crate) instructions: Option<String>,
    pub(crate) info: Json,
    pub(crate) base: ArcSwap<Snapshot>,
    pub(crate) interner: Interner,
    pub(crate) feed: MemoryChangeFeed,
    pub(crate) board: Board,
    pub(crate) views: Views,
    pub(crate) task_ids: TaskIds,
}

impl Gateway {
    /// Begins a gateway. The name is what clients of more than one upstream see as the server's.
    pub fn builder(name: &str) -> GatewayBuilder {
        GatewayBuilder {
            name: name.to_owned(),
            instructions: None,
            upstreams: Vec::new(),
            naming: Box::new(Prefixed::default()),
            layers: Vec::new(),
            task_key: None,
        }
    }

    /// Starts the gateway. Upstreams are connected in the background: one that is slow or away delays nobody.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(self) -> Running {
        let mut tasks = JoinSet::new();
        for index in 0..self.core.upstreams.len() {
            tasks.spawn(watch::run(Arc::clone(&self.core), index));
        }
        let mut service = BoxSeam::new(Router::new(Arc::clone(&self.core)));
        for wrap in self.layers.into_iter().rev() {
            service = wrap(service);
        }
        Running {
            core: self.core,
            service,
            tasks,
        }
    }
}

impl GatewayBuilder {
    /// Adds an upstream. Their order decides who keeps a name that two of them want.
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstreams.push(upstream);
        self
    }

    /// Sets how public names are made. Default is [`Prefixed`].
    pub fn naming(mut self, policy: impl NamingPolicy) -> Self {
        self.naming = Box::new(policy);
        self
    }

    /// Sets what clients are told about the gateway. Default is what the upstreams say about themselves.
    pub fn instructions(mut self, text: &str) -> Self {
        self.instructions = Some(text.to_owned());
        self
    }

    /// Adds a layer around all upstreams. The first is the outermost.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxSeam> + Send + 'static,
        IntoSeam<L::Service>: Seam,
    {
        self.layers.push(Box::new(move |inner| {
            BoxSeam::new(IntoSeam::new(layer.layer(inner)))
        }));
        self
    }

    /// Sets the key that seals task ids. Default is one that this process makes up: replicas, and a process that
    /// is to know its tasks again, need the same one.
    pub fn task_key(mut self, key: [u8; 32]) -> Self {
        self.task_key = Some(key);
        self
    }

    /// Checks everything and builds the gateway.
    ///
    /// # Errors
    ///
    /// Two upstreams have the same id, or one is malformed.
    pub fn build(self) -> Result<Gateway, ConfigError> {
        let mut seen = HashSet::new();
        let mut upstreams = Vec::with_capacity(self.upstreams.len());
        for upstream in self.upstreams {
            if !seen.insert(upstream.id().clone()) {
                return Err(ConfigError::duplicate_upstream(upstream.id()));
            }
            upstreams.push(upstream.connect()?);
        }
        let sources = upstreams
            .iter()
            .map(|upstream| Source {
                id: upstream.id.clone(),
                listing: None,
            })
            .collect();
        let base = Snapshot::compose(sources, &*self.naming, 0);
        let board = Board::new(upstreams.iter().map(|upstream| upstream.id.clone()));
        let core = Core {
            upstreams,
            naming: self.naming,
            instructions: self.instructions,
            info: Json::from(json!({ "name": self.name, "version": env!("CARGO_PKG_VERSION") })),
            base: ArcSwap::from_pointee(base),
            interner: Interner::default(),
            feed: MemoryChangeFeed::default(),
            board,
            views: Views::default(),
            task_ids: TaskIds::new(self.task_key.unwrap_or_else(rand::random)),
        };
        Ok(Gateway {
            core: Arc::new(core),
            layers: self.layers,
        })
    }
}

impl Running {
    /// Returns the gateway as a service of the seam, with its layers.
    #[must_use]
    pub fn service(&self) -> BoxSeam {
        self.service.clone()
    }

    /// Returns the gateway as a service over HTTP.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(
        &self,
        config: mcp_core::transport::http::HttpConfig,
    ) -> mcp_core::transport::http::HttpTransport<BoxSeam> {
        mcp_core::transport::http::HttpTransport::new(self.service(), config)
    }

    /// Returns a service over HTTP that reports health.
    #[must_use]
    pub fn health_service(&self) -> HealthService {
        HealthService::new(Arc::clone(&self.core))
    }

    /// Returns the health of all upstreams.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        self.core.board.report()
    }

    /// Returns the entries that are not offered because another one has their name.
    #[must_use]
    pub fn withheld(&self) -> Vec<Withheld> {
        self.core.base.load().withheld().to_vec()
    }

    /// Returns how many tools, prompts, resources and resource templates are offered to a client without
    /// capabilities.
    #[must_use]
    pub fn counts(&self) -> [usize; 4] {
        let base = self.core.base.load();
        crate::catalogue::ListKind::ALL.map(|kind| base.entries(kind).len())
    }

    /// Waits until every upstream has been listed or has failed to once, at most this long.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn settled(&self, longest: Duration) -> bool {
        tokio::time::timeout(longest, self.core.board.settled())
            .await
            .is_ok()
    }

    /// Stops everything: sessions with upstreams are ended and process groups killed. Returns when they have ended.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
        let ending = self
            .core
            .upstreams
            .iter()
            .filter_map(|upstream| upstream.shutdown.as_ref())
            .map(|shutdown| shutdown());
        futures_util::future::join_all(ending).await;
    }
}

impl ChangeFeed for Running {
    fn subscribe(&self) -> ChangeStream {
        self.core.feed.subscribe()
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder")
            .field("name", &self.name)
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("upstreams", &self.core.upstreams.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
