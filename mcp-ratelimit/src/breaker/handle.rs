use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_core::clock::{Clock, SystemClock};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::machine::{Forced, Machine, Permit};
use super::{BreakerConfig, BreakerState, Outcome, Transition};

/// How far behind a subscriber may fall.
const BACKLOG: usize = 64;
/// The fast path is for generations that admit everything.
const ADMITS: u64 = 1;

/// One breaker; clones share its state.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    machine: Mutex<Machine>,
    /// Twice the generation, plus [`ADMITS`] if it is Closed: read on every call instead of the lock.
    fast: AtomicU64,
    transitions: broadcast::Sender<Transition>,
    clock: Arc<dyn Clock>,
}

impl Breaker {
    /// Makes a Closed breaker. The name appears in errors, logs and metrics.
    #[must_use]
    pub fn new(name: &str, config: BreakerConfig) -> Self {
        Self::with_clock(name, config, Arc::new(SystemClock::new()))
    }

    /// Makes a Closed breaker that goes by a clock of one's own.
    #[must_use]
    pub fn with_clock(name: &str, config: BreakerConfig, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            machine: Mutex::new(Machine::new(config, clock.now())),
            fast: AtomicU64::new(ADMITS),
            transitions: broadcast::Sender::new(BACKLOG),
            clock,
        }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its present state. An Open breaker whose time is over stays Open until someone calls.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.lock().state()
    }

    /// Tells if someone forced the state.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.lock().is_forced()
    }

    /// Rejects every call from now on, until [`release`](Self::release).
    pub fn force_open(&self) {
        self.force(Some(Forced::Open));
    }

    /// Admits every call from now on, until [`release`](Self::release).
    pub fn force_closed(&self) {
        self.force(Some(Forced::Closed));
    }

    /// Ends a forced state, or forgets what was counted: the breaker is Closed and decides for itself.
    pub fn release(&self) {
        self.force(None);
    }

    /// Opens for a time because another process reports that calls fail; forced and Open breakers stay as they
    /// are.
    pub fn open_for(&self, time: Duration) {
        let until = self.0.clock.now() + time;
        self.change(|machine| ((), machine.open(until)));
    }

    /// Listens to changes of state from now on, each exactly once and in order. A reader who falls more than 64
    /// behind is told how many were missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Transition> {
        self.0.transitions.subscribe()
    }

    fn force(&self, forced: Option<Forced>) {
        self.change(|machine| ((), machine.force(forced)));
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0
            .machine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, work: impl FnOnce(&mut Machine) -> (T, Option<Transition>)) -> T {
        let mut machine = self.lock();
        let before = machine.generation();
        let (result, transition) = work(&mut machine);
        if machine.generation() != before {
            let admits = u64::from(machine.state() == BreakerState::Closed);
            self.0
                .fast
                .store(machine.generation() << 1 | admits, Ordering::Release);
        }
        if let Some(transition) = transition {
            // Under the lock, so that everybody sees the same order; no one listening is fine.
            let _ = self.0.transitions.send(transition);
            drop(machine);
            self.tell(transition);
        }
        result
    }

    fn tell(&self, transition: Transition) {
        let Transition { from, to, forced } = transition;
        tracing::info!(
            breaker = &*self.0.name,
            from = from.name(),
            to = to.name(),
            forced,
            "breaker changed"
        );
        let name = metrics::SharedString::from(Arc::clone(&self.0.name));
        metrics::counter!("mcp_breaker_transitions_total", "breaker" => name, "to" => to.name())
            .increment(1);
    }

    /// Asks for a call; a rejection tells when to ask again.
    pub(super) fn admit(&self) -> Result<Guard, Duration> {
        let start = self.0.clock.now();
        let fast = self.0.fast.load(Ordering::Acquire);
        let permit = if fast & ADMITS == ADMITS {
            Permit {
                generation: fast >> 1,
                probe: None,
            }
        } else {
            self.change(|machine| machine.admit(start))?
        };
        Ok(Guard {
            breaker: self.clone(),
            permit: Some(permit),
            start,
        })
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("name", &self.0.name)
            .field("state", &self.state())
            .finish()
    }
}

/// One admitted call. Dropped without a report it counts as neither good nor bad, except in a panic.
#[derive(Debug)]
pub(super) struct Guard {
    breaker: Breaker,
    permit: Option<Permit>,
    start: Instant,
}

impl Guard {
    pub(super) fn report(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let now = self.breaker.0.clock.now();
        let elapsed = now.saturating_duration_since(self.start);
        let chance = if outcome == Outcome::Success {
            0.0
        } else {
            rand::random()
        };
        self.breaker
            .change(|machine| ((), machine.report(permit, outcome, elapsed, now, chance)));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.finish(Outcome::Failure);
        } else if let Some(permit @ Permit { probe: Some(_), .. }) = self.permit.take() {
            self.breaker.lock().release(permit);
        }
    }
}
