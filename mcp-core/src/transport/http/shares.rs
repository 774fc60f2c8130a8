use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts what each of several parties holds, none more than a bound.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    held: Mutex<HashMap<K, usize>>,
    most_each: usize,
}

/// What a party holds until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Hash + Eq> {
    shares: Arc<Shares<K>>,
    /// Taken out when it is given back.
    party: Option<K>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    pub(crate) fn new(most_each: usize) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            most_each,
        })
    }

    /// Takes one more for a party; `None` where it holds all that it may.
    pub(crate) fn take(self: &Arc<Self>, party: K) -> Option<Share<K>> {
        let mut held = self.lock();
        let count = held.entry(party.clone()).or_default();
        if *count >= self.most_each {
            return None;
        }
        *count += 1;
        Some(Share {
            shares: Arc::clone(self),
            party: Some(party),
        })
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let Some(party) = self.party.take() else {
            return;
        };
        let mut held = self.shares.lock();
        if let Some(count) = held.get_mut(&party) {
            *count -= 1;
            if *count == 0 {
                held.remove(&party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_party_has_its_own_share_and_what_is_dropped_is_given_back() {
        let shares = Shares::new(2);
        let first = shares.take("mallory").unwrap();
        let _second = shares.take("mallory").unwrap();
        assert!(shares.take("mallory").is_none());
        let alice = shares.take("alice").unwrap();
        drop(first);
        assert!(shares.take("mallory").is_some());
        drop(alice);
        assert_eq!(shares.lock().len(), 1, "who holds nothing costs nothing");
    }
}
