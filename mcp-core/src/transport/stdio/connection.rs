//! One client: its session, its calls and what is written to it.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Duration, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

use super::{StdioConfig, StdioTransport, WAITING};
use crate::{
    Era, Error, ErrorKind, Json, Method, Notification, Object, ProtocolVersion, Request, Response,
    Seam, SessionKey,
    handshake::Opening,
    jsonrpc::{self, Id, Malformed, Message},
    lines::Line,
    notifier::Outgoing,
    protocol::meta,
    transport::{
        call::{Call, Calls, Cancelled},
        exchange::{Exchange, Step},
        lifecycle::{self, Lifecycle, Phase},
        outlet::{self, Outlet},
        params,
        session::{Limits, Session, is_own},
        standalone,
        stateless::{self, ClientMeta, Origin},
        text,
    },
};

/// Where messages for the client wait to be written.
#[derive(Clone)]
struct Outbox {
    messages: mpsc::Sender<Bytes>,
    stall: Duration,
}

impl Outlet for Outbox {
    async fn push(&self, message: Bytes) {
        // A client that is gone needs no message.
        let _ = self.messages.send(message).await;
    }

    async fn push_paced(&self, message: Bytes) -> Result<(), Error> {
        match self.messages.send_timeout(message, self.stall).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Error::new(
                ErrorKind::Cancelled,
                "the client of this call is gone",
            )),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(outlet::stalled(self.stall)),
        }
    }
}

/// One client.
pub(super) struct Connection<S> {
    service: S,
    config: StdioConfig,
    lifecycle: Lifecycle,
    calls: Arc<Calls>,
    session: Arc<OnceLock<Arc<Session>>>,
    /// Cancelled once the session that is being opened is there, or is not to be.
    opening: CancellationToken,
    /// What the client has sent behind `initialize` without waiting for its answer.
    held: Option<Line>,
    /// The tasks that owe an answer. Subscriptions are none: they last as long as the client listens.
    answering: TaskTracker,
    outbox: Outbox,
    /// Notifications of the client on their way to the stack, in order.
    notifications: mpsc::Sender<Request>,
    /// Ends with the connection.
    pub(super) tasks: JoinSet<()>,
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if let Some(session) = self.session.get() {
            session.close();
        }
    }
}

impl<S: Seam> Connection<S> {
    pub(super) fn start(transport: &StdioTransport<S>, messages: mpsc::Sender<Bytes>) -> Self {
        let StdioTransport {
            service,
            config,
            lifecycle,
        } = transport.clone();
        let (notifications, mut arriving) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        let stack = service.clone();
        tasks.spawn(async move {
            while let Some(notification) = arriving.recv().await {
                // A notification has no answer, so an error has no reader.
                let _ = Exchange::start(&stack, notification, false).answer().await;
            }
        });
        Self {
            service,
            calls: Calls::new(config.bounds.calls_per_session.get()),
            session: Arc::default(),
            opening: ended(),
            held: None,
            answering: TaskTracker::new(),
            outbox: Outbox {
                messages,
                stall: config.timing.stall,
            },
            config,
            lifecycle,
            notifications,
            tasks,
        }
    }

    /// Answers all calls with an error, and waits for the answers to be written.
    pub(super) async fn close(&mut self) {
        self.calls.clear();
        let (closed, _) = mpsc::channel(1);
        // The task that brings notifications to the stack ends with its channel.
        self.notifications = closed;
        let flush = self.config.timing.flush;
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What is left is dropped.
        let _ = timeout(flush, all).await;
        self.take_held().await;
    }

    /// Answers what the client has sent before it closed its end, for as long as answers may take to be written.
    pub(super) async fn finish(&mut self, writing: &mut JoinSet<io::Result<()>>) -> io::Result<()> {
        self.answering.close();
        tokio::select! {
            () = self.answering.wait() => Ok(()),
            () = sleep(self.config.timing.flush) => Ok(()),
            written = super::written(writing) => written,
        }
    }

    /// Drops all calls. What is written already stays to be read.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    /// Returns whether a line waits for the session to be opened. None is to be taken before it.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Waits until the session that is being opened is there, or is not to be.
    pub(super) fn opened(&self) -> WaitForCancellationFutureOwned {
        self.opening.clone().cancelled_owned()
    }

    /// Takes the line that has waited for the session.
    pub(super) async fn take_held(&mut self) {
        if let Some(line) = self.held.take() {
            self.take(line).await;
        }
    }

    pub(super) async fn take(&mut self, line: Line) {
        if !self.opening.is_cancelled() && belongs_to_session(&line) {
            self.held = Some(line);
            return;
        }
        let Line::Whole(line) = line else {
            let error = Error::new(
                ErrorKind::TooLarge,
                "the line is longer than allowed; send less in one message",
            );
            return self.refuse(None, &error).await;
        };
        let line = text::without_mark(line);
        if line.trim_ascii_start().starts_with(b"[") {
            return self.batch(&line).await;
        }
        match Message::parse(&line).map(params::without_nulls) {
            Ok(Message::Request(id, method, params)) => self.request(id, method, params).await,
            Ok(Message::Notification(Method::INITIALIZED, _)) => {
                if let Some(session) = self.session.get() {
                    let outbox = Arc::new(self.outbox.clone());
                    standalone::listen(&self.service, session, &outbox);
                }
            }
            Ok(message) => self.receive(message),
            Err(Malformed { id, error, .. }) => self.refuse(id.as_ref(), &error).await,
        }
    }

