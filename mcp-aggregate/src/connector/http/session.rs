//! Servers of the session era: their sessions, and calls within them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode};
use mcp_core::{
    ClientCapabilities, Error, ErrorKind, Json, Method, Notification, Object, Request, Response,
    jsonrpc::{self, Id, Message},
    pipe::{CancelOnDrop, Inbox, Outbound, Replies, opening_level},
};
use tokio::{
    sync::Mutex as AsyncMutex,
    task::AbortHandle,
    time::{Duration, sleep, timeout},
};

use super::{
    error::Failed,
    listen,
    reply::{Events, Reply, event_message},
    wire::{PROTOCOL_VERSION, Refused, Wire},
};
use crate::connector::{ScopeKey, handshake};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// How often a stream that broke is taken up again before its call fails.
const RESUMES: u32 = 5;

/// The place of one session: empty before the first call, and again when the server has forgotten it.
pub(super) struct Slot {
    key: ScopeKey,
    current: ArcSwapOption<Session>,
    /// Held while a session is opened. Callers that come meanwhile wait.
    opening: AsyncMutex<()>,
    /// The parameters of the last `logging/setLevel`, for the next session.
    level: Mutex<Option<Object>>,
}

/// An open session with the server.
pub(super) struct Session {
    pub(super) wire: Arc<Wire>,
    pub(super) inbox: Inbox,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What `initialize` answered, as `server/discover` would.
    discovered: Response,
    /// A request with the facts of the client that the session was opened for.
    pub(super) opener: Request,
    /// The task that reads the standing stream.
    stream: Mutex<Option<AbortHandle>>,
    over: AtomicBool,
}

impl Slot {
    pub(super) fn new(key: ScopeKey) -> Self {
        Self {
            key,
            current: ArcSwapOption::empty(),
            opening: AsyncMutex::new(()),
            level: Mutex::default(),
        }
    }

    /// Returns the session, opening it where there is none.
    pub(super) async fn session(
        &self,
        wire: &Arc<Wire>,
        request: &Request,
    ) -> Result<Arc<Session>, Failed> {
        if let Some(session) = self.current.load_full() {
            return Ok(session);
        }
        let _opening = self.opening.lock().await;
        if let Some(session) = self.current.load_full() {
            return Ok(session);
        }
        let shared = self.key == ScopeKey::Shared;
        let session = Arc::new(Session::open(wire, request, shared).await?);
        let level = match self.level().clone() {
            Some(set) => Some(
                Request::from_object(Method::SET_LEVEL, Some(set))?.with_facts_of(&session.opener),
            ),
            None if shared => None,
            None => opening_level(&session.opener, &session.discovered),
        };
        if let Some(level) = level {
            // A server that takes no levels logs as it likes.
            let _ = session.exchange(&level).await;
        }
        self.current.store(Some(Arc::clone(&session)));
        Ok(session)
    }

    fn level(&self) -> std::sync::MutexGuard<'_, Option<Object>> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the server does not know a session any more.
    pub(super) fn expire(&self, session: &Arc<Session>) {
        let current = self.current.load();
        if current
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, session))
        {
            self.current.compare_and_swap(&current, None);
        }
        session.close();
    }

    /// Ends the session with the server.
    pub(super) async fn end(&self, wire: &Arc<Wire>) {
        let Some(session) = self.current.swap(None) else {
            return;
        };
        session.close();
        let ended = wire.bare(HttpMethod::DELETE, &session.opener, &session.headers);
        // A server that cannot end sessions ends them by their age.
        let _ = timeout(Duration::from_secs(2), ended).await;
    }
}

/// Makes a call in the session of its client.
pub(super) async fn call(
    slot: &Arc<Slot>,
    wire: &Arc<Wire>,
    request: &Request,
) -> Result<Response, Failed> {
    if *request.method() == Method::SUBSCRIPTIONS_LISTEN {
        return Box::pin(listen::call(slot, wire, request)).await;
    }
    let session = match slot.current.load_full() {
        Some(session) => session,
        None => Box::pin(slot.session(wire, request)).await?,
    };
    match attempt(&session, slot, request).await {
        Err(Failed::Expired) => slot.expire(&session),
        other => return other,
    }
    // Boxed, so that a call that goes well is small.
    Box::pin(call_anew(slot, wire, request)).await
}

/// Makes a call again in a new session, if that is safe.
async fn call_anew(
    slot: &Arc<Slot>,
    wire: &Arc<Wire>,
    request: &Request,
) -> Result<Response, Failed> {
    if !is_repeatable(request) {
        return Err(Failed::Error(Error::new(
            ErrorKind::NotSent,
            "the server has lost the session and has not acted on the call; call again to go on in a new session",
        )));
    }
    let session = slot.session(wire, request).await?;
    attempt(&session, slot, request).await
}

/// Whether a call that the server has refused unseen is sent again without asking.
fn is_repeatable(request: &Request) -> bool {
    request.is_notification()
        || request.method().is_read()
        || request
            .annotations()
            .is_some_and(|annotations| annotations.is_repeatable())
}

