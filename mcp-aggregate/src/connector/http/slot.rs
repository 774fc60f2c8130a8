//! Where the session of a client with a server of the session era is kept, and calls that find or open it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use http::Method as HttpMethod;
use mcp_core::{
    Backoff, Error, ErrorKind, Json, Method, Notification, Object, Request, Response,
    pipe::{Outbound, opening_level},
};
use tokio::time::{Duration, timeout};
use tokio_util::task::TaskTracker;

use super::{error::Failed, listen, session::Session, wire::Wire};
use crate::connector::{handshake, pool::Pooled, start::StartCell};

/// How long the first call of a session waits for the answer to the standalone stream.
const STREAM: Duration = Duration::from_millis(500);

/// The place of one session: empty before the first call, and again when the server has forgotten it.
pub(super) struct Slot {
    wire: Arc<Wire>,
    /// Whether clients of several principals share the session.
    shared: bool,
    cell: Arc<StartCell<Session, Failed>>,
    tasks: TaskTracker,
    /// The level that a client has set last, for the next session.
    level: Mutex<Option<String>>,
}

impl Slot {
    pub(super) fn new(wire: Arc<Wire>, shared: bool, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            wire,
            shared,
            cell: StartCell::new(),
            tasks,
            level: Mutex::default(),
        })
    }

    /// Returns the session, opening it where there is none.
    pub(super) async fn session(&self, request: &Request) -> Result<Arc<Session>, Failed> {
        let begin = || {
            let opening = open(
                Arc::clone(&self.wire),
                handshake::lasting(request)?,
                self.shared,
                self.level().clone(),
            );
            Ok(opening)
        };
        self.cell.get(&self.tasks, |_| true, begin).await
    }

    /// Opens the standalone stream before the first call that its client can be asked through, as clients do at once: a
    /// server may ask before the client listens, and some drop what they ask without a stream. That call waits a moment.
    async fn open_stream(self: &Arc<Self>, session: &Arc<Session>) {
        listen::start_stream(self, session);
        // Some servers answer with the first event only.
        let _ = timeout(STREAM, session.stream_answered.cancelled()).await;
        session.settle_stream();
    }

    /// Whether the server may ask the client of a request something.
    fn may_ask(&self, request: &Request) -> bool {
        let can_be_asked = ["sampling", "elicitation", "roots"];
        let capabilities = request.capabilities();
        !self.shared && can_be_asked.into_iter().any(|name| capabilities.has(name))
    }

    /// Whether the server may ask through a call, and the standalone stream that it may ask on has not been waited for.
    fn wants_stream(&self, session: &Session, request: &Request) -> bool {
        !session.is_stream_settled() && request.asker().is_some() && self.may_ask(request)
    }

    pub(super) fn is_open(&self) -> bool {
        self.cell.current().is_some()
    }

    /// Returns a backoff for a stream that breaks.
    pub(super) fn backoff(&self) -> Backoff {
        self.wire.backoff()
    }

    fn level(&self) -> MutexGuard<'_, Option<String>> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that the server does not know a session any more.
    pub(super) fn expire(&self, session: &Arc<Session>) {
        self.cell.forget(session);
        session.close();
    }
}

impl Pooled for Arc<Slot> {
    fn end(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.cell.abort();
            let Some(session) = self.cell.take() else {
                return;
            };
            session.close();
            let ended = self
                .wire
                .bare(HttpMethod::DELETE, &session.opener, &session.headers);
            // A server that cannot end sessions ends them by their age.
            let _ = timeout(self.wire.stop, ended).await;
        })
    }
}

/// Opens a session and sets the level of its log messages.
async fn open(
    wire: Arc<Wire>,
    request: Request,
    shared: bool,
    level: Option<String>,
) -> Result<Arc<Session>, Failed> {
    let session = Arc::new(Session::open(&wire, &request, shared).await?);
    let level = match level {
        Some(level) => {
            let mut params = Object::default();
            params.set("level", Json::string(&level));
            let set = Request::from_object(Method::SET_LEVEL, Some(params))?;
            Some(set.with_context_of(&session.opener))
        }
        None if shared => None,
        None => opening_level(&session.opener, &session.discovered),
    };
    if let Some(level) = level {
        // A server that takes no levels logs as it likes.
        let _ = session.exchange(&level).await;
    }
    Ok(session)
}

/// Makes a call in the session of its client.
pub(super) async fn call(slot: &Arc<Slot>, request: &Request) -> Result<Response, Failed> {
    if *request.method() == Method::SUBSCRIPTIONS_LISTEN {
        return Box::pin(listen::call(slot, request)).await;
    }
    let session = match slot.cell.current() {
        Some(session) => session,
        None => {
            let session = Box::pin(slot.session(request)).await?;
            // Some servers ask as soon as the session stands. What comes before a call that can be asked through is held.
            if slot.may_ask(request) {
                listen::start_stream(slot, &session);
            }
            session
        }
    };
    if slot.wants_stream(&session, request) {
        Box::pin(slot.open_stream(&session)).await;
    }
    match attempt(&session, slot, request).await {
        // Boxed, so that a call that goes well is small.
        Err(Failed::Expired(error)) => {
            slot.expire(&session);
            Box::pin(call_again(slot, request, error)).await
        }
        other => other,
    }
}

/// Makes a call again in a new session, if that is safe. `lost` is what the server said to the first attempt.
async fn call_again(slot: &Arc<Slot>, request: &Request, lost: Error) -> Result<Response, Failed> {
    if !is_repeatable(request) {
        // It may be a refusal for another reason, which a new session does not mend.
        return Err(Failed::Error(match lost.kind() {
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => lost,
            _ => Error::new(
                ErrorKind::NotSent,
                "the server has lost the session and has not acted on the call; call again to continue in a new session",
            )
            .with_source(lost),
        }));
    }
    let session = slot.session(request).await?;
    if slot.wants_stream(&session, request) {
        slot.open_stream(&session).await;
    }
    match attempt(&session, slot, request).await {
        // What is said of a new session as well is not about sessions.
        Err(Failed::Expired(error)) => {
            slot.expire(&session);
            Err(Failed::Error(error))
        }
        other => other,
    }
}

/// Whether a call that the server has not acted on, as far as is known, is sent again.
pub(super) fn is_repeatable(request: &Request) -> bool {
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
        *slot.level() = request.param("level").and_then(|level| level.to_text());
    }
    Ok(answer)
}
