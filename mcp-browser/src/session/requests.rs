//! The requests of a session: what they were, and which are under way.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use serde_json::Value;
use tokio::sync::Notify;

use super::hub::{MESSAGE, REMEMBERED, lock, push, text};
use crate::page::guid_of;

/// A request that a page made.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) number: u64,
    /// The driver's name for it.
    id: String,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) kind: String,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Status(u64),
    Failed(String),
}

#[derive(Default)]
pub(super) struct Requests {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    log: VecDeque<Exchange>,
    /// Requests that the driver knows, reported or not.
    known: HashMap<String, Exchange>,
    /// Requests under way that an action may wait for: the driver's name, and our number.
    open: HashMap<String, u64>,
}

/// What an action is worth waiting for. The rest may go on for ever, or does not change what the page says.
fn is_awaited(kind: &str) -> bool {
    matches!(kind, "document" | "xhr" | "fetch" | "script" | "stylesheet")
}

impl Requests {
    /// The driver has made a request's object.
    pub(super) fn known(&self, id: &str, initial: &Value) {
        let exchange = Exchange {
            number: 0,
            id: id.to_owned(),
            method: text(&initial["method"], 20),
            url: text(&initial["url"], MESSAGE),
            kind: text(&initial["resourceType"], 20),
            outcome: None,
        };
        lock(&self.state).known.insert(id.to_owned(), exchange);
    }

    pub(super) fn responded(&self, initial: &Value) {
        let status = initial["status"].as_u64().unwrap_or_default();
        let request = guid_of(&initial["request"]).unwrap_or_default();
        if let Some(exchange) = lock(&self.state).known.get_mut(request) {
            exchange.outcome = Some(Outcome::Status(status));
        }
    }

    pub(super) fn began(&self, id: &str, number: u64) {
        let mut state = lock(&self.state);
        let Some(mut exchange) = state.known.get(id).cloned() else {
            return;
        };
        exchange.number = number;
        if is_awaited(&exchange.kind) {
            state.open.insert(id.to_owned(), number);
        }
        push(&mut state.log, exchange, REMEMBERED);
    }

    pub(super) fn ended(&self, id: &str, failure: Option<&str>) {
        let mut state = lock(&self.state);
        state.open.remove(id);
        let status = state.known.get(id).and_then(|own| own.outcome.clone());
        let outcome = match failure {
            Some(error) => Outcome::Failed(error.chars().take(200).collect()),
            None => status.unwrap_or_else(|| Outcome::Failed("no answer".to_owned())),
        };
        let mut log = state.log.iter_mut().rev();
        if let Some(exchange) = log.find(|known| known.id == id) {
            exchange.outcome = Some(outcome);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The driver has let go of the request: nothing more will be heard of it.
    pub(super) fn forget(&self, id: &str) {
        let mut state = lock(&self.state);
        state.known.remove(id);
        if state.open.remove(id).is_some() {
            drop(state);
            self.changed.notify_waiters();
        }
    }

    fn is_quiet_since(&self, mark: u64) -> bool {
        let state = lock(&self.state);
        !state.open.values().any(|number| *number >= mark)
    }

    /// Waits until no request is under way that began at or after the mark; tells whether there was one.
    pub(super) async fn quiet_since(&self, mark: u64) -> bool {
        let mut waited = false;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_quiet_since(mark) {
                return waited;
            }
            waited = true;
            changed.await;
        }
    }

    pub(super) fn all(&self) -> Vec<Exchange> {
        lock(&self.state).log.iter().cloned().collect()
    }
}
