//! Whom an arriving message is for.

use super::{
    cannot_ask,
    held::Owed,
    inbox::{Arrival, Entry, State, Unaddressed},
};
use crate::{
    Error, Json, Method, Notification, Object, Response, SessionKey, SubscriptionFilter,
    jsonrpc::{Id, Message},
    protocol::meta,
};

impl State {
    pub(super) fn deliver(&mut self, message: Message, cause: Option<u64>) -> Option<Owed> {
        match message {
            Message::Response(id, response) => {
                self.answer(&id, Ok(response));
                None
            }
            Message::Error(Some(id), error) => {
                self.answer(&id, Err(error));
                None
            }
            Message::Error(None, error) => {
                self.unnamed(error, cause);
                None
            }
            Message::Notification(method, params) => {
                self.notification(method, params, cause);
                None
            }
            Message::Request(id, Method::PING, _) => Some(Owed::Answer(id, Ok(Json::EMPTY_OBJECT))),
            Message::Request(id, method, params) => {
                self.request(id, method, params.map(Json::from), cause)
            }
        }
    }

    /// Puts a request of the server's to the client that it is meant for.
    fn request(
        &mut self,
        id: Id,
        method: Method,
        params: Option<Json>,
        cause: Option<u64>,
    ) -> Option<Owed> {
        let Some(owner) = self.who_answers(cause) else {
            return Some(match self.whose_client(cause) {
                Some(client) => self.holding.hold(client, id, method, params),
                None => Owed::Answer(id, Err(cannot_ask(&method))),
            });
        };
        let asking = self
            .calls
            .values()
            .filter(|call| call.listens.is_none() && call.asks);
        let shared = cause != Some(owner) && asking.count() > 1;
        let refusal = Owed::Answer(id.clone(), Err(cannot_ask(&method)));
        let arrival = Arrival::Request {
            id,
            method,
            params,
            shared,
        };
        match self.send(owner, arrival) {
            true => None,
            false => Some(refusal),
        }
    }

    /// Puts to a new call or listener what was held for its client.
    pub(super) fn put_held_to(&mut self, id: u64) {
        let Some(entry) = self.calls.get(&id).filter(|entry| entry.asks) else {
            return;
        };
        for arrival in self.holding.take_for(entry.session.as_ref()) {
            self.send(id, arrival);
        }
    }

    fn answer(&mut self, id: &Id, answer: Result<Response, Error>) {
        let Some(id) = id.to_number() else { return };
        if let Some(entry) = self.calls.remove(&id) {
            // The call may be over: then the answer is lost with it.
            let _ = entry.answer.send(answer);
        }
    }

    /// Gives an error that names no call to the one that it can be for: the call that it came with, or the only one in
    /// flight.
    fn unnamed(&mut self, error: Error, cause: Option<u64>) {
        let own = cause.filter(|cause| self.calls.contains_key(cause));
        if let Some(call) = own.or_else(|| self.only_call()) {
            self.end(call, error);
        }
    }

    fn only_call(&self) -> Option<u64> {
        let mut calls = self.in_flight();
        calls.next().filter(|_| calls.next().is_none())
    }

