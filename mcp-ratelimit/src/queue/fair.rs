//! Who is next: a queue that is fair between owners and keeps priorities without starving anybody.

use std::collections::{HashMap, VecDeque};

use mcp_core::Partition;

use super::Priority;

/// Turns that each priority has in one round.
const TURNS: [u32; 3] = [8, 4, 1];

#[derive(Debug, Default)]
struct Lane {
    /// Owners that have something queued, the next one first.
    owners: VecDeque<Partition>,
    queued: HashMap<Partition, VecDeque<u64>>,
    turns: u32,
}

#[derive(Debug, Default)]
pub(super) struct FairQueue {
    lanes: [Lane; 3],
    len: usize,
}

impl FairQueue {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, priority: Priority, owner: Partition, id: u64) {
        let lane = &mut self.lanes[priority as usize];
        let queued = lane.queued.entry(owner).or_default();
        if queued.is_empty() {
            lane.owners.push_back(owner);
        }
        queued.push_back(id);
        self.len += 1;
    }

    /// Takes the next one: of the highest priority that has turns left in this round, of the owner whose last
    /// turn is longest ago.
    pub(super) fn pop(&mut self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        if self
            .lanes
            .iter()
            .all(|lane| lane.owners.is_empty() || lane.turns == 0)
        {
            for (lane, turns) in self.lanes.iter_mut().zip(TURNS) {
                lane.turns = turns;
            }
        }
        let lane = self
            .lanes
            .iter_mut()
            .find(|lane| !lane.owners.is_empty() && lane.turns > 0)?;
        lane.turns -= 1;
        let owner = lane.owners.pop_front()?;
        let queued = lane.queued.get_mut(&owner)?;
        let id = queued.pop_front()?;
        if queued.is_empty() {
            lane.queued.remove(&owner);
        } else {
            lane.owners.push_back(owner);
        }
        self.len -= 1;
        Some(id)
    }

    pub(super) fn remove(&mut self, priority: Priority, owner: Partition, id: u64) {
        let lane = &mut self.lanes[priority as usize];
        let Some(queued) = lane.queued.get_mut(&owner) else {
            return;
        };
        let before = queued.len();
        queued.retain(|queued| *queued != id);
        self.len -= before - queued.len();
        if queued.is_empty() {
            lane.queued.remove(&owner);
            lane.owners.retain(|queued| *queued != owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcp_core::Principal;
    use proptest::prelude::*;

    fn owner(n: u8) -> Partition {
        Partition::of(&Principal::authenticated("i", &n.to_string()))
    }

    proptest! {
        /// Whoever has k calls queued in a priority gets the last of them after at most k turns of each other
        /// owner, however much those have queued; nothing is lost, and each owner's calls keep their order.
        #[test]
        fn fair_between_owners(pushes in proptest::collection::vec(0u8..5, 1..200)) {
            let mut queue = FairQueue::default();
            let mut last: HashMap<u8, (u64, usize)> = HashMap::new();
            for (id, who) in pushes.iter().enumerate() {
                queue.push(Priority::Normal, owner(*who), id as u64);
                let entry = last.entry(*who).or_default();
                *entry = (id as u64, entry.1 + 1);
            }
            let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(order.len(), pushes.len());
            prop_assert_eq!(queue.len(), 0);
            for (who, (id, count)) in &last {
                let turn = order.iter().position(|found| found == id).unwrap();
                prop_assert!(turn < count * last.len(), "{who}: {turn}");
                let own: Vec<_> = order.iter().filter(|id| pushes[**id as usize] == *who).collect();
                prop_assert!(own.is_sorted());
            }
        }

        /// No priority starves: of any thirteen turns in a row, the lowest has one.
        #[test]
        fn priorities_do_not_starve(high in 0usize..100, normal in 0usize..100, low in 1usize..20) {
            let mut queue = FairQueue::default();
            for n in 0..high { queue.push(Priority::High, owner(1), n as u64); }
            for n in 0..normal { queue.push(Priority::Normal, owner(1), 1000 + n as u64); }
            for n in 0..low { queue.push(Priority::Low, owner(1), 2000 + n as u64); }
            let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(order.len(), high + normal + low);
            let lows: Vec<_> = order.iter().enumerate().filter(|(_, id)| **id >= 2000).map(|(at, _)| at).collect();
            prop_assert!(lows[0] < 13 && lows.windows(2).all(|pair| pair[1] - pair[0] <= 13));
        }

        #[test]
        fn removal_leaves_the_rest(pushes in proptest::collection::vec((0u8..3, any::<bool>()), 1..60)) {
            let mut queue = FairQueue::default();
            for (id, (who, _)) in pushes.iter().enumerate() { queue.push(Priority::Normal, owner(*who), id as u64); }
            for (id, (who, gone)) in pushes.iter().enumerate() {
                if *gone { queue.remove(Priority::Normal, owner(*who), id as u64); }
            }
            let mut order: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
            order.sort_unstable();
            let kept: Vec<u64> = pushes.iter().enumerate().filter(|(_, (_, gone))| !gone).map(|(id, _)| id as u64).collect();
            prop_assert_eq!(order, kept);
        }
    }
}
