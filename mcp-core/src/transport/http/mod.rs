//! Serves a stack over Streamable HTTP, to clients of every revision at once.
//!
//! The era of a client is recognised per request: one that names revision 2026-07-28 or later in `_meta` or in
//! `MCP-Protocol-Version` stands for itself, any other belongs to a session that `initialize` opened.
//!
//! # What is refused
//!
//! 1. A `Host` or `Origin` that is not accepted: 403 (see [`HttpConfig::with_allowed_host`]).
//! 2. Methods other than POST, GET and DELETE: 405. GET and DELETE belong to sessions.
//! 3. A POST whose `Content-Type` is not `application/json`: 415. One that accepts neither `application/json` nor
//!    `text/event-stream`: 406.
//! 4. A body over the limit: 413. A body that is not a JSON-RPC message: 400.
//! 5. Headers that disagree with the body, missing `_meta`, unknown revisions: 400 with the code of the
//!    specification.
//! 6. An unknown session, or one of another principal: 404. `initialize` opens another.
//! 7. A session, a call or a subscription more than [`Bounds`](crate::Bounds) allows: an error of kind
//!    [`ErrorKind::Overloaded`]. Where a client has too many sessions, its own idle ones end first.
//! 8. New sessions and calls while the transport drains: 503 with `Retry-After`.
//!
//! # What is answered
//!
//! A call that sends nothing before its result is answered as `application/json`; any other, and any that takes
//! longer than the keep-alive time, as `text/event-stream`. A stateless client cancels by closing the
//! connection. A call of a session runs on without its connection and can be resumed with `Last-Event-ID`.
//!
//! A client that accepts JSON only is answered with JSON: what a call sends before its result goes to the session's
//! standalone stream, or is dropped where there is no session. A client that accepts events only gets every result as
//! an event. A client that sends no `Accept` takes both. Optional members of `params` that are `null` count as absent.
//!
//! # Who calls
//!
//! A [`Principal`](crate::Principal) in the request's extensions, put there by an authentication layer outside
//! this transport. Without one each session is a principal of its own, and a stateless request is anonymous; see
//! also [`HttpConfig::single_user`].
//!
//! # Clones
//!
//! Clones share the sessions. [`HttpTransport::drain`] and [`HttpTransport::close`] end them in order.
//!
//! # Examples
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Full};
//! use mcp_core::{Error, Json, Request, Response, transport::http::{HttpConfig, HttpTransport}};
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = service_fn(|request: Request| async move {
//!     Ok::<_, Error>(Response::new(Json::string(request.method().as_str())))
//! });
//! let transport = HttpTransport::new(service, HttpConfig::default());
//! let call = http::Request::post("/mcp")
//!     .header("host", "localhost")
//!     .header("content-type", "application/json")
//!     .header("accept", "application/json, text/event-stream")
//!     .header("mcp-protocol-version", "2026-07-28")
//!     .header("mcp-method", "tools/list")
//!     .body(Full::new(Bytes::from(
//!         r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{
//!             "io.modelcontextprotocol/protocolVersion":"2026-07-28",
//!             "io.modelcontextprotocol/clientCapabilities":{}}}}"#,
//!     )))
//!     .unwrap();
//! let response = transport.oneshot(call).await.unwrap();
//! let body = response.into_body().collect().await.unwrap().to_bytes();
//! assert_eq!(body, r#"{"jsonrpc":"2.0","id":1,"result":"tools/list"}"#);
//! # }
//! ```

mod accept;
mod body;
mod config;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod pulse;
mod pump;
mod replay;
mod reply;
mod rules;
mod session;
mod sessions;
mod shares;
mod stateless;
mod table;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::LengthLimitError;
use tower_service::Service;

pub(crate) use self::shares::Shares;
use self::{
    accept::Accepted,
    pulse::Pulse,
    replay::ReplayLimits,
    reply::HttpResponse,
    session::SessionLimits,
    sessions::{Sessions, names_session},
    table::SessionTable,
};
pub use self::{body::ResponseBody, config::HttpConfig, table::PeerAddr};
#[cfg(feature = "serve")]
pub(crate) use self::{shares::Share, table::network};
use super::lifecycle::{Lifecycle, Phase};
use crate::{
    Era, Error, ErrorKind, ProtocolVersion, Seam,
    jsonrpc::{Malformed, Message},
    whole::read_whole,
};

/// Serves a stack over Streamable HTTP. See the [module](self).
pub struct HttpTransport<S>(Arc<Shared<S>>);

struct Shared<S> {
    service: S,
    config: HttpConfig,
    table: Arc<SessionTable>,
    limits: Arc<SessionLimits>,
    /// The open stateless subscriptions.
    listeners: Arc<Shares<table::Owner>>,
    pulse: Pulse,
    lifecycle: Lifecycle,
}

impl<S: Seam> HttpTransport<S> {
    /// Creates a Streamable HTTP transport for `service`.
    #[must_use]
    pub fn new(service: S, config: HttpConfig) -> Self {
        let lifecycle = Lifecycle::new(&config.timing);
        let (timing, bounds) = (&config.timing, &config.bounds);
        Self(Arc::new(Shared {
            service,
            table: SessionTable::new(timing, bounds),
            limits: Arc::new(SessionLimits {
                replay: ReplayLimits::new(timing, bounds),
                streams: bounds.replay_streams.get(),
            }),
            listeners: Shares::new(bounds.listeners_per_principal.get()),
            pulse: Pulse::new(timing.keep_alive, lifecycle.clone()),
            lifecycle,
            config,
        }))
    }
}

impl<S> HttpTransport<S> {
    /// Returns how many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.table.len()
    }

    /// Returns whether sessions and calls are taken: from the start until [`HttpTransport::drain`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lifecycle.phase() == Phase::Open
    }

    /// Refuses new sessions and calls from now on, and waits for those in flight to finish. Returns whether all have
    /// finished within `deadline`.
    ///
    /// What is refused gets status 503 with `Retry-After` and a JSON-RPC error that says to try again. Subscriptions
    /// end at once, standalone streams when the calls have finished. Clients may still answer server-initiated requests
    /// of calls in flight. Draining cannot be undone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the transport draining; it can be waited for again.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let finished = self.0.lifecycle.drain(deadline).await;
        self.0.table.end_streams();
        finished
    }

    /// Ends all sessions, their streams and every task of the transport, and waits for the tasks to end. A call in
    /// flight is answered with an error of kind [`ErrorKind::Unavailable`]. Later requests are refused as in
    /// [`HttpTransport::drain`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the transport closed; its tasks end on their own.
    pub async fn close(&self) {
        self.0.lifecycle.close();
        self.0.table.clear();
        self.0.lifecycle.ended().await;
    }
}

