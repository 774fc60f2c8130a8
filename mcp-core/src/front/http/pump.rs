//! Calls and subscriptions of a session that go on without the request that started them.

use std::sync::Arc;

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use serde_json::json;
use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Duration, sleep},
};

use super::{
    log::StreamLog,
    reply,
    session::{CallGuard, Session},
};
use crate::{
    Era, Error, ErrorKind, Json, Method, Notification, Object, Request, Response, Seam,
    TraceContext,
    front::exchange::{Exchange, Step},
    jsonrpc::{self, Id, Malformed, Message},
    notifier::{Outgoing, Question},
    protocol::meta,
};

/// How long to wait before listening again when a listener ended: doubled each time, up to the second.
const LISTEN_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A call of a session in progress, which its client can cancel by its id.
pub(super) struct Call {
    exchange: Exchange,
    cancelled: oneshot::Receiver<()>,
    _guard: CallGuard,
}

/// The client has cancelled the call.
pub(super) struct Cancelled;

impl Call {
    /// Starts a call.
    pub(super) fn start<S: Seam>(
        service: &S,
        session: &Arc<Session>,
        id: &Id,
        method: Method,
        params: Option<Object>,
    ) -> Result<Self, Error> {
        let trace = params
            .as_ref()
            .and_then(|params| params.get("_meta"))
            .and_then(|meta| Object::try_from(meta).ok())
            .map(|meta| TraceContext::from_meta(&meta))
            .unwrap_or_default();
        let request = session
            .complete(Request::from_object(method, params)?)
            .with_trace(trace);
        let (cancelled, guard) = session.begin(id)?;
        Ok(Self {
            exchange: Exchange::start(service, request, true),
            cancelled,
            _guard: guard,
        })
    }

    async fn next(&mut self) -> Result<Step, Cancelled> {
        tokio::select! {
            biased;
            _ = &mut self.cancelled => Err(Cancelled),
            step = self.exchange.next() => Ok(step),
        }
    }
}

/// A call that goes on by itself when whoever waits for it goes away: a broken connection does not cancel
/// (revision 2025-11-25, Streamable HTTP, "Sending Messages to the Server", 6).
pub(super) struct Detach(Option<Call>);

impl Detach {
    pub(super) fn new(call: Call) -> Self {
        Self(Some(call))
    }

    /// Returns the next step.
    pub(super) async fn next(&mut self) -> Result<Step, Cancelled> {
        let Some(call) = &mut self.0 else {
            return Err(Cancelled);
        };
        let step = call.next().await;
        if matches!(step, Ok(Step::Answer(_)) | Err(Cancelled)) {
            self.0 = None;
        }
        step
    }

    /// Takes the call out; it is then up to the caller.
    pub(super) fn take(&mut self) -> Option<Call> {
        self.0.take()
    }
}

impl Drop for Detach {
    fn drop(&mut self) {
        let Some(mut call) = self.0.take() else {
            return;
        };
        // Without a runtime there is nobody left to answer, and the call is dropped.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { while let Ok(Step::Outgoing(_)) = call.next().await {} });
        }
    }
}

/// Writes a call's events and its answer into a stream.
pub(super) async fn run(
    session: Arc<Session>,
    mut call: Call,
    id: Id,
    first: Option<Outgoing>,
    log: Arc<StreamLog>,
) {
    let mut writer = Writer::new(&session, &log);
    let mut first = first.map(Step::Outgoing);
    loop {
        let step = match first.take() {
            Some(step) => Ok(step),
            None => writer.with_withdrawals(call.next()).await,
        };
        match step {
            Ok(Step::Outgoing(outgoing)) => {
                if let Err(error) = writer.write(outgoing).await {
                    log.push(&reply::text(&id, Err(error), Era::Session));
                    break;
                }
            }
            Ok(Step::Answer(answer)) => {
                log.push(&reply::text(&id, answer, Era::Session));
                break;
            }
            Err(Cancelled) => break,
        }
    }
    log.finish();
}

/// Writes notifications and questions into a stream.
struct Writer<'a> {
    session: &'a Arc<Session>,
    log: &'a Arc<StreamLog>,
    /// Questions that are out, so that one that nobody waits for any more is withdrawn.
    questions: FuturesUnordered<futures_util::future::BoxFuture<'static, u64>>,
}

