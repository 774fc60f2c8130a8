use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;

use super::{Identity, VerifiedIdentity};

/// The longest time that anything is kept.
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// What was revoked before its time, and which cached verdicts are invalid.
#[derive(Debug, Default)]
pub(super) struct Revoked(ArcSwap<Lists>);

/// The partition of a principal.
type Owner = [u8; 16];

#[derive(Clone, Debug, Default)]
struct Lists {
    /// Ids of credentials, and when they may be forgotten.
    ids: HashMap<Box<str>, SystemTime>,
    /// Principals whose credentials are refused if they were issued up to a time.
    principals: HashMap<Owner, Since>,
    /// Principals whose cached verdicts are invalid if their verification began up to a time.
    again: HashMap<Owner, Since>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    /// Tells one order from the next, whichever process gave it.
    stamp: SystemTime,
    /// The time by the clock of this process.
    time: SystemTime,
    /// When it may be forgotten.
    end: SystemTime,
}

impl Lists {
    fn tidy(&mut self, now: SystemTime) {
        self.ids.retain(|_, until| *until > now);
        self.principals.retain(|_, since| since.end > now);
        self.again.retain(|_, since| since.end > now);
    }
}

/// When something may be forgotten: never later than a clock can show.
fn end(now: SystemTime, keep: Duration) -> SystemTime {
    now + keep.min(LONGEST)
}

impl Revoked {
    fn edit(&self, now: SystemTime, change: impl Fn(&mut Lists)) {
        self.0.rcu(|lists| {
            let mut lists = Lists::clone(lists);
            lists.tidy(now);
            change(&mut lists);
            lists
        });
    }

    pub(super) fn add_id(&self, id: &str, now: SystemTime, keep: Duration) {
        let end = end(now, keep);
        let known = self.0.load().ids.get(id).is_some_and(|own| *own >= end);
        if !known {
            self.edit(now, |lists| {
                lists.ids.insert(id.into(), end);
            });
        }
    }

    /// Refuses what was issued up to a time.
    pub(super) fn add_principal(
        &self,
        owner: Owner,
        time: SystemTime,
        now: SystemTime,
        keep: Duration,
    ) {
        let since = Since {
            stamp: time,
            time,
            end: end(now, keep),
        };
        let lists = self.0.load();
        if lists
            .principals
            .get(&owner)
            .is_some_and(|own| own.time >= time)
        {
            return;
        }
        self.edit(now, |lists| {
            lists.principals.insert(owner, since);
        });
    }

    /// Invalidates the verdicts about a principal's credentials whose verification began up to now.
    pub(super) fn add_again(
        &self,
        owner: Owner,
        stamp: SystemTime,
        now: SystemTime,
        keep: Duration,
    ) {
        let since = Since {
            stamp,
            time: now,
            end: end(now, keep),
        };
        let lists = self.0.load();
        if lists
            .again
            .get(&owner)
            .is_some_and(|own| own.stamp == stamp)
        {
            return;
        }
        self.edit(now, |lists| {
            lists.again.insert(owner, since);
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
                .is_some_and(|since| identity.issued.is_none_or(|issued| issued <= since.time));
        by_id || by_owner
    }

    /// Returns whether a cached verdict is invalid.
    pub(super) fn is_outdated(&self, known: &VerifiedIdentity) -> bool {
        let lists = self.0.load();
        if lists.again.is_empty() {
            return false;
        }
        let owner = known.principal().partition();
        let since = lists.again.get(owner.as_bytes());
        since.is_some_and(|since| known.judged() <= since.time)
    }
}
