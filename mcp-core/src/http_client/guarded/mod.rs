mod body;
mod config;
mod connect;
mod driven;
mod idle;
mod incoming;
mod redirect;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::client::legacy::Client;
use tokio::time::Instant;

use self::body::GuardedBody;
pub use self::config::GuardedClientBuilder;
use self::connect::{BoxError, Connector, Refused, Rules};
pub use self::connect::{Resolve, SystemResolver};
use self::driven::{Connection, Lease, Unanswered};
use self::idle::Idle;
pub use self::incoming::IncomingBody;
use self::redirect::{Hop, next_hop};
use super::{HttpClient, HttpError, HttpErrorKind, ResponseBody, content_coding};
use crate::ConfigError;

/// Sends requests to public `https` addresses and to the origins that the operator allowed; clones share the
/// pool of connections.
///
/// The rules are in the [module's documentation](super). HTTP/2 is used where the server offers it by ALPN.
/// Connections have `TCP_NODELAY` set. Those over `http` have no task of their own: who waits for an answer drives its
/// connection. Needs a tokio runtime with timers and I/O.
///
/// There are two ways to send. [`HttpClient::send`] applies all limits and follows redirects.
/// [`request`](Self::request) is for callers with limits of their own, such as a gateway that passes a body on:
/// it guards where the connection goes and bounds the headers, and nothing else.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mcp_core::http_client::{GuardedClient, HttpClient};
///
/// let client = GuardedClient::builder().allow_origin("http://idp.internal:8080")?.build()?;
/// let request = http::Request::get("https://example.com/").body(bytes::Bytes::new())?;
/// let body = client.send(request).await?.into_body().collect(64 * 1024).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GuardedClient {
    /// For `http`.
    plain: Arc<Plain>,
    /// For `https`.
    client: Client<Connector, Full<Bytes>>,
    /// Opens a connection for each request and keeps none.
    unpooled: Client<Connector, Full<Bytes>>,
    rules: Arc<Rules>,
    limits: Limits,
}

/// What sends requests over `http`.
struct Plain {
    connector: Connector,
    settings: http1::Builder,
    idle: Arc<Idle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooled {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    body: u64,
    total: Option<Duration>,
    redirects: u32,
}

impl GuardedClient {
    /// Begins a client with the default rules.
    pub fn builder() -> GuardedClientBuilder {
        GuardedClientBuilder::new()
    }

    /// Makes a client for one address the operator configured: an `https` one, beside public `https` addresses, or
    /// an `http` one, alone and without TLS.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the address is not an absolute `http` or `https` one, or TLS cannot be set up.
    pub fn operator(url: &str) -> Result<Self, ConfigError> {
        let builder = Self::builder().allow_origin(url)?;
        match builder.is_plain() {
            true => builder.without_tls().build(),
            false => builder.build(),
        }
    }

    /// Sends one request over a pooled connection and returns the answer with its body as it comes.
    ///
    /// No redirect is followed ([`moved_to`] finds where a harmless one leads), and the caller bounds the body and the time;
    /// only the time to connect is bounded. Without an `Accept-Encoding` header of its own the request asks for an answer
    /// without content coding, since this client decodes none.
    ///
    /// # Errors
    ///
    /// [`HttpError`] of every kind but `Redirect` and `TooLarge`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the request; the server may have received it.
    pub fn request(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<IncomingBody>, HttpError>> + Send + use<'_> {
        self.send_by(request, Pooled::Yes)
    }

    /// Sends one request over a connection of its own, as [`GuardedClient::request`] does over a pooled one.
    ///
    /// For a request that is repeated because its connection broke: a server that was started again leaves several connections
    /// in the pool that look open.
    ///
    /// # Errors
    ///
    /// As [`GuardedClient::request`].
    ///
    /// # Cancel safety
    ///
    /// As [`GuardedClient::request`].
    pub fn request_unpooled(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<IncomingBody>, HttpError>> + Send + use<'_> {
        self.send_by(request, Pooled::No)
    }