impl<'a> Writer<'a> {
    fn new(session: &'a Arc<Session>, log: &'a Arc<StreamLog>) -> Self {
        Self {
            session,
            log,
            questions: FuturesUnordered::new(),
        }
    }

    async fn write(&mut self, outgoing: Outgoing) -> Result<(), Error> {
        match outgoing {
            Outgoing::Notification(notification) => {
                let message = notification.to_message();
                self.log.push_paced(message.as_bytes()).await
            }
            Outgoing::Question(question) => {
                let message = self.ask(question);
                self.log.push_paced(&message).await
            }
        }
    }

    /// Passes a question's answer on to whoever asked, and notes when they stop waiting.
    fn ask(&mut self, question: Question) -> Vec<u8> {
        let Question {
            method,
            params,
            answer: mut asker,
        } = question;
        let (sender, answered) = oneshot::channel();
        let number = self.session.ask(sender);
        self.questions.push(Box::pin(async move {
            tokio::select! {
                answer = answered => {
                    if let Ok(answer) = answer {
                        let _ = asker.send(answer);
                    }
                }
                () = asker.closed() => {}
            }
            number
        }));
        let params = params.and_then(|params| Object::try_from(params).ok());
        jsonrpc::write_request(&Id::number(number), &method, params.as_ref())
    }

    /// Awaits a step and meanwhile tells the client which questions are withdrawn.
    async fn with_withdrawals<T>(&mut self, step: impl Future<Output = T>) -> T {
        tokio::pin!(step);
        loop {
            tokio::select! {
                biased;
                Some(number) = self.questions.next() => {
                    if self.session.withdraw(number) {
                        let params = json!({
                            "requestId": number,
                            "reason": "the server no longer needs the answer",
                        });
                        let cancelled = Notification::new(Method::CANCELLED, Some(params.into()));
                        self.log.push(cancelled.to_message().as_bytes());
                    }
                }
                step = &mut step => return step,
            }
        }
    }
}

/// Listens for list changes and writes them to the standing stream, for as long as the session lives.
pub(super) fn listen<S: Seam>(service: &S, session: &Arc<Session>) {
    session.listen(|| {
        let (service, session) = (service.clone(), Arc::downgrade(session));
        tokio::spawn(async move {
            let mut pause = LISTEN_AGAIN.0;
            loop {
                let Some(session) = session.upgrade() else {
                    return;
                };
                let filter = json!({
                    "toolsListChanged": true,
                    "promptsListChanged": true,
                    "resourcesListChanged": true,
                });
                let ended = follow(&service, &session, filter.into(), None).await;
                if session.key.is_closed()
                    || ended.is_err_and(|error| error.kind() == ErrorKind::MethodNotFound)
                {
                    return;
                }
                drop(session);
                sleep(pause).await;
                pause = (pause * 2).min(LISTEN_AGAIN.1);
            }
        })
        .abort_handle()
    });
}

/// Subscribes to a resource. Returns once the subscription stands or is refused.
pub(super) async fn subscribe<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    uri: &str,
) -> Result<Response, Error> {
    listen(service, session);
    let filter = json!({ "resourceSubscriptions": [uri] });
    let (acknowledge, acknowledged) = oneshot::channel();
    let (service, task_session) = (service.clone(), Arc::clone(session));
    let task = tokio::spawn(async move {
        follow(&service, &task_session, filter.into(), Some(acknowledge)).await
    });
    let handle: AbortHandle = task.abort_handle();
    match acknowledged.await {
        Ok(()) => {
            session.subscribed(uri, handle);
            Ok(Response::empty())
        }
        Err(_) => match task.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(Error::new(
                ErrorKind::InvalidParams,
                "the resource does not take subscriptions",
            )),
        },
    }
}

