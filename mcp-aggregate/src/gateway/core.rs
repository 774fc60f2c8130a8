//! What everything in a gateway shares, and how its graph changes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use mcp_core::{
    CatalogueChange, ConfigErrors, Error, ErrorKind, Json, MemoryChangeFeed, Request, UpstreamId,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    GraphDiff, GraphSpec, UpstreamState,
    events::{Events, GatewayEvent, SessionState, Signal},
    extension::Extensions,
    graph::Graph,
    kinds::Kinds,
    member::Member,
    tasks::TaskOwners,
    view::Views,
    watch,
};
use crate::{
    catalogue::{CatalogueReader, Interner},
    node::{Node, NodeParts},
    seal::Sealer,
    upstream::Shared,
};

/// What everything in a gateway shares.
pub(crate) struct Core {
    pub(crate) graph: ArcSwap<Graph>,
    /// Held while the graph is exchanged: a composition takes a millisecond, and none may be lost.
    exchanging: Mutex<()>,
    /// Held while upstreams are added, replaced or removed.
    pub(crate) spec: tokio::sync::Mutex<GraphSpec>,
    pub(crate) info: Json,
    pub(crate) instructions: Option<String>,
    pub(crate) extensions: Extensions,
    pub(crate) shared: Shared,
    pub(crate) reader: CatalogueReader,
    pub(crate) interner: Interner,
    pub(crate) feed: MemoryChangeFeed,
    pub(crate) events: Events,
    pub(crate) views: Views,
    pub(crate) sealer: Sealer,
    pub(crate) owners: TaskOwners,
    /// Everything that runs beside the calls.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the gateway ends: listeners and watchers end.
    pub(crate) ending: CancellationToken,
    draining: AtomicBool,
}

/// What a core is made of.
pub(crate) struct CoreParts {
    pub(crate) spec: GraphSpec,
    pub(crate) info: Json,
    pub(crate) instructions: Option<String>,
    pub(crate) extensions: Extensions,
    pub(crate) shared: Shared,
    pub(crate) reader: CatalogueReader,
    pub(crate) views: Views,
    pub(crate) sealer: Sealer,
}

impl Core {
    /// Makes a core around the nodes of a checked description.
    pub(crate) fn new(parts: CoreParts, nodes: Vec<NodeParts>) -> Self {
        let ending = CancellationToken::new();
        let members: Vec<_> = nodes
            .into_iter()
            .map(|node| Member::new(Node::new(node, 1), ending.child_token()))
            .collect();
        let naming = Arc::clone(&parts.spec.naming);
        let sources = Graph::sources(&members);
        let catalogue = parts.views.compose(&naming, &parts.info, sources);
        parts.reader.publish(Arc::clone(&catalogue));
        let graph = Graph::new(1, members, naming, catalogue);
        Self {
            graph: ArcSwap::from_pointee(graph),
            exchanging: Mutex::new(()),
            spec: tokio::sync::Mutex::new(parts.spec),
            info: parts.info,
            instructions: parts.instructions,
            extensions: parts.extensions,
            shared: parts.shared,
            reader: parts.reader,
            interner: Interner::default(),
            feed: MemoryChangeFeed::default(),
            events: Events::default(),
            views: parts.views,
            sealer: parts.sealer,
            owners: TaskOwners::default(),
            tasks: TaskTracker::new(),
            ending,
            draining: AtomicBool::new(false),
        }
    }

    /// Starts the watcher of a member.
    pub(crate) fn watch(self: &Arc<Self>, member: &Arc<Member>) {
        self.tasks
            .spawn(watch::run(Arc::clone(self), Arc::clone(member)));
    }

