//! A session of the session era and everything that belongs to it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Duration, Instant},
};

use super::log::StreamLog;
use crate::{
    ClientCapabilities, Error, ErrorKind, Json, LogLevel, Principal, ProtocolVersion, Request,
    Response, SessionKey,
    front::initialize::{self, Opening},
    jsonrpc::Id,
};

/// The number of the stream that a GET opens; answers to POSTs count from 1.
pub(super) const STANDING: u64 = 0;

/// How many finished streams are kept for clients that come back, and how long.
const KEPT_STREAMS: usize = 16;
const KEPT_FOR: Duration = Duration::from_secs(60);

pub(super) struct Session {
    pub(super) key: SessionKey,
    pub(super) principal: Principal,
    pub(super) version: ProtocolVersion,
    capabilities: ClientCapabilities,
    client_info: Option<Json>,
    epoch: Instant,
    /// Milliseconds since the epoch.
    last_seen: AtomicU64,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log_level: Option<LogLevel>,
    /// Calls in progress, by the client's id.
    calls: HashMap<Id, oneshot::Sender<()>>,
    /// Questions that the client has not answered.
    questions: HashMap<u64, oneshot::Sender<Result<Json, Error>>>,
    streams: Vec<(Arc<StreamLog>, Option<Instant>)>,
    standing: Option<Arc<StreamLog>>,
    listener: Option<AbortHandle>,
    subscriptions: HashMap<Box<str>, AbortHandle>,
}

impl Session {
    pub(super) fn new(key: SessionKey, principal: Principal, opening: Opening) -> Arc<Self> {
        Arc::new(Self {
            key,
            principal,
            version: opening.version,
            capabilities: opening.capabilities,
            client_info: opening.client_info,
            epoch: Instant::now(),
            last_seen: AtomicU64::new(0),
            next: AtomicU64::new(1),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a number that no other stream or question of this session has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Completes a request with the facts of this session.
    pub(super) fn complete(&self, request: Request) -> Request {
        let mut request = request
            .with_principal(self.principal.clone())
            .with_version(self.version.clone())
            .with_capabilities(self.capabilities.clone())
            .with_session(self.key.clone())
            .with_log_level(self.lock().log_level);
        if let Some(info) = &self.client_info {
            request = request.with_client_info(info.clone());
        }
        request
    }

    pub(super) fn set_log_level(&self, level: LogLevel) {
        self.lock().log_level = Some(level);
    }

    /// Composes the answer to the session's `initialize`.
    pub(super) fn opening_answer(&self, discovered: &Response) -> Json {
        initialize::answer(&self.version, discovered)
    }

    /// Notes that the client is there.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_seen.store(now, Ordering::Relaxed);
    }

    /// Returns since when the client has not been heard of; `None` while it waits for something.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        let busy = !state.calls.is_empty()
            || state
                .standing
                .as_ref()
                .is_some_and(|standing| Arc::strong_count(standing) > 2);
        let last_seen = Duration::from_millis(self.last_seen.load(Ordering::Relaxed));
        (!busy).then(|| self.epoch + last_seen)
    }
}

/// Calls in progress.
impl Session {
    /// Notes a call, so that the client can cancel it by its id. The receiver completes when it does.
    ///
    /// Fails for an id that another call in progress has.
    pub(super) fn begin(
        self: &Arc<Self>,
        id: &Id,
    ) -> Result<(oneshot::Receiver<()>, CallGuard), Error> {
        let (cancel, cancelled) = oneshot::channel();
        let mut state = self.lock();
        if state.calls.contains_key(id) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "a request with this id is in progress in this session",
            ));
        }
        state.calls.insert(id.clone(), cancel);
        drop(state);
        let guard = CallGuard {
            session: Arc::clone(self),
            id: id.clone(),
        };
        Ok((cancelled, guard))
    }

    /// Cancels a call. An id that is not in progress is ignored, as the specification says.
    pub(super) fn cancel(&self, id: &Id) {
        if let Some(call) = self.lock().calls.remove(id) {
            // An error says that the call is just over.
            let _ = call.send(());
        }
    }
}

