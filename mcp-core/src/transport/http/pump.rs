//! Calls of a session that go on without the request that started them.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{log::StreamLog, session::HttpSession};
use crate::{
    Request, Seam,
    jsonrpc::{Id, Malformed, Message},
    notifier::Outgoing,
    transport::{
        call::{Call, Cancelled},
        exchange::{Exchange, Step},
        outlet::{self, Outlet},
        session::Session,
    },
};

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
    call: Call,
    id: Id,
    first: Option<Outgoing>,
    log: Arc<StreamLog>,
) {
    if let Ok(answer) = outlet::run(&session, call, &id, first, &*log).await {
        log.push(answer).await;
    }
    log.finish();
}

/// Brings a client's notification to the stack.
pub(super) async fn notify<S: Seam>(service: &S, notification: Request) {
    // Nobody waits for an answer, so nobody learns of an error.
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
    log: &StreamLog,
) {
    let standalone = session.standalone();
    let runs = messages.into_iter().map(|message| async move {
        let run = outlet::run_batched(service, &session.session, message, log, standalone);
        if let Some(answer) = run.await {
            log.push(answer).await;
        }
    });
    join_all(runs).await;
    log.finish();
}