    /// Tells readers of events of a client's session, now that it opens and when it ends.
    pub(crate) fn note_session(self: &Arc<Self>, request: &Request) {
        let Some(session) = request.session() else {
            return;
        };
        let event = |state, id, principal| GatewayEvent::Session {
            id,
            principal,
            state,
        };
        let (id, principal): (Arc<str>, _) = (session.id().into(), request.principal().clone());
        let opened = event(SessionState::Opened, Arc::clone(&id), principal.clone());
        self.events.publish(opened);
        let core = Arc::downgrade(self);
        let hook = session.on_close(move || {
            if let Some(core) = core.upgrade() {
                core.events
                    .publish(event(SessionState::Closed, id, principal));
            }
        });
        hook.keep();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Takes no new calls from now on.
    pub(crate) fn start_draining(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            self.events.publish(GatewayEvent::Draining);
        }
    }

    /// Sets the state of an upstream and tells who reads the events.
    pub(crate) fn set_state(&self, member: &Member, state: UpstreamState, error: Option<Error>) {
        if !member.set_state(state, error.clone()) {
            return;
        }
        let id = &member.node.id;
        match &error {
            Some(error) if state != UpstreamState::Starting => {
                tracing::warn!(upstream = %id, state = state.name(), %error, "upstream state");
            }
            _ => tracing::info!(upstream = %id, state = state.name(), "upstream state"),
        }
        self.events.publish(GatewayEvent::Upstream {
            id: id.clone(),
            generation: member.node.generation,
            state,
            error,
        });
    }

    /// Composes the catalogue of what members have listed and returns the kinds that changed for everyone.
    pub(crate) fn recompose(&self) -> Kinds {
        self.exchange(|graph| (graph.members().to_vec(), Arc::clone(&graph.naming)))
    }

    /// Exchanges the graph for the next generation.
    fn exchange(
        &self,
        next: impl FnOnce(&Graph) -> (Vec<Arc<Member>>, Arc<dyn crate::NamingPolicy>),
    ) -> Kinds {
        let _exchanging = self
            .exchanging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.graph.load_full();
        let (members, naming) = next(&before);
        let sources = Graph::sources(&members);
        let catalogue = self.views.compose(&naming, &self.info, sources);
        self.views.retire(&before.catalogue);
        let changes = catalogue.changes_since(&before.catalogue);
        let generation = catalogue.generation;
        self.reader.publish(Arc::clone(&catalogue));
        let graph = Graph::new(before.generation + 1, members, naming, catalogue);
        self.graph.store(Arc::new(graph));
        if changes.is_empty() {
            return Kinds::default();
        }
        let change = CatalogueChange::new(generation, changes);
        let kinds = Kinds::changed_by(&change);
        self.events
            .publish(GatewayEvent::Catalogue(Arc::new(change.clone())));
        self.feed.publish(change);
        kinds
    }

