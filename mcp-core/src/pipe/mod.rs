//! A conversation with a server over one stream of messages in each direction, as its client sees it: a child
//! process, or an rmcp server of the session era in this process.
//!
//! A [`Pipe`] gives each call its own id and progress token, brings everything that arrives to the call (or the
//! listener) that it belongs to, puts the server's questions to the client of that very call, and tells the
//! server when a call is dropped. What one call does not read never holds up another.

mod inbox;
mod listen;

use std::{collections::HashMap, fmt, sync::Arc};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use self::inbox::{Arrival, Ticket};
pub use self::{
    inbox::Inbox,
    listen::{Caller, Filter, listen},
};
use crate::{
    Error, ErrorKind, Json, Method, Notification, Request, Response,
    jsonrpc::{Id, Message},
    protocol::meta,
};

/// How messages leave a [`Pipe`].
pub trait Wire: Send + Sync + 'static {
    /// Sends a request under an id of the pipe's, waiting for room.
    ///
    /// An error of kind [`ErrorKind::NotSent`] says that the server has not seen the request.
    fn request<'a>(&'a self, id: u64, request: &'a Request) -> BoxFuture<'a, Result<(), Error>>;

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
    /// The client's answer to a question of the server's.
    Answer(Id, Result<Json, Error>),
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
        let ticket = self.0.inbox.admit(&request)?;
        let id = ticket.id;
        if request.progress_token().is_some() {
            request.set_meta(meta::PROGRESS_TOKEN, Some(Id::number(id).as_json().clone()));
        }
        let mut call = Call {
            pipe: self,
            ticket,
            sent: false,
        };
        self.0.wire.request(id, &request).await?;
        call.sent = true;
        let answer = call.drive(&request).await?;
        call.sent = false;
        answer
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
    /// conversation ends.
    ///
    /// # Errors
    ///
    /// The conversation is over, or the client does not read.
    pub async fn follow(&self, request: &Request, filter: Filter) -> Result<Response, Error> {
        let ticket = self.0.inbox.attach(request, filter)?;
        let mut call = Call {
            pipe: self,
            ticket,
            sent: false,
        };
        call.drive(request).await?
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipe").field(&self.0.inbox).finish()
    }
}

/// A call in progress.
struct Call<'a> {
    pipe: &'a Pipe,
    ticket: Ticket,
    /// The server has seen the call and has not answered it.
    sent: bool,
}

impl Call<'_> {
    /// Brings what arrives to the client of the call until the answer does.
    async fn drive(&mut self, request: &Request) -> Result<Result<Response, Error>, Error> {
        let mut questions = FuturesUnordered::new();
        let mut withdrawals: HashMap<Id, oneshot::Sender<()>> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                arrival = self.ticket.arrivals.recv() => match arrival {
                    Some(Arrival::Answer(answer)) => return Ok(answer),
                    Some(Arrival::Notification(notification)) => {
                        request.notifier().notify(notification).await?;
                    }
                    Some(Arrival::Question(id, method, params)) => {
                        let (withdraw, withdrawn) = oneshot::channel();
                        withdrawals.insert(id.clone(), withdraw);
                        questions.push(ask(request, id, method, params, withdrawn));
                    }
                    Some(Arrival::Withdrawn(id)) => drop(withdrawals.remove(&id)),
                    None => return Err(flooded()),
                },
                Some(answer) = questions.next(), if !questions.is_empty() => {
                    let (id, answer): (Id, Option<Result<Json, Error>>) = answer;
                    withdrawals.remove(&id);
                    if let Some(answer) = answer {
                        self.pipe.0.wire.send(Outbound::Answer(id, answer)).await?;
                    }
                }
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.pipe.0.inbox.forget(self.ticket.id);
        if self.sent {
            let params = json!({
                "requestId": self.ticket.id,
                "reason": "the caller no longer waits for the answer",
            });
            let cancelled = Notification::new(Method::CANCELLED, Some(params.into()));
            self.pipe.0.wire.try_send(Outbound::Notification(cancelled));
        }
    }
}

/// Puts a question to the client of a call. Without an answer the question was withdrawn.
async fn ask(
    request: &Request,
    id: Id,
    method: Method,
    params: Option<Json>,
    withdrawn: oneshot::Receiver<()>,
) -> (Id, Option<Result<Json, Error>>) {
    let Some(asker) = request.asker() else {
        return (id, Some(Err(cannot_ask(&method))));
    };
    let answer = tokio::select! {
        biased;
        _ = withdrawn => None,
        answer = asker.ask(method, params) => Some(answer),
    };
    (id, answer)
}

/// What a server is told that asks a client who cannot be asked.
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

/// Answers the server's questions that need no client. Returns `false` for any other message.
pub(crate) fn answers_itself(wire: &dyn Wire, message: &Message) -> bool {
    match message {
        Message::Request(id, method, _) if *method == Method::PING => {
            wire.try_send(Outbound::Answer(id.clone(), Ok(Json::EMPTY_OBJECT)));
            true
        }
        _ => false,
    }
}

impl Pipe {
    /// Takes a message that has arrived.
    ///
    /// `cause` is the call that it belongs to, where the transport knows.
    pub fn receive(&self, message: Message, cause: Option<u64>) {
        if answers_itself(&*self.0.wire, &message) {
            return;
        }
        let Some((id, error)) = self.0.inbox.deliver(message, cause) else {
            return;
        };
        self.0.wire.try_send(Outbound::Answer(id, Err(error)));
    }

    /// Ends the conversation: every call in progress fails with this error, and so does every later one.
    pub fn close(&self, error: &Error) {
        self.0.inbox.close(error);
    }
}

/// How many messages may wait for one call.
pub(crate) const WAITING: usize = 1024;

pub(crate) type Arrivals = mpsc::Receiver<Arrival>;

#[cfg(test)]
mod tests;
