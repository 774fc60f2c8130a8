//! What one client is offered.
//!
//! Upstreams of the session era may offer each session something else, by its capabilities or by what it has done.
//! A client's view is composed of what every upstream offers *it*; views that say the same share one snapshot.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use mcp_core::{Error, Partition, Request, SessionKey};
use tokio::{sync::Mutex as AsyncMutex, time::timeout};

use super::Core;
use crate::catalogue::{self, Listing, Snapshot, Source};

/// How many views of clients without a session are kept.
const KEPT: usize = 4096;

/// All views of a gateway.
#[derive(Default)]
pub(crate) struct Views {
    by_client: RwLock<HashMap<Client, Arc<View>>>,
    /// Counts looks at views, to tell which was used last.
    looks: AtomicU64,
    /// Snapshots by the listings that they were composed of.
    composed: Mutex<Vec<(Vec<usize>, Weak<Snapshot>)>>,
    generation: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    Session(SessionKey),
    Principal(Partition),
}

/// What one client is offered.
#[derive(Default)]
pub(crate) struct View {
    /// The look at which it was used last.
    used: AtomicU64,
    snapshot: ArcSwapOption<Snapshot>,
    /// Held while the view is composed. Callers that come meanwhile wait.
    composing: AsyncMutex<Vec<Slot>>,
    /// Upstreams whose lists have changed since they were read for this view.
    changed: Mutex<Vec<bool>>,
}

/// What an upstream offers to one client.
#[derive(Clone, Default)]
struct Slot(Option<Arc<Listing>>);

impl Views {
    /// Returns the view of the client of a request, if it has one already.
    fn known(&self, client: &Client) -> Option<Arc<View>> {
        let views = self
            .by_client
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let view = views.get(client)?;
        self.touch(view);
        Some(Arc::clone(view))
    }

    fn insert(&self, client: Client) -> Arc<View> {
        let mut views = self
            .by_client
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if matches!(client, Client::Principal(_)) && !views.contains_key(&client) {
            forget_oldest(&mut views);
        }
        let view = Arc::clone(views.entry(client).or_default());
        self.touch(&view);
        view
    }

    fn touch(&self, view: &View) {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        view.used.store(look, Ordering::Relaxed);
    }

    fn remove(&self, client: &Client) {
        self.by_client
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(client);
    }

    /// Composes a snapshot, or finds the one that was composed of the same listings.
    pub(crate) fn compose(&self, core: &Core, listings: &[Option<Arc<Listing>>]) -> Arc<Snapshot> {
        let key: Vec<_> = listings
            .iter()
            .map(|listing| listing.as_ref().map_or(0, |own| Arc::as_ptr(own) as usize))
            .collect();
        let mut composed = self.composed.lock().unwrap_or_else(PoisonError::into_inner);
        composed.retain(|(_, snapshot)| snapshot.strong_count() > 0);
        let same = composed
            .iter()
            .find(|(known, _)| *known == key)
            .and_then(|(_, snapshot)| snapshot.upgrade());
        if let Some(same) = same {
            return same;
        }
        let sources = core
            .upstreams
            .iter()
            .zip(listings)
            .map(|(upstream, listing)| Source {
                id: upstream.id.clone(),
                listing: listing.clone(),
            })
            .collect();
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let snapshot = Arc::new(Snapshot::compose(sources, &*core.naming, generation));
        composed.push((key, Arc::downgrade(&snapshot)));
        snapshot
    }
}

/// Makes room for the view of a client without a session: once [`KEPT`] are there, the eighth that was not used for
/// longest goes. They are composed again when they are needed.
fn forget_oldest(views: &mut HashMap<Client, Arc<View>>) {
    if views.len() < KEPT {
        return;
    }
    let mut used: Vec<_> = views
        .iter()
        .filter(|(client, _)| matches!(client, Client::Principal(_)))
        .map(|(_, view)| view.used.load(Ordering::Relaxed))
        .collect();
    if used.len() < KEPT {
        return;
    }
    let (_, oldest, _) = used.select_nth_unstable(KEPT / 8);
    let oldest = *oldest;
    views.retain(|client, view| {
        matches!(client, Client::Session(_)) || view.used.load(Ordering::Relaxed) >= oldest
    });
}