    /// Brings the graph to what a description says. The spec of the caller is locked meanwhile.
    ///
    /// An upstream whose digest is the same continues. A new one is started in the background. One whose description changed is
    /// started beside the old one, and takes over once it has listed what it offers; if it does not, the old one stays.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        current: &mut GraphSpec,
        mut spec: GraphSpec,
    ) -> Result<GraphDiff, ConfigErrors> {
        let parts = spec.prepare(&self.shared)?;
        let before = self.graph.load_full();
        let mut diff = GraphDiff::default();
        let mut next = Vec::with_capacity(parts.len());
        for node in parts {
            let id = node.id.clone();
            match before.member(&id) {
                Some(old) if old.node.digest == node.digest => {
                    diff.kept.push(id);
                    next.push((Arc::clone(old), None));
                }
                Some(old) => {
                    let generation = old.node.generation + 1;
                    let new = self.member(node, generation);
                    next.push((new, Some(Arc::clone(old))));
                }
                None => {
                    diff.added.push(id);
                    next.push((self.member(node, 1), None));
                }
            }
        }
        let warmed = join_all(next.into_iter().map(|(new, old)| self.warm(new, old))).await;
        let mut members = Vec::with_capacity(warmed.len());
        for warmed in warmed {
            members.push(match warmed {
                Warmed::AsItIs(member) => member,
                Warmed::Replaces(new) => {
                    diff.replaced.push(new.node.id.clone());
                    new
                }
                Warmed::Failed(old, error) => {
                    keep_description(&mut spec, current, &old.node.id);
                    diff.failed.push((old.node.id.clone(), error));
                    old
                }
            });
        }
        self.swap(&before, members, &spec, &mut diff);
        *current = spec;
        Ok(diff)
    }

    fn member(&self, node: NodeParts, generation: u64) -> Arc<Member> {
        Member::new(Node::new(node, generation), self.ending.child_token())
    }

    /// Starts a node that is to replace another one, and waits until it has listed.
    async fn warm(self: &Arc<Self>, new: Arc<Member>, old: Option<Arc<Member>>) -> Warmed {
        let Some(old) = old else {
            return Warmed::AsItIs(new);
        };
        self.watch(&new);
        let longest = new.node.timing.start + new.node.timing.list;
        let settled = timeout(longest, new.settled()).await.is_ok();
        if settled && new.state() != UpstreamState::Unhealthy {
            return Warmed::Replaces(new);
        }
        let late = || Error::new(ErrorKind::Timeout, "the upstream did not list in time");
        let error = new.status().error.unwrap_or_else(late);
        self.leave(&new, Duration::ZERO);
        Warmed::Failed(old, error)
    }

    fn swap(
        self: &Arc<Self>,
        before: &Arc<Graph>,
        members: Vec<Arc<Member>>,
        spec: &GraphSpec,
        diff: &mut GraphDiff,
    ) {
        let naming = Arc::clone(&spec.naming);
        for member in &members {
            if before.member(&member.node.id).is_none() {
                self.watch(member);
            }
        }
        let kinds = self.exchange(|_| (members, naming));
        let after = self.graph.load_full();
        diff.generation = after.generation;
        for old in before.members() {
            if after.member_of(&old.node).is_none() {
                if after.member(&old.node.id).is_none() {
                    diff.removed.push(old.node.id.clone());
                }
                self.leave(old, old.node.timing.drain);
            }
        }
        self.events.signal(Signal::Members);
        if !kinds.is_empty() {
            self.events.signal(Signal::Lists(kinds));
        }
        self.events.publish(GatewayEvent::Graph {
            generation: diff.generation,
            diff: Arc::new(diff.clone()),
        });
    }

    /// Lets a member finish its calls and ends it, in the background.
    fn leave(&self, member: &Arc<Member>, deadline: Duration) {
        member.leaving.cancel();
        member.node.retire();
        let member = Arc::clone(member);
        self.tasks
            .spawn(async move { member.node.end(deadline).await });
    }

    /// Takes no new calls and waits for those in flight, at most `deadline`. Returns whether all have finished.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        let graph = self.graph.load_full();
        let draining = graph.members().iter().map(|member| {
            member.leaving.cancel();
            member.node.drain(deadline)
        });
        join_all(draining).await.into_iter().all(|drained| drained)
    }

    /// Ends every member and everything that runs beside the calls.
    pub(crate) async fn end(&self) {
        self.ending.cancel();
        let graph = self.graph.load_full();
        let ending = graph.members().iter().map(|member| member.node.stop());
        join_all(ending).await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

enum Warmed {
    /// It stays, or is new and started in the background.
    AsItIs(Arc<Member>),
    Replaces(Arc<Member>),
    /// The old one stays.
    Failed(Arc<Member>, Error),
}

/// Keeps the old description of an upstream whose new one could not be brought up.
fn keep_description(spec: &mut GraphSpec, current: &GraphSpec, id: &UpstreamId) {
    let is_it = |upstream: &&crate::Upstream| upstream.id() == id.as_str();
    let old = current.upstreams.iter().find(is_it);
    let new = spec
        .upstreams
        .iter_mut()
        .find(|upstream| upstream.id() == id.as_str());
    if let (Some(old), Some(new)) = (old, new) {
        *new = old.clone();
    }
}
