use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use mcp_core::Partition;

use super::Identity;

/// What the operator has revoked before its time.
#[derive(Debug, Default)]
pub(super) struct Revoked(ArcSwap<Lists>);

#[derive(Clone, Debug, Default)]
struct Lists {
    /// Ids of credentials, and when they may be forgotten.
    ids: HashMap<Box<str>, SystemTime>,
    /// Principals, and until when their credentials must have been issued to be refused.
    principals: HashMap<Partition, SystemTime>,
}

impl Revoked {
    pub(super) fn add_id(&self, id: &str, now: SystemTime, keep: Duration) {
        self.0.rcu(|lists| {
            let mut lists = Lists::clone(lists);
            lists.ids.retain(|_, until| *until > now);
            lists.ids.insert(id.into(), now + keep);
            Arc::new(lists)
        });
    }

    pub(super) fn add_principal(&self, owner: Partition, now: SystemTime) {
        self.0.rcu(|lists| {
            let mut lists = Lists::clone(lists);
            lists.principals.insert(owner, now);
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
                .get(&identity.principal.partition())
                // A credential that does not say when it was issued may be an old one.
                .is_some_and(|until| identity.issued.is_none_or(|issued| issued <= *until));
        by_id || by_owner
    }
}