async fn attempt(
    session: &Arc<Session>,
    slot: &Slot,
    request: &Request,
) -> Result<Response, Failed> {
    if request.is_notification() {
        let params = request.params().map(Object::to_json);
        let notification = Notification::new(request.method().clone(), params);
        Box::pin(session.post(&Outbound::Notification(notification))).await?;
        return Ok(Response::empty());
    }
    if *request.method() == Method::DISCOVER {
        return Ok(session.discovered.clone());
    }
    let answer = session.exchange(request).await?;
    if *request.method() == Method::SET_LEVEL {
        *slot.level() = request.params().cloned();
    }
    Ok(answer)
}

impl Session {
    /// Opens a session for the client of a request.
    async fn open(wire: &Arc<Wire>, request: &Request, shared: bool) -> Result<Self, Failed> {
        let capabilities = match shared {
            true => ClientCapabilities::NONE,
            false => request.capabilities().clone(),
        };
        let opener = Request::new(Method::INITIALIZE, None)?
            .with_facts_of(request)
            .without_call();
        let params = handshake::opening(request, &capabilities);
        let id = wire.next_id();
        let body = jsonrpc::write_request(&id, &Method::INITIALIZE, Some(&params));
        let reply = wire
            .post(&opener, [], HeaderMap::new(), body.into())
            .await
            .map_err(not_session)?;
        let session_id = reply.headers.get(&SESSION_ID).cloned();
        let answer = first_answer(reply, &id)
            .await?
            .map_err(Failed::NotSession)?;
        let discovered = handshake::opened(&answer)?;
        let mut headers = vec![(PROTOCOL_VERSION, handshake::settled(&answer)?)];
        headers.extend(session_id.map(|id| (SESSION_ID, id)));
        let session = Self {
            wire: Arc::clone(wire),
            inbox: Inbox::with_standing_stream(),
            headers,
            discovered,
            opener,
            stream: Mutex::default(),
            over: AtomicBool::new(false),
        };
        let initialized = Notification::new(Method::INITIALIZED, None);
        session.post(&Outbound::Notification(initialized)).await?;
        Ok(session)
    }

    /// Makes one call.
    pub(super) async fn exchange(self: &Arc<Self>, request: &Request) -> Result<Response, Failed> {
        let mut ticket = self.inbox.admit(request).map_err(|_| Failed::Expired)?;
        let mut request = request.clone();
        ticket.rename_progress(&mut request);
        let id = Id::number(ticket.id());
        let body = jsonrpc::write_request(&id, request.method(), request.params());
        let replies = Background(Arc::clone(self));
        let guard = CancelOnDrop::new(&replies, ticket.id());
        let posted = self
            .wire
            .post(
                &request,
                self.headers.iter().cloned(),
                HeaderMap::new(),
                body.into(),
            )
            .await;
        let reply = match posted {
            Ok(reply) => reply,
            Err(refused) => {
                // The server has answered: there is nothing to cancel.
                let _ = guard.settle(Ok(Err(refused.error.clone())));
                return Err(match is_expired(&refused, &self.headers) {
                    true => Failed::Expired,
                    false => Failed::Error(refused.error),
                });
            }
        };
        let source = self.read(reply, ticket.id());
        let answer = ticket.drive(&request, &replies, source).await;
        guard.settle(answer).map_err(Failed::Error)
    }