    /// The calls that the server has been sent; listeners are not.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = u64> {
        let calls = self.calls.iter();
        calls
            .filter(|(_, entry)| entry.listens.is_none())
            .map(|(id, _)| *id)
    }

    /// Ends a call with an error.
    pub(super) fn end(&mut self, call: u64, error: Error) {
        if let Some(entry) = self.calls.remove(&call) {
            // The call may be over: then the error is lost with it.
            let _ = entry.answer.send(Err(error));
        }
    }

    fn notification(&mut self, method: Method, params: Option<Object>, cause: Option<u64>) {
        match method {
            Method::PROGRESS => self.progress(params),
            Method::CANCELLED => self.cancelled(params.as_ref()),
            method => {
                let own = params.as_ref().and_then(|params| params.get("_meta"));
                let subscription = own
                    .and_then(|own| own.member(meta::SUBSCRIPTION_ID))
                    .and_then(number_of);
                let notification = Notification::new(method, params.map(Json::from));
                if let Some(subscription) = subscription {
                    self.send(subscription, Arrival::Notification(notification));
                } else if *notification.method() == Method::MESSAGE {
                    if let Some(owner) = self.who_logs(cause) {
                        self.send(owner, Arrival::Notification(notification));
                    }
                } else {
                    self.broadcast(&notification, cause);
                }
            }
        }
    }

    /// Gives progress back under the client's own token.
    fn progress(&mut self, params: Option<Object>) {
        let Some(mut params) = params else { return };
        let id = params.get(meta::PROGRESS_TOKEN).and_then(number_of);
        let Some(id) = id else { return };
        let token = self.calls.get(&id).and_then(|entry| entry.token.clone());
        if let Some(token) = token {
            params.set(meta::PROGRESS_TOKEN, token);
            let notification = Notification::new(Method::PROGRESS, Some(params.to_json()));
            self.send(id, Arrival::Notification(notification));
        }
    }

    /// The server withdraws a request of its own, or ends a subscription.
    fn cancelled(&mut self, params: Option<&Object>) {
        let id = params
            .and_then(|params| params.get("requestId"))
            .and_then(Id::new);
        let Some(id) = id else { return };
        // Dropping a sender withdraws.
        self.apart.remove(&id);
        self.holding.withdraw(&id);
        let owners: Vec<_> = self.calls.keys().copied().collect();
        for owner in owners {
            self.send(owner, Arrival::Withdrawn(id.clone()));
        }
    }

    /// Gives a notification that belongs to no call to every listener that wants it, or, without a listener,
    /// to the call that it came with.
    fn broadcast(&mut self, notification: &Notification, cause: Option<u64>) {
        let listeners: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, entry)| {
                entry
                    .listens
                    .as_ref()
                    .is_some_and(|filter| filter.wants(notification))
            })
            .map(|(id, _)| *id)
            .collect();
        if listeners.is_empty() {
            self.remember(notification.method());
            if let Some(cause) = cause {
                self.send(cause, Arrival::Notification(notification.clone()));
            }
        }
        for listener in listeners {
            self.send(listener, Arrival::Notification(notification.clone()));
        }
    }

    /// Notes that a list changed without a listener.
    fn remember(&mut self, method: &Method) {
        if Method::LIST_CHANGES.contains(method) && !self.untold.contains(method) {
            self.untold.push(method.clone());
        }
    }

    /// Takes what a new listener has missed.
    pub(super) fn take_untold(&mut self, filter: Option<&SubscriptionFilter>) -> Vec<Notification> {
        let Some(filter) = filter else {
            return Vec::new();
        };
        let as_notification = |method: Method| Notification::new(method, None);
        let missed = |method: &mut Method| filter.wants(&as_notification(method.clone()));
        self.untold
            .extract_if(.., missed)
            .map(as_notification)
            .collect()
    }

    /// Finds whom a message without address is for.
    ///
    /// 1. The call that the transport names.
    /// 2. The newest call in progress, if all that are belong to one client.
    /// 3. The listener, if there is one client.
    ///
    /// Where several clients could be meant it goes to none: one must never see what is another's.
    fn whose(&self, cause: Option<u64>, fits: impl Fn(&Entry) -> bool) -> Option<u64> {
        if let Some(cause) = cause.filter(|cause| self.calls.contains_key(cause)) {
            return Some(cause);
        }
        let calls = |entry: &Entry| entry.listens.is_none() && fits(entry);
        match self.newest_of_one_client(calls) {
            Err(Several) => None,
            Ok(Some(id)) => Some(id),
            Ok(None) => self.listener(fits),
        }
    }

    /// Finds who is to be asked. A call that nothing can be asked through, such as a listing of the gateway's own, gives
    /// way to another call or the listener of its client; a call of another client makes it doubtful who is meant.
    fn who_answers(&self, cause: Option<u64>) -> Option<u64> {
        let owner = self.whose(cause, |_| true)?;
        let entry = self.calls.get(&owner)?;
        if entry.asks {
            return Some(owner);
        }
        let client = entry.session.as_ref()?;
        let fits = |entry: &Entry| entry.asks && entry.session.as_ref() == Some(client);
        let calls = |entry: &Entry| entry.listens.is_none() && fits(entry);
        let newest = self.newest_of_one_client(calls).ok().flatten();
        newest.or_else(|| self.listener(fits))
    }

    /// Finds whose client is to be asked where nothing in flight can be asked through.
    fn whose_client(&self, cause: Option<u64>) -> Option<SessionKey> {
        let own = cause.and_then(|cause| self.calls.get(&cause));
        if let Some(own) = own {
            return own.session.clone();
        }
        match self.newest_of_one_client(|_| true).ok()? {
            Some(newest) => self.calls.get(&newest)?.session.clone(),
            None => self.client.clone(),
        }
    }

    /// Finds the general listener, if there is one client.
    pub(super) fn listener(&self, fits: impl Fn(&Entry) -> bool) -> Option<u64> {
        let general = |entry: &Entry| {
            entry
                .listens
                .as_ref()
                .is_some_and(SubscriptionFilter::is_general)
                && fits(entry)
        };
        self.newest_of_one_client(general).ok().flatten()
    }

    /// Finds whom a log message is for.
    fn who_logs(&self, cause: Option<u64>) -> Option<u64> {
        if cause.is_none() && self.unaddressed == Unaddressed::ToListeners {
            let general = |entry: &Entry| {
                entry
                    .listens
                    .as_ref()
                    .is_some_and(SubscriptionFilter::is_general)
            };
            match self.newest_of_one_client(general) {
                Err(Several) => return None,
                Ok(Some(listener)) => return Some(listener),
                Ok(None) => {}
            }
        }
        self.whose(cause, |entry| entry.wants_log)
    }

    fn newest_of_one_client(&self, fits: impl Fn(&Entry) -> bool) -> Result<Option<u64>, Several> {
        let mut newest: Option<(u64, &Option<SessionKey>)> = None;
        for (id, entry) in &self.calls {
            if !fits(entry) {
                continue;
            }
            match newest {
                Some((_, session)) if *session != entry.session => return Err(Several),
                // Calls without a session may be anybody's.
                Some((_, None)) => return Err(Several),
                Some((newer, _)) if newer > *id => {}
                _ => newest = Some((*id, &entry.session)),
            }
        }
        Ok(newest.map(|(id, _)| id))
    }

    /// Puts an arrival before a call. A call that does not read loses its place: it ends with an error.
    pub(super) fn send(&mut self, id: u64, arrival: Arrival) -> bool {
        let Some(entry) = self.calls.get(&id) else {
            return false;
        };
        if entry.arrivals.get().try_send(arrival).is_err() {
            self.calls.remove(&id);
            return false;
        }
        true
    }
}

struct Several;

/// Reads a number of ours that a server gives back, perhaps as text.
fn number_of(value: Json) -> Option<u64> {
    Id::new(value)?.to_number()
}