/// Runs one `subscriptions/listen` and writes what it yields to the standing stream.
async fn follow<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    filter: Json,
    mut acknowledge: Option<oneshot::Sender<()>>,
) -> Result<Response, Error> {
    let mut params = Object::default();
    params.set("notifications", filter);
    let request = session.complete(Request::from_object(
        Method::SUBSCRIPTIONS_LISTEN,
        Some(params),
    )?);
    let log = session.standing();
    let mut writer = Writer::new(session, &log);
    let mut exchange = Exchange::start(service, request, true);
    loop {
        match writer.with_withdrawals(exchange.next()).await {
            Step::Answer(answer) => return answer,
            Step::Outgoing(Outgoing::Notification(notification))
                if *notification.method() == Method::ACKNOWLEDGED =>
            {
                if let Some(acknowledge) = acknowledge.take() {
                    let refused = |params: &Json| {
                        params
                            .member("notifications")
                            .is_some_and(|filter| filter.as_str() == "{}")
                    };
                    if notification.params().is_some_and(refused) {
                        return Ok(Response::empty());
                    }
                    let _ = acknowledge.send(());
                }
            }
            Step::Outgoing(Outgoing::Notification(notification)) => {
                let notification = match notification.params().and_then(|p| p.member("_meta")) {
                    Some(meta) if meta.member(meta::SUBSCRIPTION_ID).is_some() => {
                        without_subscription(notification)
                    }
                    _ => notification,
                };
                writer.log.push(notification.to_message().as_bytes());
            }
            Step::Outgoing(outgoing @ Outgoing::Question(_)) => writer.write(outgoing).await?,
        }
    }
}

/// Takes the subscription id out, which sessions do not have.
fn without_subscription(notification: Notification) -> Notification {
    let notification = notification.with_meta(meta::SUBSCRIPTION_ID, None);
    let params = notification
        .params()
        .and_then(|params| Object::index(params).ok());
    match params {
        Some(mut params) if params.get("_meta").is_some_and(|m| m.as_str() == "{}") => {
            params.remove("_meta");
            notification.with_params(params.to_json())
        }
        _ => notification,
    }
}

/// Takes a message that wants no answer.
pub(super) async fn one_way<S: Seam>(service: &S, session: &Arc<Session>, message: Message) {
    match message {
        Message::Response(id, response) => session.answered(&id, Ok(response.into_result())),
        Message::Error(Some(id), error) => session.answered(&id, Err(error)),
        Message::Error(None, _) | Message::Request(..) => {}
        Message::Notification(Method::INITIALIZED, _) => {}
        Message::Notification(Method::CANCELLED, params) => {
            let id = params.and_then(|params| params.get("requestId"));
            if let Some(id) = id.and_then(Id::new) {
                session.cancel(&id);
            }
        }
        Message::Notification(method, params) => {
            let request = Request::notification(method, params.map(Json::from));
            let Ok(request) = request else { return };
            let mut exchange = Exchange::start(service, session.complete(request), false);
            while let Step::Outgoing(_) = exchange.next().await {}
        }
    }
}

/// Takes the messages of a batch that wants no answers.
pub(super) async fn one_way_all<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    messages: Vec<Result<Message, Malformed>>,
) {
    for message in messages.into_iter().flatten() {
        one_way(service, session, message).await;
    }
}

/// Runs the messages of a batch side by side and writes their answers into one stream.
pub(super) async fn batch<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    messages: Vec<Result<Message, Malformed>>,
    log: &Arc<StreamLog>,
) {
    let runs = messages.into_iter().map(|message| async move {
        match message {
            Ok(Message::Request(id, method, _)) if method == Method::PING => {
                log.push(&reply::text(&id, Ok(Response::empty()), Era::Session));
            }
            Ok(Message::Request(id, method, params)) => {
                batched(service, session, id, method, params, log).await;
            }
            Ok(other) => one_way(service, session, other).await,
            Err(Malformed { id, error, .. }) => {
                log.push(&jsonrpc::write_error(
                    id.as_ref(),
                    &error.to_rpc(Era::Session),
                ));
            }
        }
    });
    join_all(runs).await;
    log.finish();
}

async fn batched<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    id: Id,
    method: Method,
    params: Option<Object>,
    log: &Arc<StreamLog>,
) {
    // Its own log, whose events are passed on without its end.
    match Call::start(service, session, &id, method, params) {
        Ok(mut call) => {
            let mut writer = Writer::new(session, log);
            loop {
                match writer.with_withdrawals(call.next()).await {
                    Ok(Step::Outgoing(outgoing)) => {
                        if writer.write(outgoing).await.is_err() {
                            return;
                        }
                    }
                    Ok(Step::Answer(answer)) => {
                        log.push(&reply::text(&id, answer, Era::Session));
                        return;
                    }
                    Err(Cancelled) => return,
                }
            }
        }
        Err(error) => log.push(&reply::text(&id, Err(error), Era::Session)),
    }
}
