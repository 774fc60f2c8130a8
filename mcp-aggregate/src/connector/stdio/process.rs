//! One running process and the conversation with it.

use std::{process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mcp_core::{
    ClientCapabilities, Era, Error, ErrorKind, Json, Method, Notification, Request, Response,
    SessionKey,
    jsonrpc::{self, Id},
    lines,
    pipe::{Outbound, Pipe, Replies, Wire, opening_level},
};
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Settings,
    stderr::{self, Tail},
    supervisor::{Supervisor, with_tail},
};
use crate::connector::{SessionScope, handshake, meta};

/// How long a process that ought to speak revision 2026-07-28 may take to say so before it is asked otherwise.
const PROBE: Duration = Duration::from_secs(10);

/// How long the end of a process whose handshake failed is waited for, to say why it failed.
const ENDING: Duration = Duration::from_secs(5);

/// How many messages may wait to be written.
const WAITING: usize = 64;

pub(super) struct Process {
    pipe: Pipe,
    era: Era,
    discovered: Response,
    started: Instant,
    ended: watch::Receiver<Option<Instant>>,
    _stop: DropGuard,
    stop: CancellationToken,
    /// The process no longer reads its input.
    broken: CancellationToken,
}

impl Process {
    /// Starts a process for the client of a request, and shakes hands.
    pub(super) async fn start(
        settings: &Settings,
        tasks: &TaskTracker,
        request: &Request,
    ) -> Result<Arc<Self>, Error> {
        let client = request
            .session()
            .filter(|_| settings.scope != SessionScope::Shared);
        let started = Started::run(settings, tasks, client.cloned())?;
        // Whatever fails from here on stops the process.
        let guard = started.stop.clone().drop_guard();
        let hands = timeout(
            settings.timing.start,
            shake_hands(&started.pipe, settings, request),
        );
        let (era, discovered) = match hands.await {
            Ok(Ok(settled)) => settled,
            Ok(Err(error)) => return Err(started.why(error).await),
            Err(_) => return Err(started.too_slow(settings)),
        };
        Ok(Arc::new(Self {
            pipe: started.pipe,
            era,
            discovered,
            started: Instant::now(),
            ended: started.ended,
            _stop: guard,
            stop: started.stop,
            broken: started.broken,
        }))
    }

    pub(super) fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    pub(super) fn era(&self) -> Era {
        self.era
    }

    pub(super) fn discovered(&self) -> Response {
        self.discovered.clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some() || self.stop.is_cancelled() || self.broken.is_cancelled()
    }

    /// Returns for how long the process has served, when it ended, and why, with its exit status and the tail of its stderr.
    pub(super) fn end(&self) -> (Duration, Instant, Option<Error>) {
        let ended = self.ended.borrow().unwrap_or_else(Instant::now);
        let served = ended.saturating_duration_since(self.started);
        (served, ended, self.pipe.inbox().closed())
    }

    /// Stops the process and waits until it has ended.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let mut ended = self.ended.clone();
        // An error says that the supervisor is gone, and the process with it.
        let _ = ended.wait_for(Option::is_some).await;
    }
}

/// A process with its tasks, before anything was said.
struct Started {
    pipe: Pipe,
    stop: CancellationToken,
    broken: CancellationToken,
    tail: Tail,
    ended: watch::Receiver<Option<Instant>>,
}

impl Started {
    fn run(
        settings: &Settings,
        tasks: &TaskTracker,
        client: Option<SessionKey>,
    ) -> Result<Self, Error> {
        let mut child = spawn(settings)?;
        let guards = settings.processes.guards();
        let guard = child.id().map(|group| guards.watch(group));
        let streams = (
            child.stdin().take(),
            child.stdout().take(),
            child.stderr().take(),
        );
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(Error::new(
                ErrorKind::Internal,
                "the process has no standard streams",
            ));
        };
        let tail = Tail::default();
        let secrets = settings.command.secrets();
        let reading = stderr::read(stderr, tail.clone(), settings.id.clone(), secrets);
        let (sender, messages) = mpsc::channel(WAITING);
        let pipe = Pipe::new(Lined(sender.downgrade())).for_client(client);
        let stop = CancellationToken::new();
        let (ended, has_ended) = watch::channel(None);
        let broken = CancellationToken::new();
        let (breaks, writing) = (broken.clone(), lines::write(stdin, messages));
        tokio::spawn(async move {
            if writing.await.is_err() {
                breaks.cancel();
            }
        });
        let supervisor = Supervisor {
            id: settings.id.clone(),
            child,
            pipe: pipe.clone(),
            sender: Some(sender),
            errors: tokio::spawn(reading),
            stop: stop.clone(),
            broken: broken.clone(),
            tail: tail.clone(),
            grace: settings.timing.stop,
            ended,
            guard,
        };
        tasks.spawn(supervisor.run(stdout, settings.limit));
        Ok(Self {
            pipe,
            stop,
            broken,
            tail,
            ended: has_ended,
        })
    }

    /// Says why the handshake failed: where the process has ended, by its exit status and the tail of its stderr.
    async fn why(&self, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::NotSent | ErrorKind::Unavailable) {
            return error;
        }
        let mut ended = self.ended.clone();
        // An error says that the supervisor is gone; a process that still runs explains nothing.
        let _ = timeout(ENDING, ended.wait_for(Option::is_some)).await;
        match self.pipe.inbox().closed() {
            // The call itself has not been sent: only the handshake has.
            Some(why) => Error::new(ErrorKind::NotSent, why.message().to_owned()).with_source(why),
            None => error,
        }
    }

    fn too_slow(&self, settings: &Settings) -> Error {
        let said = self.tail.text();
        let message = format!(
            "the server did not answer the handshake within {:?}",
            settings.timing.start
        );
        Error::new(ErrorKind::NotSent, with_tail(message, &said))
    }
}

