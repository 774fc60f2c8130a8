//! The graph of upstreams: an immutable value that changes as a whole.

use std::{collections::HashMap, fmt, sync::Arc};

use mcp_core::{
    BoxSeam, ConfigCheck, ConfigError, ConfigErrors, Error, IntoSeam, Seam, UpstreamId,
};
use tower_layer::Layer;

use super::member::Member;
use crate::{
    Upstream,
    catalogue::{NamingPolicy, Prefixed, Snapshot, Source},
    digest::Identity,
    node::{Lists, Node, NodeParts},
    upstream::{Layers, Shared},
};

/// Describes the upstreams of a gateway, how their names are made public, and the layers around all of them.
///
/// A value: [`Running::apply`](super::Running::apply) brings a gateway from whatever it is to what this says.
#[derive(Clone, Debug)]
#[must_use]
pub struct GraphSpec {
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) naming: Arc<dyn NamingPolicy>,
    pub(crate) layers: Layers,
}

impl Default for GraphSpec {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            naming: Arc::new(Prefixed),
            layers: Layers::default(),
        }
    }
}

impl GraphSpec {
    /// Describes a graph without upstreams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an upstream. Their order decides who keeps a name that two of them have.
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstreams.push(upstream);
        self
    }

    /// Sets how public names are made. Default is [`Prefixed`].
    pub fn naming(mut self, policy: impl NamingPolicy) -> Self {
        self.naming = Arc::new(policy);
        self
    }

    /// Adds a layer around all upstreams. The first is the outermost.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxSeam> + Send + Sync + 'static,
        IntoSeam<L::Service>: Seam,
    {
        self.layers.push(Identity::unique(), layer);
        self
    }

    /// Checks the description, all of it.
    ///
    /// # Errors
    ///
    /// Every setting that is not allowed, under its key: `upstreams.crm.url`.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        self.prepare(&Shared::default()).map(drop)
    }

    pub(crate) fn prepare(&self, shared: &Shared) -> Result<Vec<NodeParts>, ConfigErrors> {
        ConfigErrors::collect(|check| {
            check.below("upstreams", |check| self.prepare_in(shared, check))
        })
    }

    fn prepare_in(&self, shared: &Shared, check: &mut ConfigCheck) -> Vec<NodeParts> {
        let mut seen = std::collections::HashSet::new();
        let mut all = Vec::with_capacity(self.upstreams.len());
        for upstream in &self.upstreams {
            if !seen.insert(upstream.id()) {
                check.push(ConfigError::new(
                    upstream.id().to_owned(),
                    upstream.id(),
                    "an id that no other upstream has",
                ));
            }
            all.extend(check.take(upstream.prepare(shared)));
        }
        all
    }
}

/// What a change of the graph did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GraphDiff {
    /// The generation of the graph after the change.
    pub generation: u64,
    /// Upstreams that are new. They are started in the background.
    pub added: Vec<UpstreamId>,
    /// Upstreams whose description changed: their new nodes take all new calls.
    pub replaced: Vec<UpstreamId>,
    /// Upstreams that are no longer there.
    pub removed: Vec<UpstreamId>,
    /// Upstreams that stay as they are.
    pub kept: Vec<UpstreamId>,
    /// Upstreams whose new description could not be brought up: the old node stays.
    pub failed: Vec<(UpstreamId, Error)>,
}

/// One generation of the graph.
pub(crate) struct Graph {
    pub(crate) generation: u64,
    members: Vec<Arc<Member>>,
    by_id: HashMap<UpstreamId, usize>,
    pub(crate) naming: Arc<dyn NamingPolicy>,
    /// What clients without capabilities of their own are offered.
    pub(crate) catalogue: Arc<Snapshot>,
    /// Whether no upstream has lists of its own for each principal.
    pub(crate) is_common: bool,
}

impl Graph {
    pub(crate) fn new(
        generation: u64,
        members: Vec<Arc<Member>>,
        naming: Arc<dyn NamingPolicy>,
        catalogue: Arc<Snapshot>,
    ) -> Self {
        let ids = members.iter().enumerate();
        Self {
            generation,
            by_id: ids
                .map(|(index, member)| (member.node.id.clone(), index))
                .collect(),
            is_common: members
                .iter()
                .all(|member| member.node.sharing.lists != Lists::Principal),
            members,
            naming,
            catalogue,
        }
    }

    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    pub(crate) fn member(&self, id: &UpstreamId) -> Option<&Arc<Member>> {
        self.by_id.get(id).map(|index| &self.members[*index])
    }

    /// Returns the member of a node, if the node is part of this generation.
    pub(crate) fn member_of(&self, node: &Arc<Node>) -> Option<&Arc<Member>> {
        self.member(&node.id)
            .filter(|member| Arc::ptr_eq(&member.node, node))
    }

    /// Returns the upstream if there is exactly one.
    pub(crate) fn only(&self) -> Option<&Arc<Member>> {
        match &self.members[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Returns whether another generation has the same members.
    pub(crate) fn has_members_of(&self, other: &Self) -> bool {
        let (one, other) = (&self.members, &other.members);
        one.len() == other.len() && one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Returns what the members have listed for the gateway itself.
    pub(crate) fn sources(members: &[Arc<Member>]) -> Vec<Source> {
        members
            .iter()
            .map(|member| Source {
                node: Arc::clone(&member.node),
                listing: member.listing(),
            })
            .collect()
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("generation", &self.generation)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}