#[async_trait::async_trait]
impl<S: Seam> crate::Drain for HttpTransport<S> {
    async fn drain(&self, deadline: Duration) -> bool {
        Self::drain(self, deadline).await
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

impl<S> Clone for HttpTransport<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for HttpTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}

impl<S, B> Service<http::Request<B>> for HttpTransport<S>
where
    S: Seam,
    B: Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
{
    type Response = HttpResponse;
    type Error = Infallible;
    /// Boxed: reading the body and the rules of each revision have no type with a name.
    type Future = BoxFuture<'static, Result<HttpResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let transport = Arc::clone(&self.0);
        Box::pin(async move { Ok(transport.handle(request).await) })
    }
}

impl<S: Seam> Shared<S> {
    async fn handle<B>(&self, request: http::Request<B>) -> HttpResponse
    where
        B: Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        if let Err((status, message)) = guard::check(&self.config, &parts.uri, &parts.headers) {
            let error = Error::new(ErrorKind::InvalidRequest, message);
            return reply::refusal(status, &error, Era::Stateless);
        }
        let sessions = Sessions {
            shared: self,
            parts: &parts,
        };
        let stateless = is_stateless(&parts) && !names_session(&parts.headers);
        match parts.method {
            Method::POST => self.post(&sessions, stateless, body).await,
            // Sessions have GET and DELETE; the stateless era does not.
            Method::GET | Method::DELETE if stateless => method_not_allowed("POST"),
            Method::GET if !Accepted::of(&parts.headers).is_some_and(|own| own.events) => {
                not_acceptable("a GET must accept text/event-stream")
            }
            Method::GET => sessions.get(),
            Method::DELETE => sessions.delete(),
            _ => method_not_allowed("GET, POST, DELETE"),
        }
    }

    async fn post<B>(&self, sessions: &Sessions<'_, S>, stateless: bool, body: B) -> HttpResponse
    where
        B: Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
    {
        let parts = sessions.parts;
        if !is_json(parts) {
            let error = Error::new(
                ErrorKind::InvalidRequest,
                "Content-Type must be application/json",
            );
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return reply::refusal(status, &error, Era::Stateless);
        }
        let Some(accepted) = Accepted::of(&parts.headers) else {
            return not_acceptable("a POST must accept application/json or text/event-stream");
        };
        let body = match self.collect(body).await {
            Ok(body) => super::text::without_mark(body),
            Err(refusal) => return refusal,
        };
        let message = Message::parse(&body).map(super::params::without_nulls);
        // Some clients of sessions name the newest revision that they know in the header: the body decides.
        if stateless || names_stateless(&message) {
            return stateless::post(self, parts, accepted, message).await;
        }
        sessions.post(accepted, &body, message).await
    }

    async fn collect<B>(&self, body: B) -> Result<Bytes, HttpResponse>
    where
        B: Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
    {
        let limit = self.config.bounds.body.get();
        match read_whole(body, limit).await {
            Ok(body) => Ok(body),
            Err(error) if error.is::<LengthLimitError>() => {
                let error = Error::new(
                    ErrorKind::TooLarge,
                    format!("the body is larger than {limit} bytes; send less in one message"),
                );
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Err(reply::refusal(status, &error, Era::Stateless))
            }
            Err(_) => {
                let error = Error::new(ErrorKind::InvalidRequest, "the body broke off");
                let status = StatusCode::BAD_REQUEST;
                Err(reply::refusal(status, &error, Era::Stateless))
            }
        }
    }
}

/// Whether the header names a revision without sessions.
fn is_stateless(parts: &Parts) -> bool {
    parts
        .headers
        .get(&rules::PROTOCOL_VERSION)
        .and_then(|version| version.to_str().ok())
        .is_some_and(|version| ProtocolVersion::new(version).era() == Era::Stateless)
}

/// Whether the body names a revision at all: only requests of the stateless era do.
fn names_stateless(message: &Result<Message, Malformed>) -> bool {
    let (Ok(Message::Request(_, _, params)) | Ok(Message::Notification(_, params))) = message
    else {
        return false;
    };
    super::stateless::is_named(params.as_ref())
}

fn is_json(parts: &Parts) -> bool {
    parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn method_not_allowed(allow: &'static str) -> HttpResponse {
    let mut response = reply::status(StatusCode::METHOD_NOT_ALLOWED);
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn not_acceptable(message: &'static str) -> HttpResponse {
    let error = Error::new(ErrorKind::InvalidRequest, message);
    reply::refusal(StatusCode::NOT_ACCEPTABLE, &error, Era::Stateless)
}