impl Core {
    /// Whether an upstream offers the client of a request what it offers everybody.
    pub(crate) fn is_shared(&self, upstream: usize, request: &Request) -> bool {
        self.upstreams[upstream].shared_lists.cover(request.era())
    }

    /// Returns what is offered to the client of a request as far as it is known now, without asking anybody.
    pub(crate) fn snapshot_now(&self, request: &Request) -> Arc<Snapshot> {
        self.known_view(request)
            .and_then(|view| view.snapshot.load_full())
            .unwrap_or_else(|| self.base.load_full())
    }

    /// Returns the view of the client of a request, if it has one already.
    pub(crate) fn known_view(&self, request: &Request) -> Option<Arc<View>> {
        self.views.known(&client(request)?)
    }

    /// Returns the view of the client of a request.
    pub(crate) fn view(self: &Arc<Self>, request: &Request) -> Option<Arc<View>> {
        let client = client(request)?;
        if let Some(view) = self.views.known(&client) {
            return Some(view);
        }
        let view = self.views.insert(client.clone());
        if let Client::Session(session) = &client {
            let (session, core) = (session.clone(), Arc::downgrade(self));
            tokio::spawn(async move {
                session.closed().await;
                if let Some(core) = core.upgrade() {
                    core.views.remove(&client);
                }
            });
        }
        Some(view)
    }

    /// Returns what is offered to the client of a request, asking upstreams where it is not known.
    pub(crate) async fn snapshot(self: &Arc<Self>, request: &Request) -> Arc<Snapshot> {
        let all_shared = (0..self.upstreams.len()).all(|index| self.is_shared(index, request));
        let view = match all_shared {
            true => None,
            false => self.view(request),
        };
        let Some(view) = view else {
            self.wait_for_base().await;
            return self.base.load_full();
        };
        if let Some(snapshot) = view.current(self, request) {
            return snapshot;
        }
        view.compose(self, request).await
    }

    /// Waits until each upstream has been listed once or has failed to, at most the time it is given.
    async fn wait_for_base(&self) {
        let longest = self
            .upstreams
            .iter()
            .map(|upstream| upstream.list_timeout)
            .max()
            .unwrap_or_default();
        // Those that are not there by then are left out, and reported.
        let _ = timeout(longest, self.board.settled()).await;
    }
}

fn client(request: &Request) -> Option<Client> {
    match request.session() {
        Some(session) => Some(Client::Session(session.clone())),
        None => Some(Client::Principal(request.principal().partition())),
    }
}

