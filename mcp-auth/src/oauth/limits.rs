//! How many authorisations may be open at once: tickets and requests lie in the store that tokens lie in, and users, upstreams
//! and browsers without a login decide how many there are.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use mcp_core::Partition;
use tokio::time::Instant;

use super::state::PATIENCE;

/// The largest ticket or request that is kept, in bytes.
pub(super) const MAX_FLOW: usize = 32 << 10;

/// Bounds on authorisations that users have begun and not finished. They end after ten minutes in any case.
///
/// Each is at most 32 KiB in the store, so that the defaults take 128 MiB at most. They hold for one process: replicas that
/// share a store have them each.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AuthorizationLimits {
    /// How many one principal may have open. Beyond it the oldest of the same principal ends. Default is 16.
    pub per_principal: NonZeroUsize,
    /// How many may be open in all. Beyond it the oldest of the principal with the most ends. Default is 4,000.
    pub total: NonZeroUsize,
}

impl Default for AuthorizationLimits {
    fn default() -> Self {
        const fn of(number: usize) -> NonZeroUsize {
            NonZeroUsize::MIN.saturating_add(number - 1)
        }
        Self {
            per_principal: of(16),
            total: of(4000),
        }
    }
}

impl AuthorizationLimits {
    /// Sets how many one principal may have open.
    #[must_use]
    pub const fn with_per_principal(mut self, number: NonZeroUsize) -> Self {
        self.per_principal = number;
        self
    }

    /// Sets how many may be open in all.
    #[must_use]
    pub const fn with_total(mut self, number: NonZeroUsize) -> Self {
        self.total = number;
        self
    }
}

/// The authorisations that are open in this process.
#[derive(Debug)]
pub(super) struct OpenFlows {
    limits: AuthorizationLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_owner: HashMap<Partition, VecDeque<Flow>>,
    count: usize,
}

#[derive(Debug)]
struct Flow {
    kind: &'static str,
    id: String,
    ends: Instant,
}

impl OpenFlows {
    pub(super) fn new(limits: AuthorizationLimits) -> Self {
        Self {
            limits,
            state: Mutex::default(),
        }
    }

    /// Counts a record, and returns those that have to go for it: kind and id.
    pub(super) fn admit(
        &self,
        owner: Partition,
        kind: &'static str,
        id: &str,
        now: Instant,
    ) -> Vec<(&'static str, String)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        state.expire(owner, now);
        while state.number_of(owner) >= self.limits.per_principal.get() {
            ended.extend(state.end_oldest(owner));
        }
        if state.count >= self.limits.total.get() {
            state.expire_all(now);
        }
        while state.count >= self.limits.total.get() {
            let Some(most) = state.with_most() else { break };
            ended.extend(state.end_oldest(most));
        }
        let flow = Flow {
            kind,
            id: id.to_owned(),
            ends: now + PATIENCE,
        };
        state.by_owner.entry(owner).or_default().push_back(flow);
        state.count += 1;
        ended
    }

    /// Counts a record no longer.
    pub(super) fn release(&self, owner: Partition, id: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = state.by_owner.get_mut(&owner) else {
            return;
        };
        let before = own.len();
        own.retain(|flow| flow.id != id);
        let gone = before - own.len();
        if own.is_empty() {
            state.by_owner.remove(&owner);
        }
        state.count -= gone;
    }
}

impl State {
    fn number_of(&self, owner: Partition) -> usize {
        self.by_owner.get(&owner).map_or(0, VecDeque::len)
    }

    fn end_oldest(&mut self, owner: Partition) -> Option<(&'static str, String)> {
        let own = self.by_owner.get_mut(&owner)?;
        let flow = own.pop_front();
        if own.is_empty() {
            self.by_owner.remove(&owner);
        }
        self.count -= usize::from(flow.is_some());
        flow.map(|flow| (flow.kind, flow.id))
    }

    /// Forgets what the store has ended by itself.
    fn expire(&mut self, owner: Partition, now: Instant) {
        let is_over = |own: &VecDeque<Flow>| own.front().is_some_and(|flow| flow.ends <= now);
        while self.by_owner.get(&owner).is_some_and(is_over) {
            self.end_oldest(owner);
        }
    }

    fn expire_all(&mut self, now: Instant) {
        let owners: Vec<_> = self.by_owner.keys().copied().collect();
        for owner in owners {
            self.expire(owner, now);
        }
    }

    /// The principal with the most; of several the one whose oldest is the oldest.
    fn with_most(&self) -> Option<Partition> {
        let rank = |own: &VecDeque<Flow>| {
            let oldest = own.front().map(|flow| std::cmp::Reverse(flow.ends));
            (own.len(), oldest)
        };
        let most = self.by_owner.iter().max_by_key(|(_, own)| rank(own));
        most.map(|(owner, _)| *owner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcp_core::Principal;

    use super::*;

    fn of(name: &str) -> Partition {
        Principal::authenticated("https://as.example", name).partition()
    }

    fn flows(per_principal: usize, total: usize) -> OpenFlows {
        let number = |number| NonZeroUsize::new(number).unwrap();
        let limits = AuthorizationLimits::default()
            .with_per_principal(number(per_principal))
            .with_total(number(total));
        OpenFlows::new(limits)
    }

    #[tokio::test(start_paused = true)]
    async fn one_principal_ends_its_own_and_no_others() {
        let (flows, now) = (flows(2, 100), Instant::now());
        assert!(flows.admit(of("bob"), "ticket", "b", now).is_empty());
        assert!(flows.admit(of("alice"), "ticket", "1", now).is_empty());
        assert!(flows.admit(of("alice"), "state", "2", now).is_empty());
        let ended = flows.admit(of("alice"), "ticket", "3", now);
        assert_eq!(ended, [("ticket", "1".to_owned())]);
        flows.release(of("alice"), "2");
        assert!(flows.admit(of("alice"), "ticket", "4", now).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_most_makes_room_for_the_others() {
        let (flows, now) = (flows(10, 4), Instant::now());
        for id in ["1", "2", "3"] {
            assert!(flows.admit(of("alice"), "ticket", id, now).is_empty());
        }
        assert!(flows.admit(of("bob"), "ticket", "b", now).is_empty());
        let ended = flows.admit(of("carol"), "ticket", "c", now);
        assert_eq!(ended, [("ticket", "1".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_by_its_time_is_not_counted() {
        let (flows, now) = (flows(2, 2), Instant::now());
        for owner in ["alice", "bob"] {
            assert!(flows.admit(of(owner), "ticket", owner, now).is_empty());
        }
        let later = now + PATIENCE + Duration::from_secs(1);
        assert!(flows.admit(of("carol"), "ticket", "c", later).is_empty());
        assert!(flows.admit(of("carol"), "ticket", "d", later).is_empty());
        assert_eq!(flows.admit(of("dave"), "ticket", "e", later).len(), 1);
    }
}
