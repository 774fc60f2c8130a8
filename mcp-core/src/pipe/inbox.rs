use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{WAITING, cannot_ask, listen::Filter};
use crate::{
    Error, ErrorKind, Json, Method, Notification, Object, Request, Response, SessionKey,
    jsonrpc::{Id, Message},
    lazy,
    protocol::meta,
};

/// Brings arriving messages to the calls and listeners that they belong to. Never waits.
pub struct Inbox(Mutex<State>);

/// What becomes of log messages that name no call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unaddressed {
    /// All messages come over one stream: they belong to the newest call.
    #[default]
    ToCalls,
    /// They came over a stream of their own and stay on one, so that their order is kept.
    ToListeners,
}

#[derive(Default)]
struct State {
    unaddressed: Unaddressed,
    last: u64,
    calls: HashMap<u64, Entry>,
    /// Questions that outlive the call through which they were put, by their ids.
    apart: HashMap<Id, oneshot::Sender<()>>,
    /// Which lists changed while nobody listened: told to the next who listens, since clients begin to listen
    /// beside their first calls and would keep what they listed before.
    untold: Vec<Method>,
    closed: Option<Error>,
}

struct Entry {
    arrivals: lazy::Sender<Arrival>,
    answer: oneshot::Sender<Result<Response, Error>>,
    /// The client's own progress token, which replaces ours in what it is sent.
    token: Option<Json>,
    session: Option<SessionKey>,
    /// A listener takes what belongs to no call; `None` for a call.
    listens: Option<Filter>,
    wants_log: bool,
    /// Whether a question can be put to who made the call. The gateway's own listings have nobody.
    asks: bool,
}

/// What arrives for one call before its answer.
#[derive(Debug)]
pub(crate) enum Arrival {
    Notification(Notification),
    Question {
        id: Id,
        method: Method,
        params: Option<Json>,
        /// Another call of the client may have caused it.
        shared: bool,
    },
    /// The server no longer needs the answer to its question.
    Withdrawn(Id),
}

/// The right to receive what arrives for one call. Dropping it gives the place up.
#[derive(Debug)]
pub struct Ticket<'a> {
    inbox: &'a Inbox,
    id: u64,
    arrivals: lazy::Receiver<Arrival>,
    answer: oneshot::Receiver<Result<Response, Error>>,
}

impl Ticket<'_> {
    /// Returns the id of the call, by which arriving messages name it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Lets a question outlive the call. What is returned completes when the server withdraws the question.
    pub(crate) fn set_apart(&self, id: &Id) -> oneshot::Receiver<()> {
        let (withdraw, withdrawn) = oneshot::channel();
        let mut state = self.inbox.lock();
        state.apart.retain(|_, question| !question.is_closed());
        state.apart.insert(id.clone(), withdraw);
        withdrawn
    }

    /// Returns what arrives next; `None` when only the answer is left.
    pub(crate) async fn arrival(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }

    #[cfg(test)]
    pub(crate) fn try_arrival(&mut self) -> Option<Arrival> {
        self.arrivals.try_recv()
    }

    /// Returns the answer; `None` if the call has lost its place without one.
    pub(crate) async fn answer(&mut self) -> Option<Result<Response, Error>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.inbox.forget(self.id);
    }
}

impl Inbox {
    /// Creates an empty inbox.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// Creates an empty inbox for a server that has a stream of its own for what belongs to no call: log messages on
    /// it go to the listener, if there is one.
    #[must_use]
    pub fn with_standing_stream() -> Self {
        Self(Mutex::new(State {
            unaddressed: Unaddressed::ToListeners,
            ..State::default()
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a call.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotSent`] when the conversation is over.
    pub fn admit(&self, request: &Request) -> Result<Ticket<'_>, Error> {
        self.insert(request, None)
    }

    /// Makes room for a listener, who gets what belongs to no call.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotSent`] when the conversation is over.
    pub fn attach(&self, request: &Request, filter: Filter) -> Result<Ticket<'_>, Error> {
        self.insert(request, Some(filter))
    }

    fn insert(&self, request: &Request, listens: Option<Filter>) -> Result<Ticket<'_>, Error> {
        let mut state = self.lock();
        if let Some(error) = &state.closed {
            let message = error.message().to_owned();
            return Err(Error::new(ErrorKind::NotSent, message).with_source(error.clone()));
        }
        state.last += 1;
        let id = state.last;
        let (sender, arrivals) = lazy::channel(WAITING);
        let (answer, answered) = oneshot::channel();
        let untold = state.take_untold(listens.as_ref());
        state.calls.insert(
            id,
            Entry {
                arrivals: sender,
                answer,
                token: request.progress_token(),
                session: request.session().cloned(),
                wants_log: listens.is_some() || request.log_level().is_some(),
                asks: request.asker().is_some(),
                listens,
            },
        );
        for notification in untold {
            state.send(id, Arrival::Notification(notification));
        }
        Ok(Ticket {
            inbox: self,
            id,
            arrivals,
            answer: answered,
        })
    }

    fn forget(&self, id: u64) {
        self.lock().calls.remove(&id);
    }

    /// Fails every call in progress, and every later one.
    pub fn close(&self, error: &Error) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(error.clone());
        state.apart.clear();
        for (_, entry) in state.calls.drain() {
            // The call may be over: then nobody waits.
            let _ = entry.answer.send(Err(error.clone()));
        }
    }

    /// Returns why the conversation is over, if it is.
    #[must_use]
    pub fn closed(&self) -> Option<Error> {
        self.lock().closed.clone()
    }