    /// Takes a message that wants no answer.
    fn receive(&self, message: Message) {
        let Some(session) = self.session.get() else {
            if let Message::Notification(Method::CANCELLED, Some(params)) = message
                && let Some(id) = params.get("requestId").and_then(Id::new)
            {
                self.calls.cancel(&id);
            }
            return;
        };
        if let Some(notification) = session.receive(message)
            && self.notifications.try_send(notification).is_err()
        {
            tracing::warn!("the stack takes no notifications; one of the client's is dropped");
        }
    }

    async fn refuse(&self, id: Option<&Id>, error: &Error) {
        let text = jsonrpc::write_error(id, &error.to_rpc(self.era()));
        self.outbox.push(text.into()).await;
    }

    fn era(&self) -> Era {
        match self.session.get() {
            Some(_) => Era::Session,
            None => Era::Stateless,
        }
    }

    async fn request(&mut self, id: Id, method: Method, params: Option<Object>) {
        if stateless::is_named(params.as_ref()) {
            return match self.stateless(&id, &method, params) {
                Ok(call) => {
                    let (origin, outbox) = (Origin::new(id, &method), self.outbox.clone());
                    let owed = (!origin.subscription).then(|| self.answering.token());
                    self.tasks.spawn(async move {
                        run_stateless(call, origin, outbox).await;
                        drop(owed);
                    });
                }
                Err(error) => {
                    let text = jsonrpc::write_error(Some(&id), &error.to_rpc(Era::Stateless));
                    self.outbox.push(text.into()).await;
                }
            };
        }
        let session = self.session.get().cloned();
        match (session, method) {
            (None, Method::INITIALIZE) => self.initialize(id, params.as_ref()).await,
            // A client may look whether the server is there before it opens a session.
            (None, Method::PING) => self.answer(&id, Ok(Response::empty())).await,
            (None, _) => self.refuse(Some(&id), &neither()).await,
            (Some(session), method) if is_own(&method) => {
                self.own(session, id, method, params).await;
            }
            (Some(session), method) => match session.call(&self.service, &id, method, params) {
                Ok(call) => {
                    let (outbox, owed) = (self.outbox.clone(), self.answering.token());
                    self.tasks.spawn(async move {
                        let run = outlet::run(&session, call, &id, None, &outbox);
                        if let Ok(answer) = run.await {
                            outbox.push(answer).await;
                        }
                        drop(owed);
                    });
                }
                Err(error) => self.refuse(Some(&id), &error).await,
            },
        }
    }

    fn stateless(&self, id: &Id, method: &Method, params: Option<Object>) -> Result<Call, Error> {
        let own = stateless::meta_of(params.as_ref());
        let version = own
            .text(meta::PROTOCOL_VERSION)
            .ok_or_else(|| stateless::missing(meta::PROTOCOL_VERSION))?;
        let client = ClientMeta::read(stateless::known(&version)?, &own)?;
        stateless::check_method(method)?;
        let request = client.request(method.clone(), params, self.config.principal.clone())?;
        let in_flight = self.lifecycle.begin()?;
        let call = (self.calls.begin(id)?, in_flight);
        Ok(Call::start(&self.service, request, call, false))
    }

    async fn answer(&self, id: &Id, answer: Result<Response, Error>) {
        let text = text::answer(id, answer, Era::Session);
        self.outbox.push(text.into()).await;
    }

    /// Opens the session of this connection.
    async fn initialize(&mut self, id: Id, params: Option<&Object>) {
        let opening = match Opening::read(params) {
            Ok(opening) => opening,
            Err(error) => return self.refuse(Some(&id), &error).await,
        };
        let begun = self.lifecycle.check().and_then(|()| self.calls.begin(&id));
        let mut cancellation = match begun {
            Ok(cancellation) => cancellation,
            Err(error) => return self.refuse(Some(&id), &error).await,
        };
        let key = SessionKey::new(&format!("stdio-{}", number()));
        let limits = Limits {
            calls: Arc::clone(&self.calls),
            lifecycle: self.lifecycle.clone(),
            subscriptions: self.config.bounds.subscriptions.get(),
        };
        let session = Session::new(key, self.config.principal.clone(), opening, limits);
        let (service, outbox) = (self.service.clone(), self.outbox.clone());
        let place = Arc::clone(&self.session);
        self.opening = CancellationToken::new();
        let done = (self.opening.clone().drop_guard(), self.answering.token());
        self.tasks.spawn(async move {
            let Some(opened) = cancellation.answer(session.open(&service)).await else {
                return;
            };
            let answer = match opened {
                Ok(_) if place.set(session).is_err() => Err(Error::new(
                    ErrorKind::InvalidRequest,
                    "the session is initialized already",
                )),
                opened => opened.map(Response::new),
            };
            // The client may use the id again as soon as it has the answer.
            drop(cancellation);
            let text = text::answer(&id, answer, Era::Session);
            outbox.push(text.into()).await;
            drop(done);
        });
    }

