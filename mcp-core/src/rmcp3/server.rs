//! A service of the seam, served by rmcp's transports.

use std::{borrow::Cow, fmt, num::NonZeroUsize};

use rmcp::{
    RoleServer,
    model::{
        ClientNotification, ClientRequest, CustomResult, ErrorData, InitializeRequestParams,
        InitializeResult, ProtocolVersion as RmcpVersion, ServerNotification, ServerRequest,
        ServerResult,
    },
    service::{NotificationContext, Peer, RequestContext, Service, ServiceError},
};
use serde::Serialize;
use tower::ServiceExt;

use super::convert;
use crate::{
    Asker, ClientCapabilities, Era, Error, ErrorKind, Json, LogLevel, Method, Notification,
    Notifier, Object, Principal, ProtocolVersion, Request, Response, Seam, SessionKey,
    TraceContext,
    handshake::{self, Opening},
    notifier::Outgoing,
    protocol::meta,
};

/// How many notifications of one call may wait for the transport.
const WAITING: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// Serves a service of the seam over rmcp's stdio and custom transports: one value for each connection.
///
/// Over HTTP use [`HttpTransport`](crate::transport::http::HttpTransport): rmcp's HTTP service accepts nothing but a
/// `ServerHandler`.
///
/// Results pass through `serde_json::Value` on this path, since rmcp's transports encode them: members keep their
/// values, but not their order or the spelling of numbers. [`stdio`](crate::transport::stdio) keeps every byte.
///
/// # Examples
///
/// ```no_run
/// use mcp_core::{Principal, rmcp3::{RmcpServer, serve}};
/// use rmcp::{ServerHandler, ServiceExt, transport::stdio};
///
/// # #[derive(Clone)] struct MyServer;
/// # impl ServerHandler for MyServer {}
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let service = serve(MyServer).into_service();
/// RmcpServer::new(service, Principal::local())
///     .serve(stdio())
///     .await?
///     .waiting()
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct RmcpServer<S> {
    service: S,
    principal: Principal,
    session: SessionKey,
    level: std::sync::Mutex<Option<LogLevel>>,
    info: std::sync::OnceLock<ConnectedClient>,
}

#[derive(Clone)]
struct ConnectedClient {
    version: ProtocolVersion,
    capabilities: ClientCapabilities,
    client_info: Option<Json>,
}

impl<S: Seam> RmcpServer<S> {
    /// Wraps a service, for the connection of one principal.
    pub fn new(service: S, principal: Principal) -> Self {
        static CONNECTIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = CONNECTIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self {
            service,
            principal,
            session: SessionKey::new(&format!("rmcp-{number}")),
            level: std::sync::Mutex::default(),
            info: std::sync::OnceLock::new(),
        }
    }

    async fn answer(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, Error> {
        if let ClientRequest::InitializeRequest(initialize) = &request {
            return self.initialize(&initialize.params).await;
        }
        if let ClientRequest::PingRequest(_) = &request {
            return Ok(ServerResult::empty(()));
        }
        let request = self.request(&request, &context)?;
        let level = (*request.method() == Method::SET_LEVEL)
            .then(|| request.param("level"))
            .flatten()
            .and_then(|level| LogLevel::new(&level.to_text()?));
        let response = self.run(request, &context).await?;
        if level.is_some() {
            *self
                .level
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = level;
        }
        let value = response.decode()?;
        Ok(ServerResult::CustomResult(CustomResult::new(value)))
    }

    async fn initialize(&self, params: &InitializeRequestParams) -> Result<ServerResult, Error> {
        let params = Object::try_from(Json::encode(params)?)?;
        let opening = Opening::read(Some(&params))?;
        let client = ConnectedClient {
            version: opening.version,
            capabilities: opening.capabilities,
            client_info: opening.client_info,
        };
        let client = self.info.get_or_init(|| client).clone();
        let discover = Request::new(Method::DISCOVER, Some(Json::EMPTY_OBJECT))?;
        let discovered = self.oneshot(self.complete(discover, &client)).await?;
        let answer: InitializeResult = handshake::answer(&client.version, &discovered).decode()?;
        Ok(ServerResult::InitializeResult(answer))
    }

    /// Writes a typed request as one of the seam.
    fn request(
        &self,
        request: &ClientRequest,
        context: &RequestContext<RoleServer>,
    ) -> Result<Request, Error> {
        let message = Object::try_from(Json::encode(request)?)?;
        let params = message.get("params").filter(|params| !params.is_null());
        let mut params = params.map(Object::try_from).transpose()?;
        if !context.meta.is_empty() {
            params
                .get_or_insert_default()
                .set("_meta", Json::encode(&context.meta)?);
        }
        let request = Request::from_object(Method::new(request.method()), params)?;
        let own = request.meta().unwrap_or_default();
        let request = request.with_trace(TraceContext::from_meta(&own));
        let stated = context
            .meta
            .protocol_version()
            .map(|version| ProtocolVersion::new(version.as_str()))
            .filter(|version| version.era() == Era::Stateless);
        Ok(match (stated, self.info.get()) {
            (Some(version), _) => request
                .with_principal(self.principal.clone())
                .with_version(version)
                .with_log_level(own.text(meta::LOG_LEVEL).and_then(|l| LogLevel::new(&l)))
                .with_capabilities(
                    own.get(meta::CLIENT_CAPABILITIES)
                        .map(ClientCapabilities::new)
                        .unwrap_or_default(),
                ),
            (None, Some(client)) => self.complete(request, client),
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    "initialize the session first, or state the revision in `_meta`",
                ));
            }
        })
    }

    fn complete(&self, request: Request, client: &ConnectedClient) -> Request {
        let level = *self
            .level
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let request = request
            .with_principal(self.principal.clone())
            .with_version(client.version.clone())
            .with_capabilities(client.capabilities.clone())
            .with_session(self.session.clone())
            .with_log_level(level);
        match &client.client_info {
            Some(info) => request.with_client_info(info.clone()),
            None => request,
        }
    }

    async fn oneshot(&self, request: Request) -> Result<Response, Error> {
        self.service.clone().oneshot(request).await
    }

    /// Runs a call, bringing what it sends to the peer in order.
    async fn run(
        &self,
        request: Request,
        context: &RequestContext<RoleServer>,
    ) -> Result<Response, Error> {
        let subscription = (*request.method() == Method::SUBSCRIPTIONS_LISTEN)
            .then(|| Json::encode(&context.id))
            .transpose()?;
        let session = request.session().is_some();
        let (notifier, mut outgoing) = Notifier::channel(WAITING);
        let mut request = request.with_notifier(notifier.clone());
        if session {
            request = request.with_asker(Asker::from(notifier));
        }
        let call = self.oneshot(request);
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                () = context.ct.cancelled() => {
                    return Err(Error::new(ErrorKind::Cancelled, "the client cancelled the call"));
                }
                Some(sent) = outgoing.receiver().recv() => {
                    forward(&context.peer, *sent, subscription.as_ref()).await?;
                }
                answer = &mut call => {
                    while let Some(sent) = outgoing.receiver().try_recv() {
                        forward(&context.peer, *sent, subscription.as_ref()).await?;
                    }
                    return answer;
                }
            }
        }
    }
}

