//! One running process and the conversation with it.

use std::{
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mcp_core::{
    ClientCapabilities, Era, Error, ErrorKind, Json, Method, Notification, Request, Response,
    SessionKey, UpstreamId,
    jsonrpc::{self, Glimpse, Id, Message},
    lines::{self, Line, Lines},
    pipe::{Outbound, Pipe, Replies, Wire, opening_level},
};
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::{
    process::ChildStdout,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Settings,
    stderr::{self, Tail},
};
use crate::connector::{SessionScope, handshake, meta};

/// How long a process is given after its input was closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

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
    epoch: Instant,
    /// Milliseconds since the epoch.
    last_used: Arc<AtomicU64>,
    ended: watch::Receiver<bool>,
    _stop: DropGuard,
    stop: CancellationToken,
    /// The process no longer reads its input.
    broken: CancellationToken,
}

impl Process {
    /// Starts a process for the client of a request, and shakes hands.
    pub(super) async fn start(settings: &Settings, request: &Request) -> Result<Arc<Self>, Error> {
        let client = request
            .session()
            .filter(|_| settings.scope != SessionScope::Shared);
        let started = Started::run(settings, client.cloned())?;
        // Whatever fails from here on stops the process.
        let guard = started.stop.clone().drop_guard();
        let hands = timeout(
            settings.start,
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
            epoch: started.epoch,
            last_used: started.last_used,
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
        *self.ended.borrow() || self.stop.is_cancelled() || self.broken.is_cancelled()
    }

    /// Returns why the process has ended, with its exit status and the tail of its stderr.
    pub(super) fn why_ended(&self) -> Option<Error> {
        self.pipe.inbox().closed()
    }

    /// Notes that the process is of use.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_used.store(now, Ordering::Relaxed);
    }

    /// Stops the process and waits until it has ended.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let mut ended = self.ended.clone();
        // An error says that the supervisor is gone, and the process with it.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// A process with its tasks, before anything was said.
struct Started {
    pipe: Pipe,
    stop: CancellationToken,
    broken: CancellationToken,
    tail: Tail,
    ended: watch::Receiver<bool>,
    last_used: Arc<AtomicU64>,
    epoch: Instant,
}

impl Started {
    fn run(settings: &Settings, client: Option<SessionKey>) -> Result<Self, Error> {
        let mut child = spawn(settings)?;
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
        let reading = stderr::read(stderr, tail.clone(), settings.id.clone(), secrets.clone());
        let (sender, messages) = mpsc::channel(WAITING);
        let pipe = Pipe::new(Lined(sender.downgrade())).for_client(client);
        let stop = CancellationToken::new();
        let (ended, has_ended) = watch::channel(false);
        let last_used = Arc::new(AtomicU64::new(0));
        let epoch = Instant::now();
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
            secrets,
            ended,
            idle: settings.idle,
            last_used: Arc::clone(&last_used),
            epoch,
        };
        tokio::spawn(supervisor.run(stdout, settings.limit));
        Ok(Self {
            pipe,
            stop,
            broken,
            tail,
            ended: has_ended,
            last_used,
            epoch,
        })
    }

    /// Says why the handshake failed: where the process has ended, by its exit status and the tail of its stderr.
    async fn why(&self, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::NotSent | ErrorKind::Unavailable) {
            return error;
        }
        let mut ended = self.ended.clone();
        // An error says that the supervisor is gone; a process that goes on running explains nothing.
        let _ = timeout(ENDING, ended.wait_for(|ended| *ended)).await;
        match self.pipe.inbox().closed() {
            // The call itself has not been sent: only the handshake has.
            Some(why) => Error::new(ErrorKind::NotSent, why.message().to_owned()).with_source(why),
            None => error,
        }
    }

    fn too_slow(&self, settings: &Settings) -> Error {
        let said = self.tail.text(&settings.command.secrets());
        let message = format!(
            "the server did not answer the handshake within {:?}",
            settings.start
        );
        Error::new(ErrorKind::NotSent, with_tail(message, &said))
    }
}

/// Adds the tail of stderr, if there is any, to a message.
fn with_tail(message: String, said: &str) -> String {
    match said.is_empty() {
        true => message,
        false => format!("{message}; the end of its stderr: {said}"),
    }
}

