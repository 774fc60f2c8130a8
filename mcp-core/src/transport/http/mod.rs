//! Serves a stack over Streamable HTTP, to clients of every revision at once.
//!
//! The era of a client is recognised per request: one that names revision 2026-07-28 or later in `_meta` or in
//! `MCP-Protocol-Version` stands for itself, any other belongs to a session that `initialize` opened.
//!
//! # What is refused
//!
//! 1. A `Host` or `Origin` that is not accepted: 403 (see [`HttpConfig::with_allowed_host`]).
//! 2. Methods other than POST, GET and DELETE: 405. GET and DELETE belong to sessions.
//! 3. A POST whose `Content-Type` is not `application/json`: 415. One that does not accept both
//!    `application/json` and `text/event-stream`: 406.
//! 4. A body over the limit: 413. A body that is not a JSON-RPC message: 400.
//! 5. Headers that disagree with the body, missing `_meta`, unknown revisions: 400 with the code of the
//!    specification.
//! 6. An unknown session, or one of another principal: 404.
//!
//! # What is answered
//!
//! A call that sends nothing before its result is answered as `application/json`; any other, and any that takes
//! longer than the keep-alive time, as `text/event-stream`. A stateless client cancels by closing the
//! connection. A call of a session goes on without its connection and can be resumed with `Last-Event-ID`.
//!
//! # Who calls
//!
//! A [`Principal`] in the request's extensions, put there by an authentication layer outside
//! this transport. Without one each session is a principal of its own, and a stateless request is anonymous; see
//! also [`HttpConfig::single_user`].
//!
//! # Clones
//!
//! Clones share the sessions. [`HttpTransport::close`] ends them all.
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

mod body;
mod config;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod log;
mod pulse;
mod pump;
mod registry;
mod reply;
mod rules;
mod session;
mod sessions;
mod stateless;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::LengthLimitError;
use tower_service::Service;

pub use self::{body::ResponseBody, config::HttpConfig};
use self::{pulse::Pulse, registry::Registry, reply::HttpResponse, sessions::Sessions};
use crate::{
    Era, Error, ErrorKind, Principal, ProtocolVersion, Seam,
    http_client::read_whole,
    jsonrpc::{Malformed, Message},
};

/// Serves a stack over Streamable HTTP. See the [module](self).
pub struct HttpTransport<S>(Arc<Shared<S>>);

struct Shared<S> {
    service: S,
    config: HttpConfig,
    registry: Arc<Registry>,
    pulse: Pulse,
}

impl<S: Seam> HttpTransport<S> {
    /// Creates a Streamable HTTP transport for `service`.
    #[must_use]
    pub fn new(service: S, config: HttpConfig) -> Self {
        Self(Arc::new(Shared {
            service,
            pulse: Pulse::new(config.keep_alive),
            config,
            registry: Arc::default(),
        }))
    }
}

impl<S> HttpTransport<S> {
    /// Returns how many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.registry.len()
    }

    /// Ends all sessions and their streams. Clients that come back open another session.
    pub fn close(&self) {
        self.0.registry.clear();
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
    type Response = http::Response<ResponseBody>;
    type Error = Infallible;
    /// Boxed: it awaits the stack's own future, whose type has no name.
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    /// Always ready: the stack is made ready for each call, which may be refused while others go on.
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
            service: &self.service,
            config: &self.config,
            registry: &self.registry,
            pulse: &self.pulse,
        };
        match parts.method {
            Method::POST => self.post(&sessions, &parts, body).await,
            // Sessions have GET and DELETE; a client of revision 2026-07-28 that tries them is told so.
            Method::GET | Method::DELETE if is_stateless(&parts) => method_not_allowed("POST"),
            Method::GET if !accepts(&parts, "text/event-stream") => {
                not_acceptable("a GET must accept text/event-stream")
            }
            Method::GET => sessions.get(&parts),
            Method::DELETE => sessions.delete(&parts),
            _ => method_not_allowed("GET, POST, DELETE"),
        }
    }

    async fn post<B>(&self, sessions: &Sessions<'_, S>, parts: &Parts, body: B) -> HttpResponse
    where
        B: Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
    {
        if !is_json(parts) {
            let error = Error::new(
                ErrorKind::InvalidRequest,
                "Content-Type must be application/json",
            );
            return reply::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error, Era::Stateless);
        }
        if !accepts_both(parts) {
            return not_acceptable("a POST must accept application/json and text/event-stream");
        }
        let body = match self.collect(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let message = Message::parse(&body);
        if is_stateless(parts) || names_stateless(&message) {
            let principal = match self.config.single_user {
                true => Principal::local,
                false => Principal::anonymous,
            };
            return stateless::post(&self.service, parts, message, principal, &self.pulse).await;
        }
        sessions.post(parts, &body, message).await
    }

    async fn collect<B>(&self, body: B) -> Result<Bytes, HttpResponse>
    where
        B: Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
    {
        match read_whole(body, self.config.body_limit).await {
            Ok(body) => Ok(body),
            Err(error) if error.is::<LengthLimitError>() => {
                let limit = self.config.body_limit;
                let error = Error::new(
                    ErrorKind::TooLarge,
                    format!("the body is larger than {limit} bytes; send less in one message"),
                );
                Err(reply::refusal(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &error,
                    Era::Stateless,
                ))
            }
            Err(_) => {
                let error = Error::new(ErrorKind::InvalidRequest, "the body broke off");
                Err(reply::refusal(
                    StatusCode::BAD_REQUEST,
                    &error,
                    Era::Stateless,
                ))
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
    crate::transport::stateless::is_named(params.as_ref())
}

fn is_json(parts: &Parts) -> bool {
    parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether `Accept` admits what a POST may be answered with.
fn accepts_both(parts: &Parts) -> bool {
    // What clients send, letter by letter.
    const USUAL: &[u8] = b"application/json, text/event-stream";
    let accept = parts.headers.get(header::ACCEPT);
    accept.is_some_and(|accept| accept.as_bytes() == USUAL)
        || (accepts(parts, "application/json") && accepts(parts, "text/event-stream"))
}

/// Whether `Accept` admits a type (RFC 9110, section 12.5.1; quality 0 is not looked for).
fn accepts(parts: &Parts, wanted: &str) -> bool {
    let family = wanted.split('/').next().unwrap_or_default();
    parts
        .headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .map(str::trim)
        .any(|range| {
            range.eq_ignore_ascii_case(wanted)
                || range == "*/*"
                || range
                    .strip_suffix("/*")
                    .is_some_and(|own| own.eq_ignore_ascii_case(family))
        })
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
