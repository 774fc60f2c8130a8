//! Servers that are child processes, spoken to over their standard input and output.
//!
//! A process is started by the first call that needs it, runs for one [`SessionScope`], and is started again by
//! the next call after it has ended, not sooner than a growing pause after the last start. It stops when its
//! session ends, when nobody has called it for a while, and when the connector is shut down or dropped: first its
//! input is closed, then its process group is sent SIGTERM, then SIGKILL.
//!
//! The process inherits the variables that a program needs to run (`PATH`, `HOME`, locale, temporary folder) and
//! none else, so that secrets of this process do not reach it.

mod command;
mod process;
mod stderr;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use mcp_core::{Era, Error, ErrorKind, Method, Request, Response, UpstreamId};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use tower_service::Service;

pub use self::command::Command;
use self::process::Process;
use super::{ScopeKey, SessionScope, meta};

/// The longest pause before a process that keeps ending is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A process that ran this long has not failed to start.
const STABLE: Duration = Duration::from_secs(30);

/// A server that is a child process, as a service of the seam. Clones share the processes.
#[derive(Clone)]
pub struct StdioConnector(Arc<Shared>);

struct Shared {
    settings: Settings,
    state: super::lifecycle::State,
    slots: Mutex<HashMap<ScopeKey, Arc<Slot>>>,
}

/// What every process of a connector has in common.
pub(super) struct Settings {
    id: UpstreamId,
    command: Command,
    scope: SessionScope,
    limit: usize,
    start: Duration,
    idle: Duration,
}

/// The place of one process.
#[derive(Default)]
struct Slot {
    current: ArcSwapOption<Process>,
    /// Held while the process is started. Callers that come meanwhile wait.
    starting: AsyncMutex<Failures>,
}

/// How often a process has ended soon after its start.
#[derive(Default)]
struct Failures {
    count: u32,
    started: Option<Instant>,
    last: Option<Error>,
}

impl Failures {
    /// Returns how long the next start has to wait.
    fn pause(&self) -> Duration {
        let Some(started) = self.started.filter(|_| self.count > 0) else {
            return Duration::ZERO;
        };
        let pause = Duration::from_millis(250) * 2_u32.saturating_pow(self.count.min(12));
        pause.min(LONGEST_PAUSE).saturating_sub(started.elapsed())
    }

    /// Refuses a call that comes too soon after a failure, and says what the failure was. `ended` is why the process
    /// ended that was started last.
    fn later(&self, ended: Option<Error>, pause: Duration) -> Error {
        let last = self.last.clone().or(ended);
        let why = last
            .as_ref()
            .map_or("it ended soon after its last start", Error::message);
        let message =
            format!("the server keeps ending and is started again in {pause:.1?}; last: {why}");
        let error = Error::new(ErrorKind::NotSent, message).with_retry_after(pause);
        match last {
            Some(last) => error.with_source(last),
            None => error,
        }
    }
}

impl StdioConnector {
    /// Makes a connector that runs a command. Nothing is started.
    #[must_use]
    pub fn new(id: UpstreamId, command: Command) -> Self {
        Self::with(Settings {
            id,
            command,
            scope: SessionScope::PerPrincipal,
            limit: 16 << 20,
            start: Duration::from_secs(60),
            idle: Duration::from_secs(15 * 60),
        })
    }

