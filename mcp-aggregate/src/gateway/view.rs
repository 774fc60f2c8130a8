//! What one client is offered.
//!
//! Most clients are offered what the gateway itself is. Some upstreams offer more to clients with certain capabilities
//! ([`classes`](super::classes)), and some offer a session something else by what it has done. A client's view is composed
//! of what every upstream offers *it*; views that say the same share one snapshot.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use mcp_core::{Bounds, Json, Partition, Request, SessionKey};
use tokio::time::Instant;

use super::{attach::Listeners, classes::ClassKey, core::Core, graph::Graph, member::Member};
use crate::{
    catalogue::{Listing, NamingPolicy, Snapshot, Source},
    node::{Lists, Node},
};

/// How many superseded snapshots are kept for clients that are in the middle of a list, and for how long.
const SUPERSEDED: (usize, Duration) = (4, Duration::from_secs(300));

/// All views of a gateway.
pub(crate) struct Views {
    by_client: RwLock<HashMap<Client, Arc<View>>>,
    /// Spares calls the look-up while there is no view.
    count: AtomicUsize,
    /// Counts look-ups, to tell which view was used last.
    looks: AtomicU64,
    /// Snapshots by what they were composed of.
    composed: Mutex<Vec<(ComposedOf, Weak<Snapshot>)>>,
    generation: AtomicU64,
    superseded: Superseded,
    most: usize,
    most_per_principal: usize,
}

/// Nodes and listings, by their addresses: they live as long as the snapshot does.
type ComposedOf = Vec<(usize, usize)>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Session(SessionKey),
    Principal(Partition),
}

impl Client {
    pub(crate) fn of(request: &Request) -> Self {
        match request.session() {
            Some(session) => Self::Session(session.clone()),
            None => Self::Principal(request.principal().partition()),
        }
    }
}

/// What one client is offered.
pub(crate) struct View {
    owner: Partition,
    /// The look-up at which it was used last.
    used: AtomicU64,
    snapshot: ArcSwapOption<Snapshot>,
    superseded: Superseded,
    /// Listings of the client's own sessions: `None` where they are to be read again.
    own: Mutex<HashMap<NodeKey, Option<Arc<Listing>>>>,
    pub(crate) listeners: Listeners,
}

/// Names a node without keeping it.
pub(crate) type NodeKey = (mcp_core::UpstreamId, u64);

pub(crate) fn key_of(node: &Node) -> NodeKey {
    (node.id.clone(), node.generation)
}

