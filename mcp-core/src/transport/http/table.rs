//! All sessions of a transport.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};

use http::StatusCode;
use tokio::time::{Duration, Instant, interval};

use super::session::HttpSession;
use crate::{
    Bounds, Error, ErrorKind, Partition, Principal, PrincipalKind, Timing,
    transport::lifecycle::Lifecycle,
};

/// How many sessions of one owner are looked at for the one that has been idle longest.
const LOOKED_AT: usize = 64;

/// The network address that a request came from, for limits on clients without a credential.
///
/// Put it into the extensions of the HTTP request: the server of this crate (`mcp_core::serve`) does, and behind a proxy
/// a layer of your own can, from a header that the proxy sets. Without it clients without a credential share one
/// limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "an address and nothing else")]
pub struct PeerAddr(pub IpAddr);

/// Whose session it is, for limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The user who started the process, who may fill the whole table.
    Local,
    Principal(Partition),
    /// A client without a credential: an IPv4 address, or the network (/64) of an IPv6 address.
    Peer(IpAddr),
    /// A client without a credential whose address is not known.
    Unknown,
}

impl Owner {
    pub(super) fn new(principal: &Principal, peer: Option<PeerAddr>) -> Self {
        match (principal.kind(), peer) {
            (PrincipalKind::Local, _) => Self::Local,
            (PrincipalKind::Authenticated, _) => Self::Principal(principal.partition()),
            (_, Some(PeerAddr(address))) => Self::Peer(network(address)),
            (_, None) => Self::Unknown,
        }
    }
}

/// One client commonly has a whole /64 of IPv6 addresses.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            std::net::Ipv6Addr::from_bits(network).into()
        }
    }
}

/// Sessions by the id that the client sends, and by their owners.
pub(super) struct SessionTable {
    tables: RwLock<Tables>,
    sweeper: OnceLock<()>,
    most: usize,
    most_each: usize,
    idle: Duration,
    replay: Duration,
}

#[derive(Default)]
struct Tables {
    by_id: HashMap<Box<str>, Entry>,
    /// The sessions of each owner in the order in which they were opened, or found not to be idle.
    owners: HashMap<Owner, BTreeMap<u64, Box<str>>>,
    next: u64,
}

struct Entry {
    session: Arc<HttpSession>,
    owner: Owner,
    place: u64,
}

impl SessionTable {
    pub(super) fn new(timing: &Timing, bounds: &Bounds) -> Arc<Self> {
        Arc::new(Self {
            tables: RwLock::default(),
            sweeper: OnceLock::new(),
            most: bounds.sessions.get(),
            most_each: bounds.sessions_per_principal.get(),
            idle: timing.session_idle,
            replay: timing.replay,
        })
    }

    /// Makes an id that cannot be guessed: 128 random bits.
    pub(super) fn new_id() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session. Where its owner has too many, ends the one of them that has been idle longest; where there are
    /// too many in all, that of the owner with most.
    pub(super) fn insert(
        self: &Arc<Self>,
        id: &str,
        owner: Owner,
        session: Arc<HttpSession>,
        lifecycle: &Lifecycle,
    ) -> Result<(), Error> {
        self.sweeper.get_or_init(|| self.start_sweeper(lifecycle));
        let mut tables = self.write();
        let mut ended = None;
        if owner != Owner::Local && tables.count(&owner) >= self.most_each {
            ended = Some(tables.evict(&owner).ok_or_else(|| {
                full("too many sessions of this client are open and none is idle; end one first")
            })?);
        } else if tables.by_id.len() >= self.most {
            ended = Some(tables.evict_from_most().ok_or_else(|| {
                full("too many sessions are open and none is idle; try again later")
            })?);
        }
        tables.add(id, owner, session);
        drop(tables);
        if let Some(ended) = ended {
            ended.close();
        }
        Ok(())
    }

    /// Finds a session of this owner. That of another principal is not found.
    pub(super) fn find(&self, id: &str, owner: Option<Partition>) -> Option<Arc<HttpSession>> {
        let tables = self.read();
        let session = &tables.by_id.get(id)?.session;
        let opener = &session.session.principal;
        let theirs = match owner {
            Some(owner) => owner == opener.partition(),
            // A request without a credential belongs to no principal, whatever id it knows.
            None => opener.kind() != PrincipalKind::Authenticated,
        };
        if !theirs {
            return None;
        }
        session.touch();
        Some(Arc::clone(session))
    }

    /// Ends a session.
    pub(super) fn remove(&self, id: &str) {
        let removed = self.write().remove(id);
        if let Some(session) = removed {
            session.close();
        }
    }

    /// Returns how many sessions are open.
    pub(super) fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Ends the streams of all sessions, which stay open.
    pub(super) fn end_streams(&self) {
        let all: Vec<_> = self.all();
        for session in all {
            session.end_streams();
        }
    }

    fn all(&self) -> Vec<Arc<HttpSession>> {
        let tables = self.read();
        let sessions = tables.by_id.values();
        sessions.map(|entry| Arc::clone(&entry.session)).collect()
    }

