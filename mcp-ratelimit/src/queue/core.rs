use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mcp_core::{Error, ErrorKind, Partition};
use tokio::time::Instant;

use super::adaptive::{Sign, next_limit};
use super::fair::FairQueue;
use super::{Adaptive, Priority};

/// What all services of one layer share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) name: Arc<str>,
    state: Mutex<State>,
    queue_len: usize,
    pub(super) adaptive: Option<Adaptive>,
}

#[derive(Debug)]
struct State {
    in_flight: usize,
    limit: f64,
    queue: FairQueue,
    waiters: HashMap<u64, Waiter>,
    next_id: u64,
}

#[derive(Debug)]
enum Waiter {
    Queued(Option<Waker>),
    /// Its turn has come: a place is counted for it.
    Granted,
}

/// Numbers of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Calls in flight.
    pub in_flight: usize,
    /// Calls that wait.
    pub queued: usize,
    /// How many calls may be in flight.
    pub limit: usize,
}

impl Core {
    pub(super) fn new(
        name: Arc<str>,
        concurrency: usize,
        queue_len: usize,
        adaptive: Option<Adaptive>,
    ) -> Self {
        let state = State {
            in_flight: 0,
            limit: concurrency as f64,
            queue: FairQueue::default(),
            waiters: HashMap::new(),
            next_id: 0,
        };
        Self {
            name,
            state: Mutex::new(state),
            queue_len,
            adaptive,
        }
    }

    /// The same with room for another number of waiting calls, and nothing in it.
    pub(super) fn with_queue(&self, calls: usize) -> Self {
        let concurrency = self.status().limit;
        Self::new(Arc::clone(&self.name), concurrency, calls, self.adaptive)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> QueueStatus {
        let state = self.lock();
        QueueStatus {
            in_flight: state.in_flight,
            queued: state.queue.len(),
            limit: state.limit as usize,
        }
    }

    /// Takes a place if there is one and no one waits for it.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.lock();
        if state.queue.len() > 0 || state.in_flight >= state.limit as usize {
            return None;
        }
        state.in_flight += 1;
        drop(state);
        Some(Permit::new(self))
    }

    /// Takes a place in the queue if there is one.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        priority: Priority,
        owner: Partition,
    ) -> Option<Ticket> {
        let mut state = self.lock();
        if state.queue.len() >= self.queue_len {
            return None;
        }
        state.next_id += 1;
        let id = state.next_id;
        state.queue.push(priority, owner, id);
        state.waiters.insert(id, Waiter::Queued(None));
        self.show(state.queue.len());
        // A place may have become free since it was tried for.
        let woken = state.grant();
        drop(state);
        wake(woken);
        Some(Ticket {
            core: Arc::clone(self),
            id,
            priority,
            owner,
            done: false,
        })
    }

    fn leave(&self, sign: Sign) {
        let mut state = self.lock();
        if let Some(adaptive) = self.adaptive {
            state.limit = next_limit(
                state.limit,
                state.in_flight,
                sign,
                adaptive.least,
                adaptive.most,
            );
        }
        state.in_flight -= 1;
        if state.queue.len() == 0 {
            return;
        }
        let woken = state.grant();
        self.show(state.queue.len());
        drop(state);
        wake(woken);
    }

    fn show(&self, depth: usize) {
        let name = metrics::SharedString::from(Arc::clone(&self.name));
        metrics::gauge!("mcp_queue_depth", "queue" => name).set(depth as f64);
    }

    pub(super) fn refuse(&self, waited: Option<Duration>) -> Error {
        let name = metrics::SharedString::from(Arc::clone(&self.name));
        let why = if waited.is_some() { "deadline" } else { "full" };
        metrics::counter!("mcp_queue_refusals_total", "queue" => name, "reason" => why)
            .increment(1);
        let message = match waited {
            Some(waited) => format!(
                "{} is busy; the call waited {} ms for its turn in vain",
                self.name,
                waited.as_millis()
            ),
            None => format!(
                "{} is busy and its queue is full; try again later",
                self.name
            ),
        };
        Error::new(ErrorKind::Overloaded, message).with_retry_after(Duration::from_secs(1))
    }
}

impl State {
    /// Gives free places to whoever is next.
    fn grant(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while self.in_flight < self.limit as usize {
            let Some(id) = self.queue.pop() else { break };
            self.in_flight += 1;
            if let Some(Waiter::Queued(Some(waker))) = self.waiters.insert(id, Waiter::Granted) {
                woken.push(waker);
            }
        }
        woken
    }
}

fn wake(woken: Vec<Waker>) {
    woken.into_iter().for_each(Waker::wake);
}

/// One call in flight.
#[derive(Debug)]
pub(super) struct Permit {
    core: Arc<Core>,
    /// When it began, where that decides about the limit.
    start: Option<Instant>,
    sign: Sign,
}

impl Permit {
    fn new(core: &Arc<Core>) -> Self {
        let start = core.adaptive.map(|_| Instant::now());
        Self {
            core: Arc::clone(core),
            start,
            sign: Sign::None,
        }
    }

    /// Takes note of how the call ended; the place is given back when this is dropped.
    pub(super) fn note<T>(&mut self, result: &Result<T, Error>) {
        let (Some(adaptive), Some(start)) = (self.core.adaptive, self.start) else {
            return;
        };
        self.sign = match result {
            Ok(_) if start.elapsed() > adaptive.slow => Sign::Overload,
            Ok(_) => Sign::Good,
            Err(error) => match error.kind() {
                ErrorKind::Timeout | ErrorKind::Overloaded | ErrorKind::RateLimited => {
                    Sign::Overload
                }
                _ => Sign::None,
            },
        };
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.leave(self.sign);
    }
}

/// One call that waits.
#[derive(Debug)]
pub(super) struct Ticket {
    core: Arc<Core>,
    id: u64,
    priority: Priority,
    owner: Partition,
    done: bool,
}

impl Ticket {
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Permit> {
        let mut state = self.core.lock();
        match state.waiters.get_mut(&self.id) {
            Some(Waiter::Queued(waker)) => {
                if !waker
                    .as_ref()
                    .is_some_and(|held| held.will_wake(cx.waker()))
                {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(Waiter::Granted) | None => {
                state.waiters.remove(&self.id);
                drop(state);
                self.done = true;
                Poll::Ready(Permit::new(&self.core))
            }
        }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.core.lock();
        match state.waiters.remove(&self.id) {
            Some(Waiter::Granted) => {
                // Its turn came in the same moment: the place goes to the next.
                state.in_flight -= 1;
                let woken = state.grant();
                drop(state);
                wake(woken);
            }
            Some(Waiter::Queued(_)) | None => {
                state.queue.remove(self.priority, self.owner, self.id);
                self.core.show(state.queue.len());
            }
        }
    }
}
