//! Sessions of the session era with an rmcp server.

use std::{any::Any, future::Future, io, sync::Arc};

use futures_util::future::BoxFuture;
use rmcp::{
    RoleServer, ServerHandler,
    model::{
        ClientJsonRpcMessage, ClientRequest, GetExtensions, GetMeta, InitializeRequest,
        JsonRpcMessage,
    },
    service::{OriginatingRequestId, RxJsonRpcMessage, TxJsonRpcMessage, serve_directly_with_ct},
    transport::Transport,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::convert;
use crate::{
    Era, Error, ErrorKind, Json, Method, Object, Request, Response,
    jsonrpc::{self, Id},
    pipe::{Outbound, Pipe, Replies, Wire, opening_level},
    protocol::meta,
};

/// A session with a handler: one rmcp peer for all its calls.
pub(super) struct Session {
    pipe: Pipe,
    /// What `initialize` answered, as `server/discover` would.
    discovered: Response,
    /// rmcp's loop, which ends when this is dropped.
    _running: Box<dyn Any + Send + Sync>,
}

impl Session {
    /// Opens a session for the client of a request.
    pub(super) async fn open<H: ServerHandler>(
        handler: Arc<H>,
        request: &Request,
    ) -> Result<Self, Error> {
        let (incoming, messages) = mpsc::unbounded_channel();
        let pipe = Pipe::new(Incoming(incoming.clone())).for_client(request.session().cloned());
        let transport = Duplex {
            messages,
            pipe: pipe.clone(),
        };
        let info = convert::peer_info(request)?;
        let running = serve_directly_with_ct(
            handler,
            transport,
            Some(info.clone()),
            CancellationToken::new(),
        );
        let initialize = Request::encode(Method::INITIALIZE, &info)?.with_context_of(request);
        let answer = pipe.call(initialize).await?;
        if let Some(initialized) = convert::client_notification(Method::INITIALIZED.as_str(), None)
        {
            // An error says that the session is over already: the next call will say so too.
            let _ = incoming.send(ClientJsonRpcMessage::notification(initialized));
        }
        let discovered = as_discovered(&answer)?;
        if let Some(level) = opening_level(request, &discovered) {
            // A handler that takes no levels logs as it likes.
            let _ = pipe.call(level).await;
        }
        Ok(Self {
            pipe,
            discovered,
            _running: Box::new(running),
        })
    }

    /// Makes a call of the session.
    pub(super) async fn call(&self, request: Request) -> Result<Response, Error> {
        match *request.method() {
            Method::DISCOVER => Ok(self.discovered.clone()),
            _ => self.pipe.call_session_era(request).await,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pipe
            .close(&Error::new(ErrorKind::Unavailable, "the session has ended"));
    }
}

/// Writes the result of `initialize` as that of `server/discover`.
fn as_discovered(answer: &Response) -> Result<Response, Error> {
    let answer = Object::index(answer.result())?;
    let mut own = Object::default();
    if let Some(info) = answer.get("serverInfo") {
        own.set(meta::SERVER_INFO, info);
    }
    let mut result = Object::default();
    let version = answer.get("protocolVersion").unwrap_or(Json::NULL);
    result.set("resultType", Json::string("complete"));
    result.set("supportedVersions", Json::composed(format!("[{version}]")));
    for member in ["capabilities", "instructions"] {
        if let Some(value) = answer.get(member) {
            result.set(member, value);
        }
    }
    result.set("_meta", own.to_json());
    Ok(Response::new(result.to_json()))
}

/// Brings the client's messages to rmcp's loop.
struct Incoming(mpsc::UnboundedSender<ClientJsonRpcMessage>);

impl Incoming {
    fn push(&self, message: Option<ClientJsonRpcMessage>) -> Result<(), Error> {
        let over = || Error::new(ErrorKind::NotSent, "the session with the server is over");
        match message {
            Some(message) => self.0.send(message).map_err(|_| over()),
            None => Ok(()),
        }
    }
}

impl Wire for Incoming {
    fn request<'a>(&'a self, id: u64, request: &'a Request) -> BoxFuture<'a, Result<(), Error>> {
        let typed = match *request.method() {
            Method::INITIALIZE => convert::peer_info(request)
                .map(|info| ClientRequest::InitializeRequest(InitializeRequest::new(info))),
            _ => convert::client_request(request),
        };
        let sent = typed.and_then(|mut typed| {
            *typed.extensions_mut() = convert::extensions(request);
            *typed.get_meta_mut() = convert::request_meta(request);
            self.push(Some(ClientJsonRpcMessage::request(
                typed,
                convert::request_id(id),
            )))
        });
        Box::pin(async { sent })
    }
}

impl Replies for Incoming {
    fn send(&self, message: Outbound) -> BoxFuture<'_, Result<(), Error>> {
        let sent = self.push(client_message(message));
        Box::pin(async { sent })
    }

    fn try_send(&self, message: Outbound) {
        // A session that is over needs no message.
        let _ = self.push(client_message(message));
    }
}

fn client_message(message: Outbound) -> Option<ClientJsonRpcMessage> {
    match message {
        Outbound::Notification(notification) => {
            let method = notification.method().as_str();
            let typed = convert::client_notification(method, notification.params())?;
            Some(ClientJsonRpcMessage::notification(typed))
        }
        Outbound::Answer(id, Err(error)) => Some(ClientJsonRpcMessage::error(
            convert::error_data(&error, Era::Session),
            Some(convert::rmcp_id(&id)),
        )),
        Outbound::Answer(id, Ok(result)) => {
            let text = jsonrpc::write_response(&id, &result);
            match serde_json::from_slice(&text) {
                Ok(message) => Some(message),
                Err(error) => Some(undecodable(&id, &error)),
            }
        }
    }
}

fn undecodable(id: &Id, error: &serde_json::Error) -> ClientJsonRpcMessage {
    let data = json!({ "reason": error.to_string() });
    ClientJsonRpcMessage::error(
        rmcp::model::ErrorData::internal_error(
            "the client's answer cannot be decoded".to_owned(),
            Some(data),
        ),
        Some(convert::rmcp_id(id)),
    )
}

/// rmcp's end of the conversation.
struct Duplex {
    messages: mpsc::UnboundedReceiver<ClientJsonRpcMessage>,
    pipe: Pipe,
}

impl Transport<RoleServer> for Duplex {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        // Here, not in the future: rmcp spawns the futures, which loses their order.
        let cause = match &message {
            JsonRpcMessage::Request(question) => question
                .request
                .extensions()
                .get::<OriginatingRequestId>()
                .and_then(|origin| convert::id_number(&origin.0)),
            _ => None,
        };
        if let Some(message) = convert::server_message(&message) {
            self.pipe.receive(message, cause);
        }
        std::future::ready(Ok(()))
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.messages.recv().await
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.messages.close();
        self.pipe
            .close(&Error::new(ErrorKind::Unavailable, "the session has ended"));
        Ok(())
    }
}
