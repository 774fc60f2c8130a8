//! Where the session of a client with a server of the session era is kept, and calls that find or open it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use http::Method as HttpMethod;
use mcp_core::{
    Error, ErrorKind, Method, Notification, Object, Request, Response,
    pipe::{Outbound, opening_level},
};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Duration, timeout},
};

use super::{error::Failed, listen, session::Session, wire::Wire};
use crate::connector::ScopeKey;

/// The place of one session: empty before the first call, and again when the server has forgotten it.
pub(super) struct Slot {
    key: ScopeKey,
    current: ArcSwapOption<Session>,
    /// Held while a session is opened. Callers that come meanwhile wait.
    opening: AsyncMutex<()>,
    /// The parameters of the last `logging/setLevel`, for the next session.
    level: Mutex<Option<Object>>,
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
                Request::from_object(Method::SET_LEVEL, Some(set))?
                    .with_context_of(&session.opener),
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

    fn level(&self) -> MutexGuard<'_, Option<Object>> {
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
        // Boxed, so that a call that goes well is small.
        Err(Failed::Expired(error)) => {
            slot.expire(&session);
            Box::pin(call_again(slot, wire, request, error)).await
        }
        other => other,
    }
}

/// Makes a call again in a new session, if that is safe. `lost` is what the server said to the first attempt.
async fn call_again(
    slot: &Arc<Slot>,
    wire: &Arc<Wire>,
    request: &Request,
    lost: Error,
) -> Result<Response, Failed> {
    if !is_repeatable(request) {
        // It may be a refusal for another reason, which a new session does not mend.
        return Err(Failed::Error(match lost.kind() {
            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied => lost,
            _ => Error::new(
                ErrorKind::NotSent,
                "the server has lost the session and has not acted on the call; call again to go on in a new session",
            )
            .with_source(lost),
        }));
    }
    let session = slot.session(wire, request).await?;
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
        *slot.level() = request.params().cloned();
    }
    Ok(answer)
}
