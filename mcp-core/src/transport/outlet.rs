//! Delivers notifications and server-initiated requests to the client of a session.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    call::{Call, Cancelled},
    exchange::Step,
    session::Session,
    text,
};
use crate::{
    Era, Error, ErrorKind, Method, Notification, Object,
    jsonrpc::{self, Id},
    notifier::{Outgoing, ServerRequest},
};

/// Takes messages for a client, in order.
pub(super) trait Outlet: Send + Sync + 'static {
    /// Sends a message that may not be lost, however long it has to wait.
    fn push(&self, message: Bytes) -> impl Future<Output = ()> + Send;

    /// Sends a message of a call once the client has read enough of the earlier ones. A client that does not read for
    /// [`Timing::stall`](crate::Timing::stall) ends the call.
    fn push_paced(&self, message: Bytes) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The error of a call whose client does not read.
pub(super) fn stalled(after: Duration) -> Error {
    Error::new(
        ErrorKind::Stalled,
        format!("the client did not read for {after:?}; the call was ended"),
    )
}

/// Sends what a call sends, and returns the text of its answer.
pub(super) async fn run(
    session: &Arc<Session>,
    mut call: Call,
    id: &Id,
    first: Option<Outgoing>,
    outlet: &impl Outlet,
) -> Result<Bytes, Cancelled> {
    let mut writer = Writer::new(session, outlet);
    let mut first = first.map(Step::Outgoing);
    loop {
        let step = match first.take() {
            Some(step) => Ok(step),
            None => writer.with_withdrawals(call.next()).await,
        };
        let answer = match step {
            Ok(Step::Answer(answer)) => Ok(answer),
            Ok(Step::Outgoing(outgoing)) => match writer.write(outgoing).await {
                Ok(()) => continue,
                Err(error) => Ok(Err(error)),
            },
            Err(cancelled) => Err(cancelled),
        };
        // What the call has asked is over with it.
        drop(call);
        writer.finish().await;
        let answer = answer?;
        return Ok(text::answer(id, answer, Era::Session).into());
    }
}

/// Writes notifications and server-initiated requests.
pub(super) struct Writer<'a, O> {
    session: &'a Arc<Session>,
    outlet: &'a O,
    /// Server-initiated requests that are out, so one whose answer is no longer waited for is withdrawn.
    server_requests: FuturesUnordered<BoxFuture<'static, u64>>,
}

impl<'a, O: Outlet> Writer<'a, O> {
    pub(super) fn new(session: &'a Arc<Session>, outlet: &'a O) -> Self {
        Self {
            session,
            outlet,
            server_requests: FuturesUnordered::new(),
        }
    }

    pub(super) async fn write(&mut self, outgoing: Outgoing) -> Result<(), Error> {
        let message = match outgoing {
            Outgoing::Notification(notification) => notification.to_message().into_bytes(),
            Outgoing::ServerRequest(server_request) => self.ask(server_request).into(),
        };
        self.outlet.push_paced(message).await
    }

    /// Passes a server-initiated request's answer on to whoever asked, and notes when they stop waiting.
    fn ask(&mut self, server_request: ServerRequest) -> Vec<u8> {
        let ServerRequest {
            method,
            params,
            answer: mut asker,
        } = server_request;
        let (sender, answered) = oneshot::channel();
        let number = self.session.ask(sender);
        self.server_requests.push(Box::pin(async move {
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

    /// Awaits a step and meanwhile withdraws server-initiated requests.
    pub(super) async fn with_withdrawals<T>(&mut self, step: impl Future<Output = T>) -> T {
        tokio::pin!(step);
        loop {
            tokio::select! {
                biased;
                Some(number) = self.server_requests.next() => self.withdraw(number).await,
                step = &mut step => return step,
            }
        }
    }

    /// Takes a server-initiated request back, unless the client has answered it.
    async fn withdraw(&mut self, number: u64) {
        if !self.session.withdraw(number) {
            return;
        }
        let params = json!({
            "requestId": number,
            "reason": "the server no longer needs the answer",
        });
        let cancelled = Notification::new(Method::CANCELLED, Some(params.into()));
        self.outlet.push(cancelled.to_message().into_bytes()).await;
    }

    /// Withdraws the server-initiated requests whose answers are no longer waited for, at the end of a call. Another may
    /// belong to another call of the session, and lives on.
    async fn finish(mut self) {
        while let Some(Some(number)) = self.server_requests.next().now_or_never() {
            self.withdraw(number).await;
        }
        if self.server_requests.is_empty() {
            return;
        }
        let (session, mut server_requests) = (Arc::clone(self.session), self.server_requests);
        let lifecycle = session.lifecycle.clone();
        lifecycle.spawn(async move {
            while let Some(number) = server_requests.next().await {
                session.withdraw(number);
            }
        });
    }
}