    /// Answers a method that the transport answers itself.
    async fn own(&mut self, session: Arc<Session>, id: Id, method: Method, params: Option<Object>) {
        let mut cancellation = match self.calls.begin(&id) {
            Ok(cancellation) => cancellation,
            Err(error) => return self.refuse(Some(&id), &error).await,
        };
        let (service, outbox) = (self.service.clone(), self.outbox.clone());
        let owed = self.answering.token();
        self.tasks.spawn(async move {
            let standalone = Arc::new(outbox.clone());
            let work = session.answer(&service, &method, params, &standalone);
            let answer = cancellation.answer(work).await;
            drop(cancellation);
            if let Some(answer) = answer {
                let text = text::answer(&id, answer, Era::Session);
                outbox.push(text.into()).await;
            }
            drop(owed);
        });
    }

    /// Runs the messages of a batch side by side and answers them in one line (revision 2025-03-26; later ones have
    /// no batches).
    async fn batch(&mut self, line: &Bytes) {
        let session = self.session.get();
        let session = session.filter(|session| session.version == ProtocolVersion::V_2025_03_26);
        let session = session.cloned();
        let messages = match Message::parse_batch(line) {
            Ok(messages) => messages,
            Err(malformed) => return self.refuse(None, &malformed.error).await,
        };
        let Some(session) = session else {
            let error = Error::new(
                ErrorKind::InvalidRequest,
                "batches exist in sessions of revision 2025-03-26 only; send one message",
            );
            return self.refuse(None, &error).await;
        };
        if messages.len() > self.config.bounds.batch.get() {
            let error = Error::new(
                ErrorKind::InvalidRequest,
                "the batch has too many messages; send fewer at once",
            );
            return self.refuse(None, &error).await;
        }
        let (service, outbox) = (self.service.clone(), self.outbox.clone());
        let owed = self.answering.token();
        self.tasks.spawn(async move {
            let standalone = Arc::new(outbox.clone());
            let messages = messages.into_iter();
            let messages = messages.map(|own| own.map(params::without_nulls));
            let runs = messages.map(|message| {
                outlet::run_batched(&service, &session, message, &outbox, &standalone)
            });
            let answers = futures_util::future::join_all(runs).await;
            if answers.iter().any(Option::is_some) {
                outbox.push(outlet::array(answers)).await;
            }
            drop(owed);
        });
    }
}

fn ended() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

/// Whether a line can only be understood in a session. What cannot be read is refused at once.
fn belongs_to_session(line: &Line) -> bool {
    let Line::Whole(line) = line else {
        return false;
    };
    let line = text::without_mark(line.clone());
    if line.trim_ascii_start().starts_with(b"[") {
        return true;
    }
    match Message::parse(&line) {
        Ok(Message::Request(_, Method::INITIALIZE | Method::PING, _)) => false,
        Ok(Message::Request(_, _, params)) => !stateless::is_named(params.as_ref()),
        Ok(Message::Notification(Method::CANCELLED, _)) | Err(_) => false,
        Ok(_) => true,
    }
}

/// Sends what a stateless call sends, and its answer. A subscription ends when the transport begins to drain.
async fn run_stateless(mut call: Call, origin: Origin, outbox: Outbox) {
    let mut changes = call.lifecycle().changes();
    let answer = loop {
        let step = tokio::select! {
            biased;
            () = lifecycle::reached(&mut changes, Phase::Draining), if origin.subscription => {
                break Ok(Response::empty());
            }
            step = call.next() => step,
        };
        match step {
            Ok(Step::Outgoing(Outgoing::Notification(notification))) => {
                let message = origin.notification(notification).to_message();
                if let Err(error) = outbox.push_paced(message.into_bytes()).await {
                    break Err(error);
                }
            }
            // A stateless call has no asker, so there is no request to its client.
            Ok(Step::Outgoing(Outgoing::ServerRequest(_))) => {}
            Ok(Step::Answer(answer)) => break answer,
            Err(Cancelled) => return,
        }
    };
    drop(call);
    let answer = origin.answer(answer);
    let text = text::answer(&origin.id, answer, Era::Stateless);
    outbox.push(text.into()).await;
    if origin.subscription {
        let params = Json::composed(format!(r#"{{"requestId":{}}}"#, origin.id));
        let ended = Notification::new(Method::CANCELLED, Some(params));
        outbox.push(ended.to_message().into_bytes()).await;
    }
}

/// Returns a number that no other connection of this process has.
fn number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The refusal of a request that shows no era.
fn neither() -> Error {
    Error::new(
        ErrorKind::InvalidMeta,
        "open a session with initialize, or name the revision in `_meta`",
    )
}
