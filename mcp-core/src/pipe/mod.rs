//! A conversation with a server over one stream of messages in each direction, as its client sees it: a child
//! process, or an rmcp server of the session era in this process.
//!
//! A [`Pipe`] gives each call its own id and progress token, brings everything that arrives to the call (or the
//! listener) that it belongs to, puts the server's requests to the client of that very call, and tells the
//! server when a call is dropped. What one call does not read never holds up another.

mod held;
mod inbox;
mod listen;
mod route;

use std::{
    collections::HashMap,
    fmt,
    future::{Future, pending},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use tokio::{sync::oneshot, time::sleep};

use self::inbox::Arrival;
pub use self::{
    held::{Held, Owed},
    inbox::{Inbox, Ticket},
    listen::{Listening, SessionCall, unsubscribing},
};
use crate::{
    Asker, Era, Error, ErrorKind, Json, Method, Notification, Object, Request, Response,
    SessionKey, SubscriptionFilter,
    jsonrpc::{self, Id, Message},
    protocol::meta,
};

/// How requests leave a [`Pipe`].
pub trait Wire: Replies {
    /// Sends a request under an id of the pipe's, waiting for room.
    ///
    /// An error of kind [`ErrorKind::NotSent`] says that the server has not seen the request.
    fn request<'a>(&'a self, id: u64, request: &'a Request) -> BoxFuture<'a, Result<(), Error>>;
}

/// How messages that want no answer leave.
pub trait Replies: Send + Sync + 'static {
    /// Sends a message that wants no answer, or answers one of the server's, waiting for room.
    fn send(&self, message: Outbound) -> BoxFuture<'_, Result<(), Error>>;

    /// Sends a message if there is room now. For messages that may be lost.
    fn try_send(&self, message: Outbound);
}

/// A message that wants no answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outbound {
    /// A notification.
    Notification(Notification),
    /// The client's answer to a request of the server's.
    Answer(Id, Result<Json, Error>),
}

impl Outbound {
    /// Returns the whole JSON-RPC message, as a server of the session era reads it.
    #[must_use]
    pub fn to_message(&self) -> Bytes {
        match self {
            Self::Notification(notification) => notification.to_message().into_bytes(),
            Self::Answer(id, Ok(result)) => jsonrpc::write_response(id, result).into(),
            Self::Answer(id, Err(error)) => {
                jsonrpc::write_error(Some(id), &error.to_rpc(Era::Session)).into()
            }
        }
    }
}

/// Returns the `logging/setLevel` that a session of the session era begins with: its client may have set the level
/// before the session was needed, or was lost. `None` where none was set, and for a server that does not log.
#[must_use]
pub fn opening_level(request: &Request, discovered: &Response) -> Option<Request> {
    let level = request.log_level()?;
    discovered
        .result()
        .member("capabilities")?
        .member("logging")?;
    let mut params = Object::default();
    params.set("level", Json::string(level.as_str()));
    let set = Request::from_object(Method::SET_LEVEL, Some(params)).ok()?;
    Some(set.with_context_of(request).without_call())
}

/// A conversation over one stream of messages in each direction. Clones share it.
#[derive(Clone)]
pub struct Pipe(Arc<Shared>);

struct Shared {
    wire: Box<dyn Wire>,
    inbox: Inbox,
}

impl Pipe {
    /// Starts a conversation. Whatever arrives is to be given to [`Pipe::inbox`].
    #[must_use]
    pub fn new(wire: impl Wire) -> Self {
        Self(Arc::new(Shared {
            wire: Box::new(wire),
            inbox: Inbox::new(),
        }))
    }

    /// Returns where arriving messages go.
    #[must_use]
    pub fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// The server's own error, [`ErrorKind::NotSent`] or [`ErrorKind::Unavailable`] when the conversation is over,
    /// [`ErrorKind::Stalled`] when the client of the call does not read what the server sends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call: the server is sent `notifications/cancelled`.
    pub async fn call(&self, mut request: Request) -> Result<Response, Error> {
        let mut ticket = self.0.inbox.admit(&request)?;
        ticket.rename_progress(&mut request);
        self.0.wire.request(ticket.id(), &request).await?;
        let guard = CancelOnDrop::new(&*self.0.wire, ticket.id());
        let leaving = Leaving(Arc::clone(&self.0));
        let answer = ticket.drive(&request, &leaving, pin!(pending())).await;
        guard.settle(answer)
    }

