use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use super::Identity;

/// The longest time that an id is kept.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// What the operator has revoked before its time.
#[derive(Debug, Default)]
pub(super) struct Revoked(ArcSwap<Lists>);

#[derive(Clone, Debug, Default)]
struct Lists {
    /// Ids of credentials, and when they may be forgotten.
    ids: HashMap<Box<str>, SystemTime>,
    /// Principals, and until when their credentials must have been issued to be refused.
    principals: HashMap<[u8; 16], SystemTime>,
}

impl Revoked {
    pub(super) fn add_id(&self, id: &str, now: SystemTime, keep: Duration) {
        // Longer than any credential lives, and never more than a clock can show.
        let keep = keep.min(LONGEST);
        if self
            .0
            .load()
            .ids
            .get(id)
            .is_some_and(|until| *until >= now + keep)
        {
            return;
        }
        self.0.rcu(|lists| {
            let mut lists = Lists::clone(lists);
            lists.ids.retain(|_, until| *until > now);
            lists.ids.insert(id.into(), now + keep);
            Arc::new(lists)
        });
    }

    /// Refuses what was issued up to a time.
    pub(super) fn add_principal(&self, owner: [u8; 16], until: SystemTime) {
        if self
            .0
            .load()
            .principals
            .get(&owner)
            .is_some_and(|own| *own >= until)
        {
            return;
        }
        self.0.rcu(|lists| {
            let mut lists = Lists::clone(lists);
            lists.principals.insert(owner, until);
            Arc::new(lists)
        });
    }

    pub(super) fn covers(&self, identity: &Identity) -> bool {
        let lists = self.0.load();
        let by_id = !lists.ids.is_empty()
            && identity
                .id
                .as_ref()
                .is_some_and(|id| lists.ids.contains_key(id));
        let by_owner = !lists.principals.is_empty()
            && lists
                .principals
                .get(identity.principal.partition().as_bytes())
                // A credential that does not say when it was issued may be an old one.
                .is_some_and(|until| identity.issued.is_none_or(|issued| issued <= *until));
        by_id || by_owner
    }
}
