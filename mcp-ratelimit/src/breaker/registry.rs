use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use mcp_core::clock::{Clock, SystemClock};

use super::{Breaker, BreakerConfig};

const DEFAULT_MOST: usize = 10_000;

/// Breakers by name, made when first asked for; clones share them.
#[derive(Clone)]
pub struct BreakerRegistry(Arc<Inner>);

struct Inner {
    config: BreakerConfig,
    clock: Arc<dyn Clock>,
    breakers: RwLock<BTreeMap<Box<str>, Breaker>>,
    overflow: Breaker,
}

impl BreakerRegistry {
    /// Makes an empty registry whose breakers have this configuration. Names beyond 10,000 share one breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self::with_clock(config, Arc::new(SystemClock::new()))
    }

    /// Makes an empty registry that goes by a clock of one's own.
    #[must_use]
    pub fn with_clock(config: BreakerConfig, clock: Arc<dyn Clock>) -> Self {
        let overflow = Breaker::with_clock("(others)", config.clone(), Arc::clone(&clock));
        Self(Arc::new(Inner {
            config,
            clock,
            breakers: RwLock::default(),
            overflow,
        }))
    }

    /// Returns the breaker of this name, Closed if it is new.
    #[must_use]
    pub fn get(&self, name: &str) -> Breaker {
        let breakers = self
            .0
            .breakers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = breakers.get(name) {
            return found.clone();
        }
        drop(breakers);
        let mut breakers = self
            .0
            .breakers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = breakers.get(name) {
            return found.clone();
        }
        if breakers.len() >= DEFAULT_MOST {
            return self.0.overflow.clone();
        }
        let made = Breaker::with_clock(name, self.0.config.clone(), Arc::clone(&self.0.clock));
        breakers.insert(name.into(), made.clone());
        made
    }

    /// All breakers, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Breaker> {
        self.0
            .breakers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Forgets a breaker and tells if there was one. Services that hold it continue with it.
    pub fn remove(&self, name: &str) -> bool {
        self.0
            .breakers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name)
            .is_some()
    }
}

impl fmt::Debug for BreakerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}
