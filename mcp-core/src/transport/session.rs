//! A session of the session era, whatever it is carried by.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use tokio::{sync::oneshot, task::AbortHandle};

use super::{
    call::{Call, Calls},
    exchange::Exchange,
    lifecycle::{self, Lifecycle},
};
use crate::{
    ClientCapabilities, Error, ErrorKind, Json, LogLevel, Method, Object, Principal,
    ProtocolVersion, Request, Response, Seam, SessionKey, TraceContext,
    handshake::{self, Opening},
    jsonrpc::{Id, Message},
    transport::caller::Caller,
};

/// What a session knows of its client, and what the client has asked for.
pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) principal: Principal,
    /// What the newest request of the session knows about its caller.
    caller: Mutex<Caller>,
    pub(super) version: ProtocolVersion,
    pub(super) calls: Arc<Calls>,
    pub(super) lifecycle: Lifecycle,
    most_subscriptions: usize,
    capabilities: ClientCapabilities,
    client_info: Option<Json>,
    next: AtomicU64,
    /// The lists whose changes the server announces: a bit for each of `Method::LIST_CHANGES`.
    announced: AtomicU8,
    /// Whether list changes are listened for.
    listened: AtomicBool,
    /// Whether a tool was called before.
    acted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log_level: Option<LogLevel>,
    /// Server-initiated requests that the client has not answered.
    server_requests: HashMap<u64, oneshot::Sender<Result<Json, Error>>>,
    listener: Option<AbortHandle>,
    subscriptions: HashMap<Box<str>, AbortHandle>,
}

/// What bounds a session.
pub(super) struct Limits {
    pub(super) calls: Arc<Calls>,
    pub(super) lifecycle: Lifecycle,
    pub(super) subscriptions: usize,
}

impl Session {
    pub(super) fn new(
        key: SessionKey,
        principal: Principal,
        opening: Opening,
        limits: Limits,
    ) -> Arc<Self> {
        let Limits {
            calls,
            lifecycle,
            subscriptions,
        } = limits;
        Arc::new(Self {
            key,
            principal,
            caller: Mutex::default(),
            version: opening.version,
            calls,
            lifecycle,
            most_subscriptions: subscriptions,
            capabilities: opening.capabilities,
            client_info: opening.client_info,
            next: AtomicU64::new(1),
            announced: AtomicU8::new(0),
            listened: AtomicBool::new(false),
            acted: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a number that no other stream or server-initiated request of this session has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Stores who makes a request of the session: the same principal, maybe with another credential.
    #[cfg(feature = "http")]
    pub(super) fn heard_from(&self, caller: Caller) {
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = caller;
    }

    /// Completes a request with the call context of this session.
    pub(super) fn complete(&self, request: Request) -> Request {
        let caller = self
            .caller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.complete_for(request, &caller)
    }

    fn complete_for(&self, request: Request, caller: &Caller) -> Request {
        let mut request = request
            .with_principal(self.principal.clone())
            .with_version(self.version.clone())
            .with_capabilities(self.capabilities.clone())
            .with_session(self.key.clone())
            .with_log_level(self.lock().log_level);
        if let Some(info) = &self.client_info {
            request = request.with_client_info(info.clone());
        }
        caller.state(request)
    }

    /// Asks the stack what it is and composes the answer to `initialize`.
    pub(super) async fn open<S: Seam>(&self, service: &S) -> Result<Json, Error> {
        let discover = Request::new(Method::DISCOVER, Some(Json::EMPTY_OBJECT))?;
        let discovered = Exchange::start(service, self.complete(discover), false)
            .answer()
            .await?;
        let answer = handshake::answer(&self.version, &discovered);
        self.announced.store(announced(&answer), Ordering::Release);
        Ok(answer)
    }

    /// Returns the lists whose changes the server has declared to announce, a bit for each.
    pub(super) fn announced(&self) -> u8 {
        self.announced.load(Ordering::Acquire)
    }

    /// Ends everything that belongs to the session.
    pub(super) fn close(&self) {
        self.key.close();
        self.calls.clear();
        let state = std::mem::take(&mut *self.lock());
        for handle in state.subscriptions.into_values().chain(state.listener) {
            handle.abort();
        }
    }
}

/// A session that was refused, or whose client left while it was opened, ends as well.
impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the client sends.
impl Session {
    /// Starts a call for the stack, made by whoever the session was last heard from.
    pub(super) fn call<S: Seam>(
        &self,
        service: &S,
        id: &Id,
        method: Method,
        params: Option<Object>,
    ) -> Result<Call, Error> {
        let caller = self
            .caller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.call_by(&caller, service, id, method, params)
    }

    /// Starts a call for the stack.
    pub(super) fn call_by<S: Seam>(
        &self,
        caller: &Caller,
        service: &S,
        id: &Id,
        method: Method,
        params: Option<Object>,
    ) -> Result<Call, Error> {
        let trace = params
            .as_ref()
            .and_then(|params| params.get("_meta"))
            .and_then(|meta| Object::try_from(meta).ok())
            .map(|meta| TraceContext::from_meta(&meta))
            .unwrap_or_default();
        let request = self
            .complete_for(Request::from_object(method, params)?, caller)
            .with_trace(trace);
        let in_flight = self.lifecycle.begin()?;
        let call = (self.calls.begin(id)?, in_flight);
        if *request.method() == Method::TOOLS_CALL && !self.listened.load(Ordering::Acquire) {
            self.acted.store(true, Ordering::Release);
        }
        Ok(Call::start(service, request, call, true))
    }

    /// Sets the level of log messages, with the stack's consent.
    pub(super) async fn set_level<S: Seam>(
        &self,
        service: &S,
        params: Option<Object>,
    ) -> Result<Response, Error> {
        let level = params
            .as_ref()
            .and_then(|params| params.text("level"))
            .and_then(|level| LogLevel::new(&level))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidParams,
                    "`params.level` is not one of the eight levels",
                )
            })?;
        let request = self.complete(Request::from_object(Method::SET_LEVEL, params)?);
        let answer = Exchange::start(service, request, false).answer().await?;
        self.lock().log_level = Some(level);
        Ok(answer)
    }

