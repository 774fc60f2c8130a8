//! The requests of a session: what they were, what came of them, and which an action waits for.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Mutex,
};

use serde_json::Value;
use tokio::sync::Notify;

use super::hub::{MESSAGE, REMEMBERED, lock, push, text};
use crate::page::guid_of;

/// How many headers of a request or a response are remembered.
const HEADERS: usize = 60;
/// The longest value of a header that is remembered, in characters.
const HEADER: usize = 1000;
/// The longest body of a request that is remembered, in bytes of base64.
const BODY: usize = 64 * 1024;
/// How many addresses that a page asks for by itself are remembered.
const BACKGROUND: usize = 200;

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
    pub(crate) headers: Vec<(String, String)>,
    /// The body that was sent, in base64.
    pub(crate) body: Option<String>,
    pub(crate) response: Option<Answered>,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// The driver's name for it, as long as the driver remembers it.
    pub(crate) id: String,
    pub(crate) status: u64,
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Status(u64),
    Failed(String),
}

#[derive(Default)]
pub(crate) struct Requests {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    log: VecDeque<Exchange>,
    /// Requests that the driver knows, reported or not.
    known: HashMap<String, Exchange>,
    /// Requests in flight that an action may wait for, by the driver's name.
    open: HashMap<String, InFlight>,
    /// How many actions are running.
    acting: usize,
    /// How often a page asked for an address while no action was running.
    background: HashMap<String, u32>,
}

struct InFlight {
    number: u64,
    key: String,
}

/// While it is held, what pages request counts as an action's doing.
pub(crate) struct Acting<'a>(&'a Requests);

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).acting -= 1;
    }
}

/// What an action is worth waiting for. The rest may continue for ever, or does not change what the page says.
fn is_awaited(kind: &str) -> bool {
    matches!(kind, "document" | "xhr" | "fetch" | "script" | "stylesheet")
}

/// What makes two requests the same for a page that polls: an address without its query, which may hold the time.
fn key(exchange: &Exchange) -> String {
    let url = exchange.url.split(['?', '#']).next().unwrap_or_default();
    format!("{} {url}", exchange.method)
}

fn headers(value: &Value) -> Vec<(String, String)> {
    let all = value.as_array().into_iter().flatten().take(HEADERS);
    all.map(|header| (text(&header["name"], 200), text(&header["value"], HEADER)))
        .collect()
}

impl Requests {
    /// The driver has made a request's object.
    pub(super) fn known(&self, id: &str, initial: &Value) {
        let body = initial["postData"].as_str();
        let exchange = Exchange {
            number: 0,
            id: id.to_owned(),
            method: text(&initial["method"], 20),
            url: text(&initial["url"], MESSAGE),
            kind: text(&initial["resourceType"], 20),
            outcome: None,
            headers: headers(&initial["headers"]),
            body: body.filter(|body| body.len() <= BODY).map(str::to_owned),
            response: None,
        };
        lock(&self.state).known.insert(id.to_owned(), exchange);
    }

    pub(super) fn responded(&self, id: &str, initial: &Value) {
        let answered = Answered {
            id: id.to_owned(),
            status: initial["status"].as_u64().unwrap_or_default(),
            headers: headers(&initial["headers"]),
        };
        let request = guid_of(&initial["request"]).unwrap_or_default();
        let mut state = lock(&self.state);
        if let Some(exchange) = state.known.get_mut(request) {
            exchange.outcome = Some(Outcome::Status(answered.status));
            exchange.response = Some(answered.clone());
        }
        let mut log = state.log.iter_mut().rev();
        if let Some(exchange) = log.find(|known| known.id == request) {
            exchange.response = Some(answered);
        }
    }