impl Views {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            by_client: RwLock::default(),
            count: AtomicUsize::new(0),
            looks: AtomicU64::new(0),
            composed: Mutex::default(),
            generation: AtomicU64::new(0),
            superseded: Superseded::default(),
            most: bounds.views.get(),
            most_per_principal: bounds.views_per_principal.get(),
        }
    }

    /// Returns the view of a client, if it has one.
    fn known(&self, request: &Request) -> Option<Arc<View>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let views = self
            .by_client
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let view = views.get(&Client::of(request))?;
        self.touch(view);
        Some(Arc::clone(view))
    }

    /// Returns the view of a client, and whether it is new.
    fn insert(&self, client: Client, owner: Partition) -> (Arc<View>, bool) {
        let mut views = self
            .by_client
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let is_new = !views.contains_key(&client);
        if is_new {
            self.make_room(&mut views, owner);
        }
        let new = || Arc::new(View::new(owner));
        let view = Arc::clone(views.entry(client).or_insert_with(new));
        self.touch(&view);
        self.count.store(views.len(), Ordering::Release);
        (view, is_new)
    }

    fn touch(&self, view: &View) {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        view.used.store(look, Ordering::Relaxed);
    }

    fn remove(&self, client: &Client) {
        let mut views = self
            .by_client
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        views.remove(client);
        self.count.store(views.len(), Ordering::Release);
    }

    /// Evicts the view of the same principal that was used longest ago, where the principal has its share, or else that of
    /// any. It is composed again when its client lists again. One that listens stays.
    fn make_room(&self, views: &mut HashMap<Client, Arc<View>>, owner: Partition) {
        let own = views.values().filter(|view| view.owner == owner).count();
        let crowded = own >= self.most_per_principal;
        if !crowded && views.len() < self.most {
            return;
        }
        let oldest = views
            .iter()
            .filter(|(_, view)| (!crowded || view.owner == owner) && view.listeners.is_empty())
            .min_by_key(|(_, view)| view.used.load(Ordering::Relaxed))
            .map(|(client, _)| client.clone());
        if let Some(oldest) = oldest {
            tracing::debug!(views = views.len(), "a view makes room");
            views.remove(&oldest);
        }
    }

    /// Composes a snapshot, or finds the one that was composed of the same listings.
    pub(crate) fn compose(
        &self,
        naming: &Arc<dyn NamingPolicy>,
        info: &Json,
        sources: Vec<Source>,
    ) -> Arc<Snapshot> {
        let address = |source: &Source| {
            let listing = source.listing.as_ref();
            (
                Arc::as_ptr(&source.node) as usize,
                listing.map_or(0, |own| Arc::as_ptr(own) as usize),
            )
        };
        let mut key: ComposedOf = sources.iter().map(address).collect();
        key.push((Arc::as_ptr(naming).cast::<()>() as usize, 0));
        let mut composed = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
        composed.retain(|(_, snapshot)| snapshot.strong_count() > 0);
        let same = composed
            .iter()
            .find(|(known, _)| *known == key)
            .and_then(|(_, snapshot)| snapshot.upgrade());
        if let Some(same) = same {
            return same;
        }
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let snapshot = Arc::new(Snapshot::compose(sources, &**naming, info, generation));
        composed.push((key, Arc::downgrade(&snapshot)));
        snapshot
    }

    /// Keeps a superseded snapshot for clients that hold a cursor of it.
    pub(crate) fn retire(&self, snapshot: &Arc<Snapshot>) {
        self.superseded.keep(snapshot);
    }
}

/// Superseded snapshots, the newest last.
#[derive(Default)]
struct Superseded(Mutex<VecDeque<(Instant, Arc<Snapshot>)>>);

impl Superseded {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Arc<Snapshot>)>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept
            .front()
            .is_some_and(|(since, _)| kept.len() > SUPERSEDED.0 || since.elapsed() > SUPERSEDED.1)
        {
            kept.pop_front();
        }
        kept
    }

    /// Keeps a snapshot if any of its lists has more than one page: there are no cursors of others.
    fn keep(&self, snapshot: &Arc<Snapshot>) {
        if snapshot.is_paged() {
            self.lock()
                .push_back((Instant::now(), Arc::clone(snapshot)));
        }
    }

    fn find(&self, generation: u64) -> Option<Arc<Snapshot>> {
        let kept = self.lock();
        let mut snapshots = kept.iter().map(|(_, snapshot)| snapshot);
        snapshots
            .find(|snapshot| snapshot.generation == generation)
            .cloned()
    }
}

impl View {
    fn new(owner: Partition) -> Self {
        Self {
            owner,
            used: AtomicU64::new(0),
            snapshot: ArcSwapOption::empty(),
            superseded: Superseded::default(),
            own: Mutex::default(),
            listeners: Listeners::default(),
        }
    }

    pub(super) fn own(&self) -> MutexGuard<'_, HashMap<NodeKey, Option<Arc<Listing>>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks this client's listing of an upstream as stale: its own session announced a change.
    pub(crate) fn invalidate(&self, node: &Node) {
        self.own().insert(key_of(node), None);
        self.put(None);
    }

    fn put(&self, snapshot: Option<Arc<Snapshot>>) {
        if let Some(before) = self.snapshot.swap(snapshot) {
            self.superseded.keep(&before);
        }
    }
}

impl Core {
    /// Returns what is offered to the client of a request as far as it is known now, without asking any upstream.
    pub(crate) fn snapshot_now(&self, request: &Request) -> Arc<Snapshot> {
        self.known_view(request)
            .and_then(|view| view.snapshot.load_full())
            .unwrap_or_else(|| Arc::clone(&self.graph.load().catalogue))
    }

