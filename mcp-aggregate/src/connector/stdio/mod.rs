//! Servers that are child processes, spoken to over their standard input and output.
//!
//! A process is started by the first call that needs it, runs for one [`SessionScope`], and is started again by
//! the next call after it has ended. One that had run for some seconds is started again at once, one that ended sooner after a
//! backoff of at most 750 ms, one that did not answer the handshake after a backoff of up to [`Timing::backoff_longest`]. A start continues when the call
//! that caused it is dropped, and calls that come meanwhile share it.
//!
//! A process stops when its session ends, when it has been idle for a while, to make room at a bound, and when the connector is
//! shut down or dropped: first its input is closed, then its process group is sent SIGTERM, then SIGKILL. What is left of
//! its group when this program ends without a shutdown is killed too: see [`Processes`].
//!
//! The process inherits the variables that a program needs to run (`PATH`, `HOME`, locale, temporary folder) and
//! none else, so that secrets of this process do not reach it.

mod builder;
mod command;
mod guard;
mod process;
mod processes;
mod redact;
mod slot;
mod stderr;
mod supervisor;
#[cfg(unix)]
mod watchdog;

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use mcp_core::{Era, Error, Method, Request, Response, Timing, UpstreamId};
use tower_service::Service;

pub use self::{builder::StdioConnectorBuilder, command::Command, processes::Processes};
use self::{process::Process, slot::ProcessSlot};
use super::{SessionScope, lifecycle::State, meta, pool::Pool, turns::Turns};

/// A server that is a child process, as a service of the seam. Clones share the processes.
#[derive(Clone)]
pub struct StdioConnector(Arc<Shared>);

struct Shared {
    settings: Arc<Settings>,
    pool: Pool<ProcessSlot>,
    turns: Turns,
    state: State,
}

/// What every process of a connector has in common.
struct Settings {
    id: UpstreamId,
    command: Command,
    scope: SessionScope,
    limit: usize,
    timing: Timing,
    processes: Processes,
}

impl StdioConnector {
    /// Begins a connector that runs a command.
    pub fn builder(id: UpstreamId, command: Command) -> StdioConnectorBuilder {
        StdioConnectorBuilder::new(id, command)
    }

    async fn answer(self, mut request: Request) -> Result<Response, Error> {
        meta::drop_nulls(&mut request);
        let answer = async {
            let slot = self.0.pool.lease(self.0.settings.scope, &request, || {
                ProcessSlot::new(Arc::clone(&self.0.settings), self.0.pool.tasks().clone())
            })?;
            let _turn = self.0.turns.wait(&request).await;
            let process = slot.process(&request).await?;
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

    pub(super) fn lifecycle_state(&self) -> &State {
        &self.0.state
    }

    /// Returns whether the client of a request has a process.
    pub(super) fn has_slot(&self, request: &Request) -> bool {
        self.0.pool.has(self.0.settings.scope, request)
    }

    /// Returns whether the client of a request has a process that has answered its handshake.
    pub(super) fn has_started(&self, request: &Request) -> bool {
        let scope = self.0.settings.scope;
        self.0.pool.is(scope, request, ProcessSlot::is_running)
    }

    /// Stops all processes and waits until they have ended, those among them whose session had ended before. Later calls are
    /// refused.
    pub async fn shutdown(&self) {
        self.0.pool.shut_down().await;
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