/// Forgets a call when it is over.
pub(super) struct CallGuard {
    session: Arc<Session>,
    id: Id,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.session.lock().calls.remove(&self.id);
    }
}

/// Questions to the client.
impl Session {
    /// Notes a question and returns the number that its answer will carry.
    pub(super) fn ask(&self, answer: oneshot::Sender<Result<Json, Error>>) -> u64 {
        let number = self.number();
        self.lock().questions.insert(number, answer);
        number
    }

    /// Takes the client's answer to a question. An answer that nobody waits for is ignored.
    pub(super) fn answered(&self, id: &Id, answer: Result<Json, Error>) {
        let Some(number) = id.as_number() else { return };
        if let Some(waiting) = self.lock().questions.remove(&number) {
            let _ = waiting.send(answer);
        }
    }

    /// Takes a question back.
    pub(super) fn withdraw(&self, number: u64) -> bool {
        self.lock().questions.remove(&number).is_some()
    }
}

/// Streams.
impl Session {
    /// Opens the stream of an answer.
    pub(super) fn open_stream(&self) -> Arc<StreamLog> {
        let log = StreamLog::new(self.number());
        let now = Instant::now();
        let mut state = self.lock();
        for (log, finished) in &mut state.streams {
            if finished.is_none() && log.is_finished() {
                *finished = Some(now);
            }
        }
        state
            .streams
            .retain(|(_, finished)| finished.is_none_or(|at| now - at < KEPT_FOR));
        if state.streams.len() >= KEPT_STREAMS {
            let oldest = state.streams.iter().position(|(log, _)| log.is_finished());
            if let Some(oldest) = oldest {
                state.streams.remove(oldest);
            }
        }
        state.streams.push((Arc::clone(&log), None));
        log
    }

    /// Returns the stream that a GET reads, and whether it is new.
    pub(super) fn standing(&self) -> Arc<StreamLog> {
        let mut state = self.lock();
        let standing = state
            .standing
            .get_or_insert_with(|| StreamLog::new(STANDING));
        Arc::clone(standing)
    }

    /// Finds the stream that a client wants to go on reading.
    pub(super) fn stream(&self, id: u64) -> Option<Arc<StreamLog>> {
        let state = self.lock();
        if id == STANDING {
            return state.standing.clone();
        }
        let found = state.streams.iter().find(|(log, _)| log.id() == id)?;
        Some(Arc::clone(&found.0))
    }
}

/// What the session listens to.
impl Session {
    /// Takes the handle of the task that listens for list changes, unless there is one already.
    pub(super) fn listen(&self, start: impl FnOnce() -> AbortHandle) {
        let mut state = self.lock();
        if state.listener.is_none() {
            state.listener = Some(start());
        }
    }

    /// Keeps the handle of a subscription; one to the same resource ends.
    pub(super) fn subscribed(&self, uri: &str, handle: AbortHandle) {
        if let Some(earlier) = self.lock().subscriptions.insert(uri.into(), handle) {
            earlier.abort();
        }
    }

    /// Ends a subscription. Returns whether there was one.
    pub(super) fn unsubscribe(&self, uri: &str) -> bool {
        match self.lock().subscriptions.remove(uri) {
            Some(subscription) => {
                subscription.abort();
                true
            }
            None => false,
        }
    }

    /// Ends everything that belongs to the session.
    pub(super) fn close(&self) {
        self.key.close();
        let mut state = self.lock();
        let state = std::mem::take(&mut *state);
        // Dropping the senders of `calls` cancels the calls.
        for handle in state.subscriptions.into_values().chain(state.listener) {
            handle.abort();
        }
        for log in state
            .streams
            .into_iter()
            .map(|(log, _)| log)
            .chain(state.standing)
        {
            log.finish();
        }
    }
}
