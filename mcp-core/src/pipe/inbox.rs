use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    WAITING,
    held::{Held, Holding, Owed},
};
use crate::{
    Error, ErrorKind, Json, Method, Notification, Request, Response, SessionKey,
    SubscriptionFilter,
    jsonrpc::{Id, Message},
    lazy,
};

/// Brings arriving messages to the calls and listeners that they belong to. Never waits.
pub struct Inbox(Mutex<State>);

/// What becomes of log messages that name no call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unaddressed {
    /// All messages come over one stream: they belong to the newest call.
    #[default]
    ToCalls,
    /// They came over a stream of their own and stay on one, so that their order is kept.
    ToListeners,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) unaddressed: Unaddressed,
    last: u64,
    pub(super) calls: HashMap<u64, Entry>,
    /// Server-initiated requests that outlive the call through which they were put, by their ids.
    pub(super) apart: HashMap<Id, oneshot::Sender<()>>,
    /// Which lists changed while there was no listener: sent to the next one, since clients begin to listen
    /// beside their first calls and would keep what they listed before.
    pub(super) untold: Vec<Method>,
    /// The client that the conversation was opened for, where it is not shared with other principals' clients.
    pub(super) client: Option<SessionKey>,
    pub(super) holding: Holding,
    closed: Option<Error>,
}

pub(super) struct Entry {
    pub(super) arrivals: lazy::Sender<Arrival>,
    pub(super) answer: oneshot::Sender<Result<Response, Error>>,
    /// The client's own progress token, which replaces ours in what it is sent.
    pub(super) token: Option<Json>,
    pub(super) session: Option<SessionKey>,
    /// A listener takes what belongs to no call; `None` for a call.
    pub(super) listens: Option<SubscriptionFilter>,
    pub(super) wants_log: bool,
    /// Whether a request can be put to who made the call. It cannot for the gateway's own listings.
    pub(super) asks: bool,
}

/// What arrives for one call before its answer.
#[derive(Debug)]
pub(crate) enum Arrival {
    Notification(Notification),
    /// A request of the server to the client.
    Request {
        id: Id,
        method: Method,
        params: Option<Json>,
        /// Another call of the client may have caused it.
        shared: bool,
    },
    /// The server no longer needs the answer to its request.
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

    /// Lets a server-initiated request outlive the call. What is returned completes when the server withdraws it.
    pub(crate) fn set_apart(&self, id: &Id) -> oneshot::Receiver<()> {
        let (withdraw, withdrawn) = oneshot::channel();
        let mut state = self.inbox.lock();
        state.apart.retain(|_, request| !request.is_closed());
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
    pub fn with_standalone_stream() -> Self {
        Self(Mutex::new(State {
            unaddressed: Unaddressed::ToListeners,
            ..State::default()
        }))
    }

    /// Names the client that the conversation is opened for: what the server asks before the first call of a client goes to
    /// it. To be left out where clients of several principals share the conversation.
    pub fn set_client(&self, client: Option<SessionKey>) {
        self.lock().client = client;
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
    pub fn attach(
        &self,
        request: &Request,
        filter: SubscriptionFilter,
    ) -> Result<Ticket<'_>, Error> {
        self.insert(request, Some(filter))
    }

    fn insert(
        &self,
        request: &Request,
        listens: Option<SubscriptionFilter>,
    ) -> Result<Ticket<'_>, Error> {
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
        state.put_held_to(id);
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
        state.holding.clear();
        for (_, entry) in state.calls.drain() {
            // The call may be over: then the answer is lost with it.
            let _ = entry.answer.send(Err(error.clone()));
        }
    }

    /// Fails one call whose answer cannot be read: the one that is named, else the oldest in flight.
    pub fn fail(&self, call: Option<u64>, error: Error) {
        let mut state = self.lock();
        if let Some(call) = call.or_else(|| state.in_flight().min()) {
            state.end(call, error);
        }
    }

    /// Returns whether a call is in flight.
    #[must_use]
    pub fn has(&self, call: u64) -> bool {
        self.lock().calls.contains_key(&call)
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
    /// Returns what the server is to be sent: the answer to a request that needs no client (`ping`), or that no client can
    /// answer. An answer to a call that is over, a second answer, and an unknown token are ignored.
    pub fn deliver(&self, message: Message, cause: Option<u64>) -> Option<Owed> {
        self.lock().deliver(message, cause)
    }

    /// Ends the wait of a request that is held. Returns its refusal, unless it has found its client.
    pub fn refuse(&self, held: &Held) -> Option<(Id, Error)> {
        self.lock().holding.refuse(held)
    }

    /// Takes a message that came on a stream beside those of the calls. Log messages go to the listener of the one
    /// client there is, so that they keep their order: those that come after the answer to a call would else
    /// overtake, on their own way, those that came before it.
    pub fn deliver_apart(&self, message: Message) -> Option<Owed> {
        let mut state = self.lock();
        if let Message::Notification(Method::MESSAGE, _) = &message
            && let Some(listener) = state.listener(|entry| entry.wants_log)
        {
            return state.deliver(message, Some(listener));
        }
        state.deliver(message, None)
    }
}

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