    fn with(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            settings,
            state: super::lifecycle::State::default(),
            slots: Mutex::default(),
        }))
    }

    /// Sets who shares a process. Default is [`SessionScope::PerPrincipal`].
    #[must_use]
    pub fn with_scope(self, scope: SessionScope) -> Self {
        self.change(|settings| settings.scope = scope)
    }

    /// Sets the largest message that is accepted from the process, in bytes. Default is 16 MiB.
    #[must_use]
    pub fn with_message_limit(self, bytes: usize) -> Self {
        self.change(|settings| settings.limit = bytes)
    }

    /// Sets how long a process may take until it answers the handshake. Default is 60 s, since a package may
    /// have to be installed first.
    #[must_use]
    pub fn with_start_timeout(self, timeout: Duration) -> Self {
        self.change(|settings| settings.start = timeout)
    }

    /// Sets after how long without a call a process is stopped. Default is 15 minutes.
    #[must_use]
    pub fn with_idle_timeout(self, timeout: Duration) -> Self {
        self.change(|settings| settings.idle = timeout)
    }

    /// Settings are changed before the connector is shared; a shared one is left as it is.
    fn change(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            change(&mut shared.settings);
        }
        self
    }

    async fn answer(self, mut request: Request) -> Result<Response, Error> {
        let answer = async {
            let process = self.process(&request).await?;
            match process.era() {
                Era::Session => match *request.method() {
                    Method::DISCOVER => Ok(process.discovered()),
                    _ => process.pipe().call_session_era(request).await,
                },
                Era::Stateless => {
                    if request.is_notification() {
                        return Ok(Response::empty());
                    }
                    meta::complete(&mut request);
                    process.pipe().call(request).await
                }
            }
        };
        answer.await.map_err(|error| match error.upstream() {
            Some(_) => error,
            None => error.with_upstream(self.0.settings.id.clone()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ScopeKey, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the process of a request, starting it where there is none.
    async fn process(&self, request: &Request) -> Result<Arc<Process>, Error> {
        let key = self.0.settings.scope.key(request)?;
        let slot = {
            let mut slots = self.lock();
            match slots.get(&key) {
                Some(slot) => Arc::clone(slot),
                None => {
                    let slot = Arc::new(Slot::default());
                    slots.insert(key.clone(), Arc::clone(&slot));
                    self.stop_when_closed(key);
                    slot
                }
            }
        };
        if let Some(process) = slot.running() {
            return Ok(process);
        }
        let mut failures = slot.starting.lock().await;
        if let Some(process) = slot.running() {
            return Ok(process);
        }
        if failures
            .started
            .is_some_and(|started| started.elapsed() > STABLE)
        {
            failures.count = 0;
        }
        let pause = failures.pause();
        if !pause.is_zero() {
            return Err(failures.later(slot.why_ended(), pause));
        }
        failures.started = Some(Instant::now());
        match Process::start(&self.0.settings, request).await {
            Ok(process) => {
                // Counted until it has run for a while.
                failures.count += 1;
                failures.last = None;
                slot.current.store(Some(Arc::clone(&process)));
                Ok(process)
            }
            Err(error) => {
                failures.count += 1;
                failures.last = Some(error.clone());
                Err(error)
            }
        }
    }

    fn stop_when_closed(&self, key: ScopeKey) {
        let ScopeKey::Session(session) = &key else {
            return;
        };
        let (session, shared) = (session.clone(), Arc::downgrade(&self.0));
        tokio::spawn(async move {
            session.closed().await;
            if let Some(shared) = shared.upgrade() {
                // Dropping the slot stops its process.
                Self(shared).lock().remove(&key);
            }
        });
    }

    pub(super) fn lifecycle_state(&self) -> &super::lifecycle::State {
        &self.0.state
    }

    /// Returns whether the client of a request has a process.
    pub(super) fn has_slot(&self, request: &Request) -> bool {
        let key = self.0.settings.scope.key(request);
        key.is_ok_and(|key| self.lock().contains_key(&key))
    }

    /// Stops all processes and waits until they have ended.
    pub async fn shutdown(&self) {
        let slots: Vec<_> = self.lock().drain().map(|(_, slot)| slot).collect();
        let stopping = slots
            .iter()
            .filter_map(|slot| slot.current.swap(None))
            .map(|process| async move { process.stop().await });
        futures_util::future::join_all(stopping).await;
    }
}

impl Slot {
    fn running(&self) -> Option<Arc<Process>> {
        let process = self.current.load_full()?;
        if process.has_ended() {
            return None;
        }
        process.touch();
        Some(process)
    }

    /// Returns why the last process ended.
    fn why_ended(&self) -> Option<Error> {
        self.current.load().as_ref()?.why_ended()
    }
}

impl Service<Request> for StdioConnector {
    type Response = Response;
    type Error = Error;
    /// Boxed: a conversation with a process has no type with a name.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

impl fmt::Debug for StdioConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioConnector")
            .field("id", &self.0.settings.id)
            .field("command", &self.0.settings.command)
            .finish_non_exhaustive()
    }
}