impl View {
    /// Takes note that an upstream no longer offers this client what it did.
    pub(crate) fn invalidate(&self, upstream: usize) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.len() <= upstream {
            changed.resize(upstream + 1, false);
        }
        changed[upstream] = true;
        self.snapshot.store(None);
    }

    /// Returns the snapshot unless something has changed since it was composed.
    fn current(&self, core: &Core, request: &Request) -> Option<Arc<Snapshot>> {
        let snapshot = self.snapshot.load_full()?;
        let base = core.base.load();
        let same = |(index, source): (usize, &Source)| {
            let known = base
                .sources()
                .get(index)
                .and_then(|own| own.listing.as_ref());
            !core.is_shared(index, request)
                || match (&source.listing, known) {
                    (Some(own), Some(known)) => Arc::ptr_eq(own, known),
                    (None, None) => true,
                    _ => false,
                }
        };
        let complete = snapshot
            .sources()
            .iter()
            .enumerate()
            .all(|(index, source)| source.listing.is_some() || core.board.is_away(index));
        let fresh = snapshot.sources().iter().enumerate().all(same);
        (complete && fresh).then_some(snapshot)
    }

    async fn compose(&self, core: &Arc<Core>, request: &Request) -> Arc<Snapshot> {
        let mut slots = self.composing.lock().await;
        if let Some(snapshot) = self.current(core, request) {
            return snapshot;
        }
        slots.resize(core.upstreams.len(), Slot::default());
        let changed =
            std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        for (slot, _) in slots
            .iter_mut()
            .zip(changed)
            .filter(|(_, changed)| *changed)
        {
            slot.0 = None;
        }
        let facts = request.clone().without_call();
        let listings = slots.iter().enumerate().map(|(index, slot)| {
            let facts = &facts;
            async move {
                match (core.is_shared(index, facts), &slot.0) {
                    (true, _) => (core.shared_listing(index).await, true),
                    (false, Some(known)) => (Some(Arc::clone(known)), true),
                    (false, None) => match core.own_listing(index, facts).await {
                        Ok(own) => (Some(own), true),
                        // What is offered to everybody is a better answer than nothing, until the next look.
                        Err(_) => (core.base_listing(index), false),
                    },
                }
            }
        });
        let listings = join_all(listings).await;
        let all_own = listings.iter().all(|(_, own)| *own);
        for (slot, (listing, own)) in slots.iter_mut().zip(&listings) {
            slot.0 = listing.clone().filter(|_| *own);
        }
        let listings: Vec<_> = listings.into_iter().map(|(listing, _)| listing).collect();
        let snapshot = core.views.compose(core, &listings);
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        // What changed while it was listed makes it good for this one caller only.
        if all_own && !changed.contains(&true) {
            self.snapshot.store(Some(Arc::clone(&snapshot)));
        }
        drop(changed);
        snapshot
    }
}

impl Core {
    /// Returns what an upstream has listed for the gateway itself.
    fn base_listing(&self, index: usize) -> Option<Arc<Listing>> {
        let base = self.base.load();
        base.sources().get(index)?.listing.clone()
    }

    /// Returns what an upstream offers everybody, waiting for the first listing.
    async fn shared_listing(&self, index: usize) -> Option<Arc<Listing>> {
        if let Some(listing) = self.base_listing(index) {
            return Some(listing);
        }
        let wait = self.board.settled_one(index);
        let _ = timeout(self.upstreams[index].list_timeout, wait).await;
        self.base_listing(index)
    }

    /// Asks an upstream what it offers the client of a request.
    async fn own_listing(&self, index: usize, facts: &Request) -> Result<Arc<Listing>, Error> {
        // One that is known to be away is not waited for.
        let longest = match self.board.is_away(index) {
            true => Duration::from_millis(500),
            false => self.upstreams[index].list_timeout,
        };
        let fetch = catalogue::fetch(&self.upstreams[index].service, facts, longest);
        let listing = timeout(longest, fetch).await.unwrap_or_else(|_| {
            Err(Error::new(
                mcp_core::ErrorKind::Timeout,
                "the upstream did not list in time",
            ))
        });
        match listing {
            Ok(listing) => Ok(self.interner.intern(listing)),
            Err(error) => {
                tracing::debug!(upstream = %self.upstreams[index].id, %error, "not listed");
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::Principal;

    use super::*;

    fn client(number: usize) -> Client {
        Client::Principal(Principal::authenticated("i", &number.to_string()).partition())
    }

    #[test]
    fn the_views_that_were_not_used_for_longest_make_room() {
        let views = Views::default();
        let session = Client::Session(SessionKey::new("s"));
        views.insert(session.clone());
        for number in 0..KEPT {
            views.insert(client(number));
        }
        assert!(views.known(&client(0)).is_some(), "and is now the youngest");
        views.insert(client(KEPT));
        let kept = |client| views.known(&client).is_some();
        assert!(kept(session) && kept(client(0)) && kept(client(KEPT)) && kept(client(KEPT - 1)));
        assert!(!kept(client(1)) && !kept(client(KEPT / 8)));
        assert!(kept(client(KEPT / 8 + 1)));
    }
}