    /// Returns how many calls and listeners there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().calls.len()
    }

    /// Returns whether there is neither a call nor a listener.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a message to whom it belongs. `cause` is the call that it came with, where the transport knows.
    ///
    /// Returns the answer to a question that needs no client: to `ping`, and to one that belongs to nobody. An
    /// answer to a call that is over, a second answer, and an unknown token are ignored.
    pub fn deliver(
        &self,
        message: Message,
        cause: Option<u64>,
    ) -> Option<(Id, Result<Json, Error>)> {
        self.lock().deliver(message, cause)
    }

    /// Takes a message that came on a stream beside those of the calls. Log messages go to the listener of the one
    /// client there is, so that they keep their order: those that come after the answer to a call would else
    /// overtake, on their own way, those that came before it.
    pub fn deliver_apart(&self, message: Message) -> Option<(Id, Result<Json, Error>)> {
        let mut state = self.lock();
        if let Message::Notification(Method::MESSAGE, _) = &message
            && let Some(listener) = state.listener(|entry| entry.wants_log)
        {
            return state.deliver(message, Some(listener));
        }
        state.deliver(message, None)
    }
}

impl State {
    fn deliver(
        &mut self,
        message: Message,
        cause: Option<u64>,
    ) -> Option<(Id, Result<Json, Error>)> {
        match message {
            Message::Response(id, response) => {
                self.answer(&id, Ok(response));
                None
            }
            Message::Error(Some(id), error) => {
                self.answer(&id, Err(error));
                None
            }
            Message::Error(None, _) => None,
            Message::Notification(method, params) => {
                self.notification(method, params, cause);
                None
            }
            Message::Request(id, Method::PING, _) => Some((id, Ok(Json::EMPTY_OBJECT))),
            Message::Request(id, method, params) => {
                let refused = (id.clone(), Err(cannot_ask(&method)));
                let certain = cause.is_some_and(|cause| self.calls.contains_key(&cause));
                let several = self
                    .calls
                    .values()
                    .filter(|call| call.listens.is_none() && call.asks);
                let question = Arrival::Question {
                    id,
                    method,
                    params: params.map(Json::from),
                    shared: !certain && several.count() > 1,
                };
                match self.who_answers(cause) {
                    Some(owner) if self.send(owner, question) => None,
                    _ => Some(refused),
                }
            }
        }
    }

    fn answer(&mut self, id: &Id, answer: Result<Response, Error>) {
        let Some(id) = id.as_number() else { return };
        if let Some(entry) = self.calls.remove(&id) {
            // The call may be over: then nobody waits.
            let _ = entry.answer.send(answer);
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
                    .and_then(|id| id.decode::<u64>().ok());
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
        let id = params
            .get(meta::PROGRESS_TOKEN)
            .and_then(|token| token.decode::<u64>().ok());
        let Some(id) = id else { return };
        let token = self.calls.get(&id).and_then(|entry| entry.token.clone());
        if let Some(token) = token {
            params.set(meta::PROGRESS_TOKEN, token);
            let notification = Notification::new(Method::PROGRESS, Some(params.to_json()));
            self.send(id, Arrival::Notification(notification));
        }
    }

    /// The server withdraws a question, or ends a subscription.
    fn cancelled(&mut self, params: Option<&Object>) {
        let id = params
            .and_then(|params| params.get("requestId"))
            .and_then(Id::new);
        let Some(id) = id else { return };
        // Dropping a sender withdraws.
        self.apart.remove(&id);
        let owners: Vec<_> = self.calls.keys().copied().collect();
        for owner in owners {
            self.send(owner, Arrival::Withdrawn(id.clone()));
        }
    }

    /// Gives a notification that belongs to no call to every listener that wants it, or, where nobody listens,
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

    /// Notes that a list changed and nobody listened.
    fn remember(&mut self, method: &Method) {
        if Method::LIST_CHANGES.contains(method) && !self.untold.contains(method) {
            self.untold.push(method.clone());
        }
    }

    /// Takes what a new listener has missed.
    fn take_untold(&mut self, filter: Option<&Filter>) -> Vec<Notification> {
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
    /// Where several clients could be meant it is for nobody: one must never see what is another's.
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

    /// Finds who is to be asked. A call that nobody can be asked through, such as a listing of the gateway's own, gives
    /// way to another one of its client; one of another client makes it doubtful who is meant.
    fn who_answers(&self, cause: Option<u64>) -> Option<u64> {
        let of_one_client = self.whose(cause, |_| true)?;
        let owner = self.calls.get(&of_one_client)?;
        if owner.asks || owner.listens.is_some() || cause == Some(of_one_client) {
            return Some(of_one_client);
        }
        let can_be_asked = |entry: &Entry| entry.listens.is_none() && entry.asks;
        self.newest_of_one_client(can_be_asked).ok().flatten()
    }

    /// Finds the general listener, if there is one client.
    fn listener(&self, fits: impl Fn(&Entry) -> bool) -> Option<u64> {
        let general =
            |entry: &Entry| entry.listens.as_ref().is_some_and(Filter::is_general) && fits(entry);
        self.newest_of_one_client(general).ok().flatten()
    }

    /// Finds whom a log message is for.
    fn who_logs(&self, cause: Option<u64>) -> Option<u64> {
        if cause.is_none() && self.unaddressed == Unaddressed::ToListeners {
            let general = |entry: &Entry| entry.listens.as_ref().is_some_and(Filter::is_general);
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
    fn send(&mut self, id: u64, arrival: Arrival) -> bool {
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

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} calls)", self.len())
    }
}