    /// Takes a message that wants no answer. A notification that is for the stack is returned.
    pub(super) fn receive(&self, message: Message) -> Option<Request> {
        match message {
            Message::Response(id, response) => self.answered(&id, Ok(response.into_result())),
            Message::Error(Some(id), error) => self.answered(&id, Err(error)),
            Message::Error(None, _)
            | Message::Request(..)
            | Message::Notification(Method::INITIALIZED, _) => {}
            Message::Notification(Method::CANCELLED, params) => {
                let id = params.and_then(|params| params.get("requestId"));
                if let Some(id) = id.and_then(Id::new) {
                    self.calls.cancel(&id);
                }
            }
            Message::Notification(method, params) => {
                let request = Request::notification(method, params.map(Json::from)).ok()?;
                return Some(self.complete(request));
            }
        }
        None
    }
}

/// Server-initiated requests to the client.
impl Session {
    /// Notes a server-initiated request and returns the number that its answer will carry.
    pub(super) fn ask(&self, answer: oneshot::Sender<Result<Json, Error>>) -> u64 {
        let number = self.number();
        self.lock().server_requests.insert(number, answer);
        number
    }

    /// Takes the client's answer to a server-initiated request. An answer that is not waited for is ignored.
    fn answered(&self, id: &Id, answer: Result<Json, Error>) {
        let Some(number) = id.as_number() else { return };
        if let Some(waiting) = self.lock().server_requests.remove(&number) {
            let _ = waiting.send(answer);
        }
    }

    /// Takes a server-initiated request back. Returns whether it was still open.
    pub(super) fn withdraw(&self, number: u64) -> bool {
        self.lock().server_requests.remove(&number).is_some()
    }
}

/// What the session listens to.
impl Session {
    /// Takes the handle of the task that listens for list changes, unless there is one already.
    pub(super) fn listen(&self, start: impl FnOnce() -> AbortHandle) {
        let mut state = self.lock();
        if state.listener.is_none() && !self.key.is_closed() {
            state.listener = Some(start());
        }
    }

    /// Marks list changes as listened for. Returns whether a tool was called before, which may have
    /// changed a list before it was listened for.
    pub(super) fn heeds(&self) -> bool {
        self.listened.store(true, Ordering::Release);
        self.acted.load(Ordering::Acquire)
    }

    /// Keeps the handle of a subscription; one to the same resource ends. Fails where there are too many.
    pub(super) fn subscribed(&self, uri: &str, handle: AbortHandle) -> Result<(), Error> {
        let mut state = self.lock();
        let error = if self.key.is_closed() {
            lifecycle::closed()
        } else if state.subscriptions.len() >= self.most_subscriptions
            && !state.subscriptions.contains_key(uri)
        {
            Error::new(
                ErrorKind::Overloaded,
                "too many resources are subscribed to; unsubscribe from one first",
            )
        } else {
            if let Some(earlier) = state.subscriptions.insert(uri.into(), handle) {
                earlier.abort();
            }
            return Ok(());
        };
        handle.abort();
        Err(error)
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        if let Some(subscription) = self.lock().subscriptions.remove(uri) {
            subscription.abort();
        }
    }
}

/// Where a server declares changes of each of `Method::LIST_CHANGES`.
const CAPABILITIES: [&str; 3] = ["tools", "prompts", "resources"];

/// Returns the lists whose changes the result of `initialize` declares to announce: a bit for each of
/// `Method::LIST_CHANGES`.
fn announced(initialized: &Json) -> u8 {
    let capabilities = initialized.member("capabilities");
    let declared = |kind| {
        capabilities
            .as_ref()?
            .member(kind)?
            .member("listChanged")
            .filter(|declared| declared.as_str() == "true")
    };
    CAPABILITIES
        .into_iter()
        .enumerate()
        .filter(|(_, kind)| declared(kind).is_some())
        .fold(0, |bits, (at, _)| bits | (1 << at))
}