async fn forward(
    peer: &Peer<RoleServer>,
    sent: Outgoing,
    subscription: Option<&Json>,
) -> Result<(), Error> {
    match sent {
        Outgoing::Notification(notification) => {
            let notification = match subscription {
                Some(id) => notification.with_meta(meta::SUBSCRIPTION_ID, Some(id.clone())),
                None => notification,
            };
            let typed: ServerNotification = typed(&notification)?;
            peer.send_notification(typed).await.map_err(gone)
        }
        Outgoing::ServerRequest(server_request) => {
            let asked = Notification::new(server_request.method, server_request.params);
            let typed: ServerRequest = typed(&asked)?;
            let peer = peer.clone();
            tokio::spawn(async move {
                let answer = match peer.send_request(typed).await {
                    Ok(result) => Json::encode(&result).map_err(Error::from),
                    Err(ServiceError::McpError(error)) => Err(convert::failure(&error)),
                    Err(error) => Err(gone(error)),
                };
                // Whoever asked may have stopped waiting.
                let _ = server_request.answer.send(answer);
            });
            Ok(())
        }
    }
}

fn typed<T: serde::de::DeserializeOwned>(message: &Notification) -> Result<T, Error> {
    #[derive(Serialize)]
    struct Wire<'a> {
        method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        params: Option<&'a Json>,
    }
    Json::encode(&Wire {
        method: message.method().as_str(),
        params: message.params(),
    })?
    .decode()
    .map_err(|error| {
        Error::new(
            ErrorKind::BadUpstream,
            "a notification cannot be passed to rmcp",
        )
        .with_source(error)
    })
}

fn gone(error: ServiceError) -> Error {
    Error::new(ErrorKind::Cancelled, "the client of this call is gone").with_source(error)
}

impl<S: Seam> Service<RoleServer> for RmcpServer<S> {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let era = match context.protocol_version() {
            Some(version) if version.as_str() >= ProtocolVersion::V_2026_07_28.as_str() => {
                Era::Stateless
            }
            _ => Era::Session,
        };
        self.answer(request, context)
            .await
            .map_err(|error| convert::error_data(&error, era))
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        _: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let Some(client) = self.info.get() else {
            return Ok(());
        };
        let passed = match &notification {
            ClientNotification::InitializedNotification(_)
            | ClientNotification::CancelledNotification(_) => return Ok(()),
            other => Json::encode(other).and_then(Object::try_from),
        };
        let internal = |error: Error| ErrorData::internal_error(error.message().to_owned(), None);
        let message = passed.map_err(|error| internal(error.into()))?;
        let method = Method::new(&message.text("method").unwrap_or_default());
        let request = Request::notification(method, message.get("params")).map_err(internal)?;
        self.oneshot(self.complete(request, client))
            .await
            .map(drop)
            .map_err(internal)
    }

    fn get_info(&self) -> rmcp::model::ServerConfig {
        rmcp::model::ServerConfig::default()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [RmcpVersion]> {
        Cow::Borrowed(RmcpVersion::KNOWN_VERSIONS)
    }
}

impl<S> Drop for RmcpServer<S> {
    fn drop(&mut self) {
        self.session.close();
    }
}

impl<S> fmt::Debug for RmcpServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RmcpServer")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}