    /// Ends all sessions.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.write());
        for entry in all.by_id.into_values() {
            entry.session.close();
        }
    }

    fn start_sweeper(self: &Arc<Self>, lifecycle: &Lifecycle) {
        let every = (self.idle / 4)
            .min(self.replay / 2)
            .clamp(Duration::from_millis(250), Duration::from_secs(15));
        let table = Arc::downgrade(self);
        lifecycle.spawn(sweep(table, every));
    }

    /// Ends idle sessions and lets go of finished streams.
    fn sweep(&self) {
        let now = Instant::now();
        let over = |session: &HttpSession| {
            let idle = session.idle_since();
            idle.is_some_and(|since| now.saturating_duration_since(since) > self.idle)
        };
        let mut any = false;
        for entry in self.read().by_id.values() {
            entry.session.sweep(now, self.replay);
            any |= over(&entry.session);
        }
        if !any {
            return;
        }
        let ended: Vec<_> = {
            let mut tables = self.write();
            let ids: Vec<_> = tables
                .by_id
                .iter()
                .filter(|(_, entry)| over(&entry.session))
                .map(|(id, _)| id.clone())
                .collect();
            ids.iter().filter_map(|id| tables.remove(id)).collect()
        };
        for session in ended {
            session.close();
        }
    }
}

impl Drop for SessionTable {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Tables {
    fn add(&mut self, id: &str, owner: Owner, session: Arc<HttpSession>) {
        let place = self.place(owner, id.into());
        let entry = Entry {
            session,
            owner,
            place,
        };
        self.by_id.insert(id.into(), entry);
    }

    /// Gives a session the last place of its owner.
    fn place(&mut self, owner: Owner, id: Box<str>) -> u64 {
        let place = self.next;
        self.next += 1;
        self.owners.entry(owner).or_default().insert(place, id);
        place
    }

    fn count(&self, owner: &Owner) -> usize {
        self.owners.get(owner).map_or(0, BTreeMap::len)
    }

    fn remove(&mut self, id: &str) -> Option<Arc<HttpSession>> {
        let entry = self.by_id.remove(id)?;
        if let Some(places) = self.owners.get_mut(&entry.owner) {
            places.remove(&entry.place);
            if places.is_empty() {
                self.owners.remove(&entry.owner);
            }
        }
        Some(entry.session)
    }

    /// Removes the session of an owner that has been idle longest: of those that were opened first, so that a full table
    /// costs no scan of all.
    fn evict(&mut self, owner: &Owner) -> Option<Arc<HttpSession>> {
        let places = self.owners.get(owner)?;
        let mut busy = Vec::new();
        let mut oldest: Option<(Instant, Box<str>)> = None;
        let mut looked_at = 0;
        for (place, id) in places {
            let Some(since) = self.by_id.get(id).and_then(|own| own.session.idle_since()) else {
                busy.push((*place, id.clone()));
                continue;
            };
            if oldest.as_ref().is_none_or(|(earlier, _)| since < *earlier) {
                oldest = Some((since, id.clone()));
            }
            looked_at += 1;
            if looked_at == LOOKED_AT {
                break;
            }
        }
        let (_, oldest) = oldest?;
        // The next search begins behind those that were busy.
        for (place, id) in busy {
            if let Some(places) = self.owners.get_mut(owner) {
                places.remove(&place);
            }
            let place = self.place(*owner, id.clone());
            if let Some(entry) = self.by_id.get_mut(&id) {
                entry.place = place;
            }
        }
        self.remove(&oldest)
    }

    /// Removes an idle session of the owner with most; where none of its sessions is idle, of the owner with most after
    /// it.
    fn evict_from_most(&mut self) -> Option<Arc<HttpSession>> {
        let mut owners: Vec<_> = self
            .owners
            .iter()
            .map(|(owner, places)| (places.len(), *owner))
            .collect();
        owners.sort_unstable_by(|a, b| b.cmp(a));
        owners.iter().find_map(|(_, owner)| self.evict(owner))
    }
}

fn full(message: &'static str) -> Error {
    Error::new(ErrorKind::Overloaded, message).with_status(StatusCode::SERVICE_UNAVAILABLE)
}

/// Sweeps for as long as the transport exists.
async fn sweep(table: Weak<SessionTable>, every: Duration) {
    let mut tick = interval(every);
    loop {
        tick.tick().await;
        let Some(table) = table.upgrade() else {
            return;
        };
        table.sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_without_a_credential_count_by_their_network() {
        let owner = |address: &str| {
            let peer = PeerAddr(address.parse().unwrap());
            Owner::new(&Principal::anonymous(), Some(peer))
        };
        assert_eq!(owner("2001:db8::1"), owner("2001:db8::ffff:1"));
        assert_ne!(owner("2001:db8::1"), owner("2001:db8:0:1::1"));
        assert_ne!(owner("192.0.2.1"), owner("192.0.2.2"));
        assert_eq!(owner("::ffff:192.0.2.1"), owner("192.0.2.1"));
        let alice = Principal::authenticated("i", "alice");
        let peer = Some(PeerAddr("192.0.2.1".parse().unwrap()));
        assert_eq!(Owner::new(&alice, peer), Owner::new(&alice, None));
    }
}
