//! What one upstream offers one client.

use std::{sync::Arc, time::Duration};

use mcp_core::{Error, ErrorKind, Request};
use tokio::time::timeout;

use super::{
    classes::{ClassKey, Outcome, Reading},
    core::Core,
    events::Signal,
    member::Member,
    view::{View, key_of},
    watch,
};
use crate::{
    catalogue::{self, Listing},
    node::Lists,
};

/// How long a client waits for the lists of its class where there are others to answer with.
const CLASS_PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    /// Returns what an upstream offers the client of a request.
    pub(super) async fn listing_for(
        self: &Arc<Self>,
        member: &Arc<Member>,
        request: &Request,
        view: Option<&View>,
    ) -> Option<Arc<Listing>> {
        let lists = member.node.sharing.lists;
        if !request.visibility().allows_upstream(&member.node.id) {
            // Its entries are hidden too: it is neither asked for this client nor waited for.
            return member.listing().filter(|_| lists != Lists::Principal);
        }
        if let Some(own) = self.own_listing(member, request, view).await {
            return Some(own);
        }
        let Some(key) = ClassKey::of(lists, request) else {
            return base_listing(member).await;
        };
        let (mut class, reading) = member.classes.enter(key);
        if let Some(reading) = reading {
            self.read_class(member, key, request, reading);
        }
        // A credential of the principal goes there: what others are offered is none of its business.
        let fallback = || member.listing().filter(|_| lists != Lists::Principal);
        let patience = match fallback() {
            Some(_) => CLASS_PATIENCE.min(member.node.timing.list),
            None => member.node.timing.list,
        };
        class.listed(patience).await.or_else(fallback)
    }

    /// Returns why an upstream offers the client of a request nothing.
    pub(crate) fn refusal(member: &Member, request: &Request) -> Option<Error> {
        let key = ClassKey::of(member.node.sharing.lists, request);
        let own = key.and_then(|key| member.classes.refusal(key));
        // What was said to the gateway itself, such as where to consent, is not for its clients.
        let general = || {
            member
                .status()
                .error
                .filter(|error| error.consent().is_none())
        };
        own.or_else(general)
    }

    /// Returns what an upstream offers a session of the client's own, where that session has announced that it changed.
    async fn own_listing(
        &self,
        member: &Arc<Member>,
        request: &Request,
        view: Option<&View>,
    ) -> Option<Arc<Listing>> {
        let view = view?;
        let key = key_of(&member.node);
        let known = view.own().get(&key).cloned();
        match known {
            // The session is not known to differ.
            None => return None,
            Some(Some(listing)) => return Some(listing),
            Some(None) => {}
        }
        // What is announced while it is read marks it as stale again.
        view.own().remove(&key);
        let context = request.clone().without_call();
        let list = member.node.timing.list;
        let service = member.node.service();
        let fetch = catalogue::fetch(&service, &context, list);
        match timeout(2 * list, fetch).await {
            Ok(Ok(listing)) => {
                let listing = self.interner.intern(listing);
                let mut own = view.own();
                own.entry(key).or_insert_with(|| Some(Arc::clone(&listing)));
                Some(listing)
            }
            failed => {
                tracing::debug!(upstream = %member.node.id, ?failed, "a session's own lists cannot be read");
                view.own().entry(key).or_insert(None);
                None
            }
        }
    }

    /// Reads the lists of a class through its first client, in the background.
    fn read_class(
        self: &Arc<Self>,
        member: &Arc<Member>,
        key: ClassKey,
        request: &Request,
        reading: Reading,
    ) {
        let (core, member) = (Arc::clone(self), Arc::clone(member));
        let context = request.clone().without_call();
        self.tasks.spawn(async move {
            let timing = &member.node.timing;
            let service = member.node.service();
            let fetch = catalogue::fetch(&service, &context, timing.list);
            let reading_it = timeout(timing.start + 2 * timing.list, fetch);
            let Some(read) = member.leaving.run_until_cancelled(reading_it).await else {
                return;
            };
            let late = || {
                let text = "the lists were not read in time";
                Error::new(ErrorKind::Timeout, text)
            };
            let listing = match read.unwrap_or_else(|_| Err(late())) {
                Ok(listing) => core.interner.intern(listing),
                Err(error) => {
                    tracing::debug!(upstream = %member.node.id, %error, "the lists of a class cannot be read");
                    reading.send_replace(match watch::wants_user(&error) {
                        true => Outcome::Unauthorized(error),
                        false => Outcome::Failed,
                    });
                    return;
                }
            };
            let base = member.listing();
            let changed = listing.changed_since(base.as_deref());
            reading.send_replace(Outcome::Listed(listing));
            // Clients of the class that did not wait have been answered with what others are offered.
            if !changed.is_empty() {
                let kinds = changed.into_iter().collect();
                let signal = Signal::Class(member.node.id.clone(), key, kinds);
                core.events.signal(signal);
            }
        });
    }
}

/// Returns what an upstream offers everyone, waiting for its first listing.
async fn base_listing(member: &Member) -> Option<Arc<Listing>> {
    if let Some(listing) = member.listing() {
        return Some(listing);
    }
    // One that does not list by then is left out, and reported.
    let _ = timeout(member.patience(), member.settled()).await;
    member.listing()
}