    /// Sends a client's notification.
    ///
    /// # Errors
    ///
    /// The conversation is over.
    pub async fn notify(&self, notification: Notification) -> Result<(), Error> {
        self.0.wire.send(Outbound::Notification(notification)).await
    }

    /// Passes on what arrives outside calls: to the client of `request`, until the future is dropped or the
    /// conversation ends. What arrives from this moment on is kept for the future, which need not be polled yet.
    ///
    /// # Errors
    ///
    /// The conversation is over, or the client does not read.
    pub fn follow<'a>(
        &'a self,
        request: &'a Request,
        filter: SubscriptionFilter,
    ) -> impl Future<Output = Result<Response, Error>> + Send + 'a {
        let ticket = self.0.inbox.attach(request, filter);
        let leaving = Leaving(Arc::clone(&self.0));
        async move {
            let answer = ticket?.drive(request, &leaving, pin!(pending())).await;
            answer?
        }
    }
}

/// What leaves a pipe beside its requests.
#[derive(Clone)]
struct Leaving(Arc<Shared>);

impl Replies for Leaving {
    fn send(&self, message: Outbound) -> BoxFuture<'_, Result<(), Error>> {
        self.0.wire.send(message)
    }

    fn try_send(&self, message: Outbound) {
        self.0.wire.try_send(message);
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipe").field(&self.0.inbox).finish()
    }
}

impl Ticket<'_> {
    /// Gives progress of the call a token that no other call has; what arrives carries the client's again.
    pub fn rename_progress(&self, request: &mut Request) {
        if request.progress_token().is_some() {
            let token = Id::number(self.id()).as_json().clone();
            request.set_meta(meta::PROGRESS_TOKEN, Some(token));
        }
    }

    /// Brings what arrives to the client of the call until the answer does, which is returned.
    ///
    /// `source` runs while nothing has arrived; it completes only when nothing more can.
    ///
    /// # Errors
    ///
    /// There will be no answer: the client does not read, the connection is over, or `source` says why.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has lost what arrived; the server does not know.
    pub async fn drive<R: Replies + Clone>(
        &mut self,
        request: &Request,
        replies: &R,
        mut source: Pin<&mut (impl Future<Output = Error> + Send)>,
    ) -> Result<Result<Response, Error>, Error> {
        let mut questions = None;
        loop {
            tokio::select! {
                biased;
                arrival = self.arrival() => match arrival {
                    None => return self.answer().await.ok_or_else(flooded),
                    // Boxed, so that a call before whose answer nothing arrives is small.
                    Some(arrival) => {
                        Box::pin(self.take(arrival, request, replies, &mut questions)).await?;
                    }
                },
                Some(answer) = Questions::next(&mut questions), if questions.is_some() => {
                    replies.send(answer).await?;
                }
                error = source.as_mut() => return Err(error),
            }
        }
    }

    /// Brings what arrives before the answer to the client.
    async fn take<R: Replies + Clone>(
        &mut self,
        arrival: Arrival,
        request: &Request,
        replies: &R,
        questions: &mut Option<Questions>,
    ) -> Result<(), Error> {
        match arrival {
            Arrival::Notification(notification) => request.notifier().notify(notification).await?,
            Arrival::Request {
                id,
                method,
                params,
                shared: true,
            } => {
                let withdrawn = self.set_apart(&id);
                let asking = ask(request.asker().cloned(), id, method, params, withdrawn);
                ask_apart(asking, replies.clone());
            }
            Arrival::Request {
                id,
                method,
                params,
                shared: false,
            } => {
                let (withdraw, withdrawn) = oneshot::channel();
                let questions = questions.get_or_insert_default();
                questions.withdrawals.insert(id.clone(), withdraw);
                let asking = ask(request.asker().cloned(), id, method, params, withdrawn);
                questions.asked.push(Box::pin(asking));
            }
            Arrival::Withdrawn(id) => {
                if let Some(questions) = questions {
                    questions.withdrawals.remove(&id);
                }
            }
        }
        Ok(())
    }
}

/// The server's requests to the client of one call that have no answer yet.
#[derive(Default)]
struct Questions {
    asked: FuturesUnordered<BoxFuture<'static, Asked>>,
    withdrawals: HashMap<Id, oneshot::Sender<()>>,
}

impl Questions {
    /// Waits for the next answer. `None` if there are no questions left.
    async fn next(questions: &mut Option<Self>) -> Option<Outbound> {
        let own = questions.as_mut()?;
        while let Some((id, answer)) = own.asked.next().await {
            own.withdrawals.remove(&id);
            if let Some(answer) = answer {
                return Some(Outbound::Answer(id, answer));
            }
        }
        *questions = None;
        None
    }
}