    /// Boxed, so that callers are small.
    fn send_by(
        &self,
        mut request: Request<Bytes>,
        pooled: Pooled,
    ) -> BoxFuture<'_, Result<Response<IncomingBody>, HttpError>> {
        if let Err(refused) = self.rules.check_scheme(request.uri()) {
            return Box::pin(std::future::ready(Err(refused)));
        }
        // Without it any coding may be used (RFC 9110, section 12.5.3).
        let coding = request.headers_mut().entry(header::ACCEPT_ENCODING);
        coding.or_insert(HeaderValue::from_static("identity"));
        let request = request.map(Full::new);
        match request.uri().scheme_str() {
            Some("http") => Box::pin(self.plain.send(request, pooled)),
            _ => Box::pin(self.send_securely(request, pooled)),
        }
    }

    async fn send_securely(
        &self,
        request: Request<Full<Bytes>>,
        pooled: Pooled,
    ) -> Result<Response<IncomingBody>, HttpError> {
        let client = match pooled {
            Pooled::Yes => &self.client,
            Pooled::No => &self.unpooled,
        };
        let response = client.request(request).await.map_err(|error| {
            let connecting = error.is_connect();
            explain(error.into(), connecting)
        })?;
        Ok(response.map(IncomingBody::shared))
    }

    async fn follow(&self, request: Request<Bytes>) -> Result<Response<IncomingBody>, HttpError> {
        let (mut parts, mut body) = request.into_parts();
        // The address decides where the request goes and what it is called there.
        parts.headers.remove(header::HOST);
        let mut left = self.limits.redirects;
        loop {
            let attempt = Request::from_parts(parts.clone(), body.clone());
            let response = self.request(attempt).await?;
            let hop = next_hop(&self.rules, &parts, &response)?;
            let Hop::Follow {
                uri,
                method,
                same_origin,
            } = hop
            else {
                return Ok(response);
            };
            left = left
                .checked_sub(1)
                .ok_or_else(|| refused("too many redirects"))?;
            redirect::rewrite(&mut parts, &mut body, uri, method, same_origin)?;
        }
    }
}

impl Plain {
    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        pooled: Pooled,
    ) -> Result<Response<IncomingBody>, HttpError> {
        let uri = to_origin_form(&mut request)?;
        let origin = match (pooled, uri.authority()) {
            (Pooled::Yes, Some(authority)) => authority.clone(),
            _ => return Box::pin(self.send_anew(&uri, request, None)).await,
        };
        while let Some(connection) = self.idle.take(&origin) {
            let home = Some((Arc::clone(&self.idle), origin.clone()));
            match Lease::new(connection, home).send(request).await {
                Ok(response) => return Ok(response),
                // It was closed while it was unused.
                Err(Unanswered {
                    unsent: Some(unsent),
                    ..
                }) => request = unsent,
                Err(Unanswered { error, .. }) => return Err(broke_off(error)),
            }
        }
        let home = Some((Arc::clone(&self.idle), origin));
        Box::pin(self.send_anew(&uri, request, home)).await
    }

    /// Sends a request over a new connection.
    async fn send_anew(
        &self,
        uri: &Uri,
        request: Request<Full<Bytes>>,
        home: Option<(Arc<Idle>, Authority)>,
    ) -> Result<Response<IncomingBody>, HttpError> {
        let stream = self.connector.plain(uri.clone()).await;
        let stream = stream.map_err(|error| explain(error, true))?;
        let connection = Connection::open(stream, &self.settings).await;
        let lease = Lease::new(connection.map_err(broke_off)?, home);
        let sent = lease.send(request).await;
        sent.map_err(|unanswered| broke_off(unanswered.error))
    }
}