    pub(super) fn began(&self, id: &str, number: u64) {
        let mut state = lock(&self.state);
        let Some(mut exchange) = state.known.get(id).cloned() else {
            return;
        };
        exchange.number = number;
        if is_awaited(&exchange.kind) {
            let key = key(&exchange);
            if state.acting == 0 {
                if state.background.len() == BACKGROUND {
                    state.background.clear();
                }
                *state.background.entry(key.clone()).or_default() += 1;
            }
            state.open.insert(id.to_owned(), InFlight { number, key });
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

    /// An action begins.
    pub(crate) fn acting(&self) -> Acting<'_> {
        lock(&self.state).acting += 1;
        Acting(self)
    }

    /// Another document is asked for: what the last one did by itself says nothing about it.
    pub(crate) fn fresh(&self) {
        lock(&self.state).background.clear();
    }

    /// Waits until the requests that began from one mark to another have ended, and tells whether there were any in
    /// flight. What a page asks for again and again by itself is not waited for, nor what was waited for before.
    pub(crate) async fn done(&self, from: u64, to: u64, before: &mut HashSet<String>) -> bool {
        let wanted = self.wanted(from, to, before);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let open = |id: &String| lock(&self.state).open.contains_key(id);
            if !wanted.iter().any(open) {
                return !wanted.is_empty();
            }
            changed.await;
        }
    }

    fn wanted(&self, from: u64, to: u64, before: &mut HashSet<String>) -> Vec<String> {
        let state = lock(&self.state);
        let mut wanted = Vec::new();
        for (id, request) in &state.open {
            let polls = state.background.get(&request.key).copied() >= Some(2);
            let begun = (from..to).contains(&request.number);
            if begun && !polls && !before.contains(&request.key) {
                wanted.push((id.clone(), request.key.clone()));
            }
        }
        drop(state);
        let (ids, keys): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        before.extend(keys);
        ids
    }

    /// Waits until nothing that an action may wait for is in flight.
    pub(crate) async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lock(&self.state).open.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// The number of the latest request that an action may wait for.
    pub(crate) fn began_so_far(&self) -> u64 {
        let state = lock(&self.state);
        let awaited = state.log.iter().rev();
        let mut awaited = awaited.filter(|exchange| is_awaited(&exchange.kind));
        awaited.next().map_or(0, |exchange| exchange.number)
    }

    /// Whether a page has asked for something from a host.
    pub(crate) fn asked_for(&self, host: &str) -> bool {
        let of_host = |exchange: &Exchange| {
            url::Url::parse(&exchange.url).is_ok_and(|url| url.host_str() == Some(host))
        };
        lock(&self.state).log.iter().any(of_host)
    }

    pub(crate) fn all(&self) -> Vec<Exchange> {
        lock(&self.state).log.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn begin(requests: &Requests, id: &str, url: &str, number: u64) {
        let initial =
            json!({ "method": "GET", "url": url, "resourceType": "fetch", "headers": [] });
        requests.known(id, &initial);
        requests.began(id, number);
    }

    #[tokio::test]
    async fn what_a_page_polls_by_itself_is_not_waited_for() {
        let requests = Requests::default();
        for number in 1..3 {
            begin(
                &requests,
                "poll",
                &format!("https://a.example/poll?t={number}"),
                number,
            );
            requests.ended("poll", None);
        }
        let acting = requests.acting();
        begin(&requests, "poll", "https://a.example/poll?t=3", 3);
        let mut before = HashSet::new();
        assert!(!requests.done(3, 10, &mut before).await);
        begin(&requests, "own", "https://a.example/own", 4);
        let ending = async {
            tokio::task::yield_now().await;
            requests.ended("own", None);
        };
        let (waited, ()) = tokio::join!(requests.done(3, 10, &mut before), ending);
        assert!(waited);
        // The same again is not this action's.
        begin(&requests, "again", "https://a.example/own", 5);
        assert!(!requests.done(3, 10, &mut before).await);
        drop(acting);
        assert!(requests.asked_for("a.example") && !requests.asked_for("example"));
    }
}
