//! The decisions of a breaker: values and the time in, values out.

use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;
use super::{BreakerConfig, BreakerState, Outcome, Transition};

#[derive(Debug)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        leases: Vec<(u64, Instant)>,
        good: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forced {
    Open,
    Closed,
}

/// The right to make one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permit {
    /// In which stretch of one state it was given: a report from an earlier one says nothing about now.
    pub(super) generation: u64,
    pub(super) probe: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Machine {
    config: BreakerConfig,
    state: State,
    forced: Option<Forced>,
    window: Window,
    in_a_row: u32,
    /// How often it opened without closing in between.
    reopened: u32,
    generation: u64,
    next_probe: u64,
}

impl Machine {
    pub(super) fn new(config: BreakerConfig, now: Instant) -> Self {
        let window = Window::new(config.window, now);
        Self {
            config,
            state: State::Closed,
            forced: None,
            window,
            in_a_row: 0,
            reopened: 0,
            generation: 0,
            next_probe: 0,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match (self.forced, &self.state) {
            (Some(Forced::Open), _) => BreakerState::Open,
            (Some(Forced::Closed), _) | (None, State::Closed) => BreakerState::Closed,
            (None, State::Open { .. }) => BreakerState::Open,
            (None, State::HalfOpen { .. }) => BreakerState::HalfOpen,
        }
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) const fn is_forced(&self) -> bool {
        self.forced.is_some()
    }

    /// Asks for a call; a rejection tells when to ask again.
    pub(super) fn admit(&mut self, now: Instant) -> (Result<Permit, Duration>, Option<Transition>) {
        let plain = Permit {
            generation: self.generation,
            probe: None,
        };
        match self.forced {
            Some(Forced::Open) => return (Err(self.config.reset), None),
            Some(Forced::Closed) => return (Ok(plain), None),
            None => {}
        }
        let mut transition = None;
        if let State::Open { until } = self.state {
            if now < until {
                return (Err(until - now), None);
            }
            transition = Some(self.enter(State::HalfOpen {
                leases: Vec::new(),
                good: 0,
            }));
        }
        let State::HalfOpen { leases, good } = &mut self.state else {
            return (Ok(plain), None);
        };
        leases.retain(|(_, end)| now < *end);
        let most = self.config.probes.get() - (*good).min(self.config.probes.get() - 1);
        if leases.len() >= most as usize {
            let soonest = leases.iter().map(|(_, end)| *end - now).min();
            return (
                Err(soonest.unwrap_or_default().min(Duration::from_secs(1))),
                transition,
            );
        }
        self.next_probe += 1;
        leases.push((self.next_probe, now + self.config.lease));
        (
            Ok(Permit {
                generation: self.generation,
                probe: Some(self.next_probe),
            }),
            transition,
        )
    }

    /// Takes note of how a call went; `chance` is from 0 up to 1.
    pub(super) fn report(
        &mut self,
        permit: Permit,
        outcome: Outcome,
        elapsed: Duration,
        now: Instant,
        chance: f64,
    ) -> Option<Transition> {
        if permit.generation != self.generation || self.forced.is_some() {
            return None;
        }
        if let Outcome::RateLimited(wait) = outcome {
            let wait = wait.unwrap_or(self.config.reset).min(self.config.max_reset);
            return self.open(now + wait);
        }
        match &mut self.state {
            State::Closed => self.report_closed(outcome, elapsed, now, chance),
            State::Open { .. } => None,
            State::HalfOpen { leases, good } => {
                let probe = permit.probe?;
                let held = leases.iter().position(|(id, _)| *id == probe)?;
                leases.swap_remove(held);
                match outcome {
                    Outcome::Success => {
                        *good += 1;
                        (*good >= self.config.probes.get()).then(|| self.close())
                    }
                    Outcome::Failure => self.open_for(now, chance),
                    Outcome::Ignored | Outcome::RateLimited(_) => None,
                }
            }
        }
    }

    fn report_closed(
        &mut self,
        outcome: Outcome,
        elapsed: Duration,
        now: Instant,
        chance: f64,
    ) -> Option<Transition> {
        let failure = match outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Ignored | Outcome::RateLimited(_) => return None,
        };
        let slow = self.config.slow_call.is_some_and(|limit| elapsed >= limit);
        let counts = self.window.record(failure, slow, now);
        self.in_a_row = if failure {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
        let many = self
            .config
            .consecutive
            .is_some_and(|most| self.in_a_row >= most.get());
        let enough = counts.calls >= self.config.min_calls.get();
        let share = |part: u32, limit: f64| f64::from(part) >= limit * f64::from(counts.calls);
        let bad = failure && enough && share(counts.failures, self.config.failure_rate);
        let tired = slow && enough && share(counts.slow, self.config.slow_rate);
        if many || bad || tired {
            self.open_for(now, chance)
        } else {
            None
        }
    }

    /// Gives a permit back without a report: the call was dropped.
    pub(super) fn release(&mut self, permit: Permit) {
        if let (State::HalfOpen { leases, .. }, Some(probe)) = (&mut self.state, permit.probe) {
            leases.retain(|(id, _)| *id != probe);
        }
    }

    pub(super) fn force(&mut self, forced: Option<Forced>) -> Option<Transition> {
        let before = self.state();
        self.forced = forced;
        if forced.is_none() {
            // Whatever was known before is out of date.
            self.state = State::Closed;
            self.reopened = 0;
        }
        self.generation += 1;
        self.window.clear();
        self.in_a_row = 0;
        let after = self.state();
        (before != after).then_some(Transition {
            from: before,
            to: after,
            forced: true,
        })
    }

    /// Opens until the given time, as another process reports.
    pub(super) fn open(&mut self, until: Instant) -> Option<Transition> {
        if self.forced.is_some() || matches!(self.state, State::Open { .. }) {
            return None;
        }
        self.reopened = self.reopened.saturating_add(1);
        Some(self.enter(State::Open { until }))
    }

    fn open_for(&mut self, now: Instant, chance: f64) -> Option<Transition> {
        let doubled = self
            .config
            .reset
            .saturating_mul(1u32.checked_shl(self.reopened.min(31)).unwrap_or(u32::MAX));
        let time = doubled
            .min(self.config.max_reset)
            .mul_f64(1.0 + self.config.jitter * chance);
        self.open(now + time)
    }

    fn close(&mut self) -> Transition {
        self.reopened = 0;
        self.in_a_row = 0;
        self.window.clear();
        self.enter(State::Closed)
    }

    fn enter(&mut self, state: State) -> Transition {
        let from = self.state();
        self.state = state;
        self.generation += 1;
        Transition {
            from,
            to: self.state(),
            forced: false,
        }
    }
}