/// Leaves path and query for the address of a request (RFC 9112, section 3.2.1), with a `Host` header, and returns what it was.
fn to_origin_form(request: &mut Request<Full<Bytes>>) -> Result<Uri, HttpError> {
    let path = match request.uri().path_and_query() {
        Some(path) if path.as_str() != "" => path.clone(),
        _ => PathAndQuery::from_static("/"),
    };
    let uri = std::mem::replace(request.uri_mut(), path.into());
    if !request.headers().contains_key(header::HOST) {
        let authority = uri.authority().map_or("", Authority::as_str);
        let host = HeaderValue::from_str(authority.strip_suffix(":80").unwrap_or(authority));
        let host = host.map_err(|error| {
            let message = "the address has a host that no header can hold";
            HttpError::new(HttpErrorKind::InvalidRequest, message).with_source(error)
        })?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(uri)
}

fn refused(message: &str) -> HttpError {
    HttpError::new(HttpErrorKind::Redirect, message)
}

#[async_trait]
impl HttpClient for GuardedClient {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, HttpError> {
        let deadline = self
            .limits
            .total
            .and_then(|total| Instant::now().checked_add(total));
        let response = match deadline {
            Some(at) => tokio::time::timeout_at(at, self.follow(request))
                .await
                .map_err(|error| {
                    HttpError::new(HttpErrorKind::Timeout, "no answer in time").with_source(error)
                })??,
            None => self.follow(request).await?,
        };
        let (parts, body) = response.into_parts();
        if let Some(coding) = content_coding(&parts.headers) {
            let message =
                format!("the answer has the content coding {coding}, which was not asked for");
            return Err(HttpError::new(HttpErrorKind::Protocol, message));
        }
        let body = GuardedBody::new(body, self.limits.body, deadline)?;
        Ok(Response::from_parts(parts, ResponseBody::new(body)))
    }
}

impl fmt::Debug for GuardedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedClient")
            .field("rules", &self.rules)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Returns where an answer says that the same request is to be sent: for 307 and 308 (RFC 9110, sections 15.4.8 and
/// 15.4.9) to the origin it came from. `None` for every other answer.
#[must_use]
pub fn moved_to<B>(sent: &Uri, answer: &Response<B>) -> Option<Uri> {
    let same_request = matches!(
        answer.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    );
    let location = answer.headers().get(header::LOCATION);
    let location = location.filter(|_| same_request)?;
    let target = redirect::resolve(sent, location.as_bytes()).ok()?;
    same_origin(sent, &target).then_some(target)
}

/// Finds what a refusal by our connector or a failure of hyper means.
fn explain(error: BoxError, connecting: bool) -> HttpError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(found) = cause {
        if let Some(refused) = found.downcast_ref::<Refused>() {
            return HttpError::new(refused.kind(), refused.to_string());
        }
        cause = found.source();
    }
    let causes = causes(&*error);
    match connecting {
        true => HttpError::new(HttpErrorKind::Connect, causes),
        false => HttpError::new(
            HttpErrorKind::Protocol,
            format!("the exchange broke off: {causes}"),
        ),
    }
    .with_source(error)
}

fn broke_off(error: hyper::Error) -> HttpError {
    explain(error.into(), false)
}

/// Writes the causes of an error, outermost first. What the pooling client says of itself is left out where it has a cause,
/// as is what only repeats the one before.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut cause = Some(error);
    while let Some(found) = cause {
        let own = found.to_string();
        cause = found.source();
        let of_pool = found.is::<hyper_util::client::legacy::Error>() && cause.is_some();
        if !of_pool && !text.contains(&own) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&own);
        }
    }
    text
}

/// The port of an address, as written or by its scheme.
fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

/// The host without the brackets of an IPv6 address.
fn host(uri: &Uri) -> Option<&str> {
    let host = uri.host()?;
    Some(
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host),
    )
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let hosts = match (host(a), host(b)) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    };
    hosts && a.scheme() == b.scheme() && port(a) == port(b)
}

#[cfg(test)]
mod tests;