/// Tells the server that a call is over which it has not answered.
pub struct CancelOnDrop<'a> {
    replies: &'a dyn Replies,
    id: Option<u64>,
}

impl<'a> CancelOnDrop<'a> {
    /// Watches a call that the server has been sent.
    pub fn new(replies: &'a dyn Replies, id: u64) -> Self {
        Self {
            replies,
            id: Some(id),
        }
    }

    /// Ends the watch with the outcome of [`Ticket::drive`]: without an answer, the server is sent a cancellation.
    ///
    /// # Errors
    ///
    /// The error of the answer, or why there is none.
    pub fn settle(
        mut self,
        answer: Result<Result<Response, Error>, Error>,
    ) -> Result<Response, Error> {
        let answer = answer?;
        self.id = None;
        answer
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let params = json!({
            "requestId": id,
            "reason": "the caller no longer waits for the answer",
        });
        let cancelled = Notification::new(Method::CANCELLED, Some(params.into()));
        self.replies.try_send(Outbound::Notification(cancelled));
    }
}

impl fmt::Debug for CancelOnDrop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&self.id).finish()
    }
}

/// The id of a server-initiated request and its answer. Without an answer the request was withdrawn.
type Asked = (Id, Option<Result<Json, Error>>);

/// Puts a server-initiated request to the client of a call.
async fn ask(
    asker: Option<Asker>,
    id: Id,
    method: Method,
    params: Option<Json>,
    withdrawn: oneshot::Receiver<()>,
) -> Asked {
    let Some(asker) = asker else {
        return (id, Some(Err(cannot_ask(&method))));
    };
    let answer = tokio::select! {
        biased;
        _ = withdrawn => None,
        answer = asker.ask(method, params) => Some(answer),
    };
    (id, answer)
}

/// Puts a request that may belong to another call of the client than the one it is put through, which may be over
/// before there is an answer.
fn ask_apart(asking: impl Future<Output = Asked> + Send + 'static, replies: impl Replies) {
    let mut asking = Box::pin(asking);
    // While the call is in progress it leaves by the call's own way.
    let asked = asking.as_mut().now_or_never();
    tokio::spawn(async move {
        let (id, answer) = match asked {
            Some(asked) => asked,
            None => asking.await,
        };
        if let Some(answer) = answer {
            // A server that is gone waits for no answer.
            let _ = replies.send(Outbound::Answer(id, answer)).await;
        }
    });
}

/// The refusal for a server that asks a client who cannot be asked.
fn cannot_ask(method: &Method) -> Error {
    Error::new(
        ErrorKind::MethodNotFound,
        format!("the client of this call does not answer {method}"),
    )
}

fn flooded() -> Error {
    Error::new(
        ErrorKind::Stalled,
        "the server sent more than the client of this call could read; the call was ended",
    )
}

impl Pipe {
    /// Names the client that the conversation is opened for, as [`Inbox::set_client`] does.
    #[must_use]
    pub fn for_client(self, client: Option<SessionKey>) -> Self {
        self.0.inbox.set_client(client);
        self
    }

    /// Takes a message that has arrived.
    ///
    /// `cause` is the call that it belongs to, where the transport knows.
    pub fn receive(&self, message: Message, cause: Option<u64>) {
        match self.0.inbox.deliver(message, cause) {
            None => {}
            Some(Owed::Answer(id, answer)) => {
                self.0.wire.try_send(Outbound::Answer(id, answer));
            }
            Some(Owed::Later(held)) => self.refuse_later(held),
        }
    }

    /// Refuses a request of the server's that has not found its client in time.
    fn refuse_later(&self, held: Held) {
        let shared = Arc::downgrade(&self.0);
        let refuse = move || {
            let shared = shared.upgrade()?;
            let (id, error) = shared.inbox.refuse(&held)?;
            shared.wire.try_send(Outbound::Answer(id, Err(error)));
            Some(())
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                sleep(HOLD).await;
                refuse()
            })),
            Err(_) => drop(refuse()),
        }
    }

    /// Ends the conversation: every call in progress fails with this error, and so does every later one.
    pub fn close(&self, error: &Error) {
        self.0.inbox.close(error);
    }
}

/// How long a request of a server's is held for a call or listener through which its client can be asked.
pub const HOLD: Duration = Duration::from_secs(5);

/// How many messages may wait for one call.
pub(crate) const WAITING: usize = 1024;

#[cfg(test)]
mod tests;