    /// Returns a snapshot by its generation: the client's, the one that is the same for all, or a superseded one.
    pub(crate) fn snapshot_of(&self, request: &Request, generation: u64) -> Option<Arc<Snapshot>> {
        let base = Arc::clone(&self.graph.load().catalogue);
        let view = self.known_view(request);
        let own = view.as_ref().and_then(|view| view.snapshot.load_full());
        own.into_iter()
            .chain([base])
            .find(|snapshot| snapshot.generation == generation)
            .or_else(|| view?.superseded.find(generation))
            .or_else(|| self.views.superseded.find(generation))
    }

    /// Returns the view of the client of a request, if it has one.
    pub(crate) fn known_view(&self, request: &Request) -> Option<Arc<View>> {
        self.views.known(request)
    }

    /// Returns the view of the client of a request.
    pub(crate) fn view(self: &Arc<Self>, request: &Request) -> Arc<View> {
        let client = Client::of(request);
        let owner = request.principal().partition();
        let (view, is_new) = self.views.insert(client.clone(), owner);
        if let (true, Client::Session(session)) = (is_new, &client) {
            let core = Arc::downgrade(self);
            let removed = client.clone();
            let hook = session.on_close(move || {
                if let Some(core) = core.upgrade() {
                    core.views.remove(&removed);
                }
            });
            hook.keep();
        }
        view
    }

    /// Returns what is offered to the client of a request, asking upstreams where it is not known.
    pub(crate) async fn snapshot(self: &Arc<Self>, request: &Request) -> Arc<Snapshot> {
        let mut graph = self.graph.load_full();
        loop {
            let view = self.known_view(request);
            if view.is_none()
                && graph.is_common
                && graph.catalogue.is_complete()
                && is_bare(request)
            {
                return Arc::clone(&graph.catalogue);
            }
            let listings = graph
                .members()
                .iter()
                .map(|member| self.listing_for(member, request, view.as_deref()));
            let listings = join_all(listings).await;
            let now = self.graph.load_full();
            if graph.has_members_of(&now) {
                return self.composed(&now, listings, request);
            }
            // Upstreams were added or removed meanwhile.
            graph = now;
        }
    }

    /// Returns what some of the upstreams offer the client of a request, asking them where it is not known.
    pub(crate) async fn snapshot_in_part(
        self: &Arc<Self>,
        request: &Request,
        graph: &Graph,
        concerns: impl Fn(&Member) -> bool,
    ) -> Arc<Snapshot> {
        let view = self.known_view(request);
        let view = view.as_deref();
        let concerned = graph.members().iter().filter(|member| concerns(member));
        let sources = concerned.map(|member| async move {
            Source {
                node: Arc::clone(&member.node),
                listing: self.listing_for(member, request, view).await,
            }
        });
        let sources = join_all(sources).await;
        self.views.compose(&graph.naming, &self.info, sources)
    }

    fn composed(
        self: &Arc<Self>,
        graph: &Graph,
        listings: Vec<Option<Arc<Listing>>>,
        request: &Request,
    ) -> Arc<Snapshot> {
        let sources: Vec<_> = graph
            .members()
            .iter()
            .zip(listings)
            .map(|(member, listing)| Source {
                node: Arc::clone(&member.node),
                listing,
            })
            .collect();
        let is_base = sources
            .iter()
            .zip(graph.catalogue.sources())
            .all(|(own, base)| match (&own.listing, &base.listing) {
                (Some(own), Some(base)) => Arc::ptr_eq(own, base),
                (own, base) => own.is_none() && base.is_none(),
            });
        if is_base {
            if let Some(view) = self.known_view(request) {
                view.put(None);
            }
            return Arc::clone(&graph.catalogue);
        }
        let snapshot = self.views.compose(&graph.naming, &self.info, sources);
        let view = self.view(request);
        let current = view.snapshot.load_full();
        if current.is_none_or(|current| !Arc::ptr_eq(&current, &snapshot)) {
            view.put(Some(Arc::clone(&snapshot)));
        }
        snapshot
    }
}

fn is_bare(request: &Request) -> bool {
    ClassKey::of(Lists::Capabilities, request).is_none()
}
