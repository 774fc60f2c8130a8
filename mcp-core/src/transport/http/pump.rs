//! Calls of a session that outlive the request that started them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{replay::ReplayBuffer, session::HttpSession};
use crate::{
    Request, Seam,
    jsonrpc::{Id, Malformed, Message},
    notifier::Outgoing,
    transport::{
        call::{Call, Cancelled},
        exchange::{Exchange, Step},
        outlet::{self, Outlet},
        own,
        session::Session,
    },
};

/// A call that runs on when the future that waits for it is dropped: a broken connection does not cancel
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
        // Without a runtime no answer can be sent any more, and the call is dropped.
        if tokio::runtime::Handle::try_current().is_ok() {
            let lifecycle = call.lifecycle().clone();
            lifecycle
                .spawn_call(async move { while let Ok(Step::Outgoing(_)) = call.next().await {} });
        }
    }
}

/// Writes a call's events and its answer into a stream.
pub(super) async fn run(
    session: Arc<Session>,
    call: Call,
    id: Id,
    first: Option<Outgoing>,
    stream: Arc<ReplayBuffer>,
) {
    if let Ok(answer) = outlet::run(&session, call, &id, first, &*stream).await {
        stream.push(answer).await;
    }
    stream.finish();
}

/// Brings a client's notification to the stack.
pub(super) async fn notify<S: Seam>(service: &S, notification: Request) {
    // A notification has no answer, so an error has no reader.
    let _ = Exchange::start(service, notification, false).answer().await;
}

/// Takes the messages of a batch that wants no answers.
pub(super) async fn one_way_all<S: Seam>(
    service: &S,
    session: &Session,
    messages: Vec<Result<Message, Malformed>>,
) {
    for message in messages.into_iter().flatten() {
        if let Some(notification) = session.receive(message) {
            notify(service, notification).await;
        }
    }
}

/// Runs the messages of a batch side by side and writes their answers into one stream.
pub(super) async fn batch<S: Seam>(
    service: &S,
    session: &HttpSession,
    messages: Vec<Result<Message, Malformed>>,
    stream: &ReplayBuffer,
) {
    let standalone = session.standalone();
    let runs = messages.into_iter().map(|message| async move {
        let run = own::run_batched(service, &session.session, message, stream, standalone);
        if let Some(answer) = run.await {
            // The answers wait for a client that reads; one that does not read for too long loses none either.
            if stream.push_paced(answer.clone()).await.is_err() {
                stream.push(answer).await;
            }
        }
    });
    join_all(runs).await;
    stream.finish();
}

/// Runs the messages of a batch side by side and returns the array of their answers.
pub(super) async fn batch_whole<S: Seam>(
    service: &S,
    session: &HttpSession,
    messages: Vec<Result<Message, Malformed>>,
) -> Bytes {
    let standalone = session.standalone();
    let runs = messages.into_iter().map(|message| {
        own::run_batched(
            service,
            &session.session,
            message,
            &**standalone,
            standalone,
        )
    });
    own::array(join_all(runs).await)
}