fn spawn(settings: &Settings) -> Result<Box<dyn ChildWrapper>, Error> {
    let mut command = settings.command.to_process();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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

/// Owns the process: reads what it says, and sees to it that it ends.
struct Supervisor {
    id: UpstreamId,
    child: Box<dyn ChildWrapper>,
    pipe: Pipe,
    /// Taken out to close the input of the process.
    sender: Option<mpsc::Sender<Bytes>>,
    errors: JoinHandle<()>,
    stop: CancellationToken,
    broken: CancellationToken,
    tail: Tail,
    secrets: Vec<String>,
    ended: watch::Sender<bool>,
    idle: Duration,
    last_used: Arc<AtomicU64>,
    epoch: Instant,
}

impl Supervisor {
    async fn run(mut self, stdout: ChildStdout, limit: usize) {
        let mut lines = Lines::new(stdout, limit);
        let mut tick = interval((self.idle / 4).max(Duration::from_millis(100)));
        let stop = self.stop.clone();
        let broken = self.broken.clone();
        // What it has written before it stopped reading is still of use.
        let deaf = async move {
            broken.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::pin!(deaf);
        let reason = loop {
            tokio::select! {
                line = lines.next() => match line {
                    Ok(Some(Line::Whole(line))) => self.take(&line),
                    Ok(Some(_)) => self.pass_over(lines.head(), limit),
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                },
                () = &mut deaf => break None,
                () = stop.cancelled() => break Some("it was stopped".to_owned()),
                _ = tick.tick() => if self.is_idle() {
                    break Some("nobody has called it for a while".to_owned());
                },
            }
        };
        self.stop.cancel();
        let why = match reason {
            Some(reason) => {
                // Whoever waits need not wait for the end as well.
                self.close(&reason);
                self.end().await;
                reason
            }
            None => {
                let why = match self.end().await {
                    Some(status) => format!("it ended with {status}"),
                    None => "it closed its input or output and was stopped".to_owned(),
                };
                // What it said last explains why it ended.
                let _ = timeout(Duration::from_millis(250), &mut self.errors).await;
                self.close(&why);
                why
            }
        };
        tracing::debug!(upstream = %self.id, reason = %why, "process ended");
        self.ended.send_replace(true);
    }

    /// Takes a line that the process has written.
    fn take(&self, line: &Bytes) {
        match Message::parse_any(line) {
            Ok(messages) => messages.for_each(|message| self.pipe.receive(message, None)),
            Err(malformed) => {
                // Some servers print what is not a message; no call waits for it.
                tracing::debug!(upstream = %self.id, error = %malformed.error, "a line that is not a message");
                if let Some(call) = Glimpse::of(line).answered() {
                    let error = Error::new(
                        ErrorKind::BadUpstream,
                        "the server's answer is not a JSON-RPC message",
                    );
                    let error = error.with_source(malformed.error);
                    self.pipe.inbox().fail(Some(call), error);
                }
            }
        }
    }

    /// Fails the call whose answer is longer than allowed: the one that its beginning names, else the oldest.
    fn pass_over(&self, head: &Bytes, limit: usize) {
        let glimpse = Glimpse::of(head);
        tracing::warn!(upstream = %self.id, limit, "a line that is longer than allowed is passed over");
        if glimpse.has_method || head.first() != Some(&b'{') {
            return;
        }
        let message = format!("the server answered with a message of more than {limit} bytes");
        let error = Error::new(ErrorKind::TooLarge, message);
        self.pipe.inbox().fail(glimpse.answered(), error);
    }

    /// Fails every call in progress.
    fn close(&self, why: &str) {
        let said = self.tail.text(&self.secrets);
        let message = with_tail(format!("the server is not running: {why}"), &said);
        let error = Error::new(ErrorKind::Unavailable, message).with_upstream(self.id.clone());
        self.pipe.close(&error);
    }

    fn is_idle(&self) -> bool {
        let last_used = Duration::from_millis(self.last_used.load(Ordering::Relaxed));
        self.pipe.inbox().is_empty() && self.epoch.elapsed().saturating_sub(last_used) > self.idle
    }

    /// Ends the process and everything that it has started.
    async fn end(&mut self) -> Option<ExitStatus> {
        // Closing the input is the polite way.
        self.sender = None;
        let mut status = self.wait().await;
        #[cfg(unix)]
        if status.is_none() && self.child.signal(TERMINATE).is_ok() {
            status = self.wait().await;
        }
        // What it has started itself may still run. An error says that nothing does.
        let _ = self.child.start_kill();
        match status {
            None => self.wait().await,
            known => known,
        }
    }

    async fn wait(&mut self) -> Option<ExitStatus> {
        timeout(GRACE, self.child.wait()).await.ok()?.ok()
    }
}

/// SIGTERM (POSIX.1-2017, signal.h).
#[cfg(unix)]
const TERMINATE: i32 = 15;