fn spawn(settings: &Settings) -> Result<Box<dyn ChildWrapper>, Error> {
    let mut command = settings.command.to_process();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    settings.processes.guards().prepare(&mut command);
    let mut command = CommandWrap::from(command);
    command.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
    command.spawn().map_err(|error| {
        let program = settings.command.program().to_string_lossy().into_owned();
        Error::new(
            ErrorKind::NotSent,
            format!("cannot start {program:?}: {error}"),
        )
        .with_source(error)
    })
}

/// Settles which era is spoken: the client's where the server speaks it (revision 2026-07-28, stdio).
async fn shake_hands(
    pipe: &Pipe,
    settings: &Settings,
    request: &Request,
) -> Result<(Era, Response), Error> {
    if request.era() == Era::Stateless {
        match timeout(PROBE, discover(pipe, request)).await {
            Ok(Ok(discovered)) => return Ok((Era::Stateless, discovered)),
            // A process that has ended cannot be asked otherwise.
            Ok(Err(error)) if pipe.inbox().closed().is_some() => return Err(error),
            _ => {}
        }
    }
    match initialize(pipe, settings, request).await {
        Ok(discovered) => Ok((Era::Session, discovered)),
        Err(refused) if refused.kind() == ErrorKind::Answered => {
            match discover(pipe, request).await {
                Ok(discovered) => Ok((Era::Stateless, discovered)),
                Err(_) => Err(refused),
            }
        }
        Err(error) => Err(error),
    }
}

async fn discover(pipe: &Pipe, request: &Request) -> Result<Response, Error> {
    let mut probe =
        Request::new(Method::DISCOVER, Some(Json::EMPTY_OBJECT))?.with_context_of(request);
    meta::complete(&mut probe);
    let answer = pipe.call(probe.without_call()).await?;
    match meta::is_discovery(&answer) {
        true => Ok(answer),
        false => Err(Error::new(
            ErrorKind::BadUpstream,
            "the server does not say that it speaks revision 2026-07-28",
        )),
    }
}

async fn initialize(
    pipe: &Pipe,
    settings: &Settings,
    request: &Request,
) -> Result<Response, Error> {
    let capabilities = match settings.scope {
        SessionScope::Shared => ClientCapabilities::NONE,
        _ => request.capabilities().clone(),
    };
    let params = handshake::opening(request, &capabilities);
    let initialize = Request::from_object(Method::INITIALIZE, Some(params))?
        .with_context_of(request)
        .without_call();
    let discovered = handshake::opened(&pipe.call(initialize).await?)?;
    pipe.notify(Notification::new(Method::INITIALIZED, None))
        .await?;
    let level = opening_level(request, &discovered);
    if let Some(level) = level.filter(|_| settings.scope != SessionScope::Shared) {
        // A server that takes no levels logs as it likes.
        let _ = pipe.call(level).await;
    }
    Ok(discovered)
}

/// Writes messages as lines. The supervisor has the only sender that keeps the input of the process open.
struct Lined(mpsc::WeakSender<Bytes>);

impl Lined {
    fn push(&self, line: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        let sender = self.0.upgrade();
        Box::pin(async move {
            let closed = || Error::new(ErrorKind::NotSent, "the server has ended");
            sender
                .ok_or_else(closed)?
                .send(line)
                .await
                .map_err(|_| closed())
        })
    }
}

impl Wire for Lined {
    fn request<'a>(&'a self, id: u64, request: &'a Request) -> BoxFuture<'a, Result<(), Error>> {
        let id = Id::number(id);
        self.push(jsonrpc::write_request(&id, request.method(), request.params()).into())
    }
}

impl Replies for Lined {
    fn send(&self, message: Outbound) -> BoxFuture<'_, Result<(), Error>> {
        self.push(message.to_message())
    }

    fn try_send(&self, message: Outbound) {
        if let Some(sender) = self.0.upgrade() {
            // It may be lost where the process does not read.
            let _ = sender.try_send(message.to_message());
        }
    }
}
