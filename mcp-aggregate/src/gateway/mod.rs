//! Many upstreams as one service.

mod attach;
mod classes;
mod core;
mod events;
mod extension;
mod graph;
mod health;
mod kinds;
mod listen;
mod member;
mod offer;
mod router;
mod running;
mod schedule;
mod service;
mod silence;
mod tasks;
mod transport;
mod view;
mod watch;

use std::{fmt, sync::Arc};

use mcp_core::{Bounds, BoxSeam, ConfigErrors, IntoSeam, Json, Seam, Timing, secret::Secret};
use serde_json::json;
use tower_layer::Layer;

use self::{
    core::{Core, CoreParts},
    extension::Extensions,
    transport::Transport,
    view::Views,
};
pub use self::{
    events::{EventStream, GatewayEvent, SessionState},
    extension::ExtensionRule,
    graph::{GraphDiff, GraphSpec},
    health::{HealthReport, HealthService, UpstreamHealth, UpstreamState},
    running::{Counts, Running},
    service::GatewayService,
};
use crate::{
    Upstream,
    catalogue::{CatalogueReader, NamingPolicy, Snapshot},
    digest::Identity,
    seal::Sealer,
    upstream::Shared,
};

/// Builder of a [`Gateway`]. Building is pure: nothing is sent, started or bound before [`Gateway::start`].
#[derive(Clone)]
#[must_use]
pub struct GatewayBuilder {
    name: String,
    version: String,
    title: Option<String>,
    instructions: Option<String>,
    spec: GraphSpec,
    extensions: Vec<ExtensionRule>,
    timing: Timing,
    bounds: Bounds,
    seal_key: Option<Secret>,
    reader: CatalogueReader,
}

/// A gateway that has been checked and not started.
pub struct Gateway {
    core: Arc<Core>,
    service: GatewayService,
}

impl Gateway {
    /// Starts a builder. The name is the server's name for clients of more than one upstream.
    pub fn builder(name: &str) -> GatewayBuilder {
        let nothing = Snapshot::compose(Vec::new(), &crate::Prefixed, &Json::EMPTY_OBJECT, 0);
        GatewayBuilder {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            title: None,
            instructions: None,
            spec: GraphSpec::default(),
            extensions: Vec::new(),
            timing: Timing::default(),
            bounds: Bounds::default(),
            seal_key: None,
            reader: CatalogueReader::new(nothing),
        }
    }

    /// Starts the gateway. Upstreams are connected in the background: a slow or unreachable upstream does not delay the
    /// others.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(self) -> Running {
        let graph = self.core.graph.load_full();
        for member in graph.members() {
            self.core.watch(member);
        }
        Running::new(self.core, self.service)
    }
}

impl GatewayBuilder {
    /// Adds an upstream. Their order decides who keeps a name that two of them have.
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.spec = self.spec.upstream(upstream);
        self
    }

    /// Sets how public names are made. Default is [`Prefixed`](crate::Prefixed).
    pub fn naming(mut self, policy: impl NamingPolicy) -> Self {
        self.spec = self.spec.naming(policy);
        self
    }

    /// Sets the whole graph: upstreams, naming and layers.
    pub fn graph(mut self, spec: GraphSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Sets the server's version for clients of more than one upstream. Default is the version of this crate.
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Sets the server's title for clients of more than one upstream. Default is none.
    pub fn title(mut self, title: &str) -> Self {
        self.title = Some(title.to_owned());
        self
    }

    /// Sets the instructions for clients. Default is what the upstreams say about themselves.
    pub fn instructions(mut self, text: &str) -> Self {
        self.instructions = Some(text.to_owned());
        self
    }

    /// Adds a layer around all upstreams. The first is the outermost. A tool's annotations are in the request before any
    /// layer sees it.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxSeam> + Send + Sync + 'static,
        IntoSeam<L::Service>: Seam,
    {
        self.spec.layers.push(Identity::unique(), layer);
        self
    }

    /// Adds a rule for an extension of the protocol. Skills (SEP-2640) and tasks (SEP-2663) have theirs.
    pub fn extension(mut self, rule: ExtensionRule) -> Self {
        self.extensions.push(rule);
        self
    }

    /// Sets the durations. An upstream may have its own.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Sets the bounds on what clients and upstreams can take up.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Sets the key that seals task ids and cursors. Default is one that this process makes up: replicas, and a process
    /// that is to know its tasks after a restart, need the same one.
    pub fn seal_key(mut self, key: Secret) -> Self {
        self.seal_key = Some(key);
        self
    }

    /// Returns a handle that reads the catalogue of the gateway to be, for a layer that needs it.
    #[must_use]
    pub fn catalogue(&self) -> CatalogueReader {
        self.reader.clone()
    }

    /// Checks everything and builds the gateway.
    ///
    /// # Errors
    ///
    /// Every setting that is not allowed, all at once, each under its key: `upstreams.crm.url`.
    pub fn build(self) -> Result<Gateway, ConfigErrors> {
        let shared = Shared::new(self.timing.clone(), &self.bounds);
        let mut nodes = Vec::new();
        ConfigErrors::collect(|check| {
            check.below("timing", |check| self.timing.check(check));
            nodes.extend(check.take(self.spec.prepare(&shared)).into_iter().flatten());
        })?;
        let mut info = json!({ "name": self.name, "version": self.version });
        if let Some(title) = self.title {
            info["title"] = title.into();
        }
        let layers = self.spec.layers.clone();
        let parts = CoreParts {
            spec: self.spec,
            info: Json::from(info),
            instructions: self.instructions,
            extensions: Extensions::new(self.extensions),
            shared,
            reader: self.reader,
            views: Views::new(&self.bounds),
            sealer: self
                .seal_key
                .as_ref()
                .map_or_else(Sealer::random, Sealer::new),
        };
        let core = Arc::new(Core::new(parts, nodes));
        let service = GatewayService::new(Arc::clone(&core), &layers);
        Ok(Gateway { core, service })
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder")
            .field("name", &self.name)
            .field("graph", &self.spec)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("graph", &self.core.graph.load())
            .finish_non_exhaustive()
    }
}
