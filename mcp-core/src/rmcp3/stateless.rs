//! Calls of revision 2026-07-28 to an rmcp server.

use std::{future::Future, io, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use rmcp::{
    RoleServer, ServerHandler,
    model::{ErrorData, ServerResult},
    service::{
        RequestContext, RxJsonRpcMessage, Service, TxJsonRpcMessage, serve_directly_with_ct,
    },
    transport::Transport,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

use super::convert;
use crate::{
    Error, ErrorKind, Method, Notification, Request, Response, jsonrpc::Message, protocol::meta,
};

/// How long a handler whose call was dropped may run on, to see that and to tidy up.
const GRACE: Duration = Duration::from_secs(5);

/// Calls a handler in the caller's own future.
///
/// # Cancel safety
///
/// Dropping the future cancels the handler's token. The handler runs on for [`GRACE`] at most; what it still
/// sends goes nowhere.
pub(super) async fn call<H: ServerHandler>(
    handler: Arc<H>,
    request: Request,
) -> Result<Response, Error> {
    if request.is_notification() {
        return Ok(Response::empty());
    }
    let typed = convert::client_request(&request)?;
    let (sent, mut outgoing) = mpsc::unbounded_channel();
    // The loop that carries the peer's messages ends with this call.
    let cancel = CancellationToken::new();
    let running = serve_directly_with_ct(
        Nobody,
        Outgoing { sent },
        Some(convert::peer_info(&request)?),
        cancel.clone(),
    );
    let _ended = cancel.drop_guard();
    let mut context =
        RequestContext::<RoleServer>::new(convert::request_id(1), running.peer().clone());
    context.meta = convert::request_meta(&request);
    context.extensions = convert::extensions(&request);
    let mut handling = Handling::start(handler, typed, context);
    loop {
        tokio::select! {
            biased;
            Some((message, taken)) = outgoing.recv() => {
                forward(&request, message).await?;
                let _ = taken.send(());
            }
            answer = handling.finish() => {
                while let Ok((message, _)) = outgoing.try_recv() {
                    forward(&request, message).await?;
                }
                return convert::answer(answer);
            }
        }
    }
}

/// A handler at work. Dropped before it is done, it is cancelled and runs on for [`GRACE`].
struct Handling {
    answer: Option<BoxFuture<'static, Result<ServerResult, ErrorData>>>,
    cancel: CancellationToken,
}

impl Handling {
    fn start<H: ServerHandler>(
        handler: Arc<H>,
        request: rmcp::model::ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Self {
        let cancel = context.ct.clone();
        let answer =
            async move { Service::<RoleServer>::handle_request(&*handler, request, context).await };
        Self {
            answer: Some(answer.boxed()),
            cancel,
        }
    }

    /// Awaits the handler's answer, once.
    async fn finish(&mut self) -> Result<ServerResult, ErrorData> {
        let Some(answer) = &mut self.answer else {
            return std::future::pending().await;
        };
        let answer = answer.await;
        self.answer = None;
        answer
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.cancel.cancel();
        // Without a runtime nothing can run on, and the handler's future is dropped here.
        if let (Some(answer), Ok(runtime)) = (self.answer.take(), Handle::try_current()) {
            runtime.spawn(timeout(GRACE, answer));
        }
    }
}

/// Brings what a handler sends to the client of the call.
async fn forward(request: &Request, message: TxJsonRpcMessage<RoleServer>) -> Result<(), Error> {
    match convert::server_message(&message) {
        Some(Message::Notification(method, params)) => {
            let mut notification = Notification::new(method, params.map(Into::into));
            if *request.method() == Method::SUBSCRIPTIONS_LISTEN {
                // The transport writes the client's own id here.
                notification = notification.with_meta(meta::SUBSCRIPTION_ID, None);
            }
            request.notifier().notify(notification).await
        }
        // rmcp refuses to ask a client of this revision before anything is sent.
        Some(_) => Ok(()),
        None => Err(Error::new(
            ErrorKind::Internal,
            "the server sent a message that cannot be encoded",
        )),
    }
}

/// Gets no messages: only its peer is of use.
#[derive(Clone)]
struct Nobody;

impl ServerHandler for Nobody {}

/// Takes what a peer sends, in the order in which it is sent.
struct Outgoing {
    sent: mpsc::UnboundedSender<(TxJsonRpcMessage<RoleServer>, oneshot::Sender<()>)>,
}

impl Transport<RoleServer> for Outgoing {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        // Here, not in the future: rmcp spawns the futures, which loses their order.
        let (taken, done) = oneshot::channel();
        let sent = self.sent.send((message, taken));
        async move {
            sent.map_err(|_| closed())?;
            done.await.map_err(|_| closed())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        std::future::pending().await
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        Ok(())
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the call is over")
}