    /// Reads an answer and what comes before it. Completes only if there will be none.
    async fn read(&self, reply: Reply, call: u64) -> Error {
        let read = match reply.is_events() {
            true => self.read_events(reply.events(), call).await,
            false => match reply.message().await {
                Ok(message) => {
                    let answers = is_answer(&message);
                    self.deliver(message, Some(call));
                    if answers { Ok(()) } else { Err(no_answer()) }
                }
                Err(error) => Err(error),
            },
        };
        match read {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    }

    async fn read_events(&self, mut events: Events, call: u64) -> Result<(), Error> {
        let mut last: Option<String> = None;
        let mut pause = Duration::from_secs(1);
        let mut resumes = 0;
        loop {
            let broke = loop {
                let event = match events.next().await {
                    Ok(Some(event)) => event,
                    Ok(None) => break no_answer(),
                    Err(error) => break error,
                };
                if let Some(millis) = event.retry {
                    pause = Duration::from_millis(millis);
                }
                if event.id.is_some() {
                    last.clone_from(&event.id);
                }
                if let Some(message) = event_message(&event)? {
                    let answers = is_answer(&message);
                    self.deliver(message, Some(call));
                    if answers {
                        events.finish();
                        return Ok(());
                    }
                    // Let what has arrived reach its client before more is read.
                    tokio::task::yield_now().await;
                }
            };
            let (Some(id), true) = (&last, resumes < RESUMES) else {
                return Err(broke);
            };
            resumes += 1;
            sleep(pause.min(Duration::from_secs(30))).await;
            events = Box::pin(self.resume(id)).await.ok_or(broke)?;
        }
    }

    /// Takes up a stream again that broke (revision 2025-11-25, "Resumability and Redelivery").
    async fn resume(&self, last: &str) -> Option<Events> {
        let mut headers = self.headers.clone();
        headers.push((LAST_EVENT_ID, HeaderValue::try_from(last).ok()?));
        let reply = self
            .wire
            .bare(HttpMethod::GET, &self.opener, &headers)
            .await
            .ok()?;
        reply.is_events().then(|| reply.events())
    }

    /// Takes a message that has arrived.
    fn deliver(&self, message: Message, cause: Option<u64>) {
        self.reply(self.inbox.deliver(message, cause));
    }

    /// Takes a message that has arrived on the standing stream.
    pub(super) fn deliver_apart(&self, message: Message) {
        self.reply(self.inbox.deliver_apart(message));
    }

    /// Answers a question that needed no client.
    fn reply(&self, answer: Option<(Id, Result<Json, Error>)>) {
        if let Some((id, answer)) = answer {
            let (wire, opener) = (Arc::clone(&self.wire), self.opener.clone());
            let headers = self.headers.clone();
            tokio::spawn(async move {
                let body = Outbound::Answer(id, answer).to_message();
                // A server that is gone needs no answer.
                if let Ok(reply) = wire.post(&opener, headers, HeaderMap::new(), body).await {
                    reply.discard();
                }
            });
        }
    }

    /// Posts a message that wants no answer.
    async fn post(&self, message: &Outbound) -> Result<(), Failed> {
        let posted = self
            .wire
            .post(
                &self.opener,
                self.headers.iter().cloned(),
                HeaderMap::new(),
                message.to_message(),
            )
            .await;
        match posted {
            Ok(reply) => {
                reply.discard();
                Ok(())
            }
            Err(refused) if is_expired(&refused, &self.headers) => Err(Failed::Expired),
            Err(refused) => Err(Failed::Error(refused.error)),
        }
    }

    /// Opens the standing stream, as far as its head.
    pub(super) async fn standing(&self, last: Option<&str>) -> Result<Reply, Refused> {
        let mut headers = self.headers.clone();
        let last = last.and_then(|id| HeaderValue::try_from(id).ok());
        headers.extend(last.map(|id| (LAST_EVENT_ID, id)));
        self.wire
            .bare(HttpMethod::GET, &self.opener, &headers)
            .await
    }

    pub(super) fn is_expired_by(&self, refused: &Refused) -> bool {
        is_expired(refused, &self.headers)
    }

    /// Takes the handle of the task that reads the standing stream, unless there is one.
    pub(super) fn stream(&self, start: impl FnOnce() -> AbortHandle) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if stream.is_none() && !self.over.load(Ordering::Acquire) {
            *stream = Some(start());
        }
    }

    /// Returns whether the session has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.over.store(true, Ordering::Release);
        let stream = self
            .stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(stream) = stream {
            stream.abort();
        }
        self.inbox.close(&Error::new(
            ErrorKind::Unavailable,
            "the session with the server has ended",
        ));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

/// Posts what a call sends beside its request, without the call waiting longer than it must.
#[derive(Clone)]
pub(super) struct Background(pub(super) Arc<Session>);

impl Replies for Background {
    fn send(&self, message: Outbound) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.0.post(&message).await.map_err(|failed| match failed {
                Failed::Error(error) | Failed::NotSession(error) => error,
                Failed::Expired => {
                    Error::new(ErrorKind::Unavailable, "the server has lost the session")
                }
            })
        })
    }

    fn try_send(&self, message: Outbound) {
        let session = Arc::clone(&self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // It may be lost: a server that is gone has cancelled by itself.
                let _ = session.post(&message).await;
            });
        }
    }
}

/// Reads the answer of a reply that nothing else needs to be read from.
async fn first_answer(reply: Reply, id: &Id) -> Result<Result<Response, Error>, Error> {
    let of = |message| match message {
        Message::Response(answered, response) if answered == *id => Some(Ok(response)),
        Message::Error(_, error) => Some(Err(error)),
        _ => None,
    };
    if !reply.is_events() {
        return of(reply.message().await?).ok_or_else(no_answer);
    }
    let mut events = reply.events();
    while let Some(event) = events.next().await? {
        if let Some(answer) = event_message(&event)?.and_then(of) {
            events.finish();
            return Ok(answer);
        }
    }
    Err(no_answer())
}

fn is_answer(message: &Message) -> bool {
    matches!(message, Message::Response(..) | Message::Error(..))
}

fn no_answer() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server ended its answer before the result",
    )
}

/// Whether an answer says that the session is unknown: 404, or 400 with words about it from older servers.
fn is_expired(refused: &Refused, headers: &[(HeaderName, HeaderValue)]) -> bool {
    let with_session = headers.iter().any(|(name, _)| *name == SESSION_ID);
    with_session
        && (refused.status == StatusCode::NOT_FOUND
            || (refused.status == StatusCode::BAD_REQUEST
                && refused
                    .error
                    .message()
                    .to_ascii_lowercase()
                    .contains("session")))
}

/// Tells a server that does not know `initialize` from one that is out of reach.
fn not_session(refused: Refused) -> Failed {
    match refused.status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            Failed::NotSession(refused.error)
        }
        _ => Failed::Error(refused.error),
    }
}
