use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::{host, port, same_origin};
use crate::http_client::{HttpError, HttpErrorKind, blocked};

/// Finds the addresses of a host.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// Returns every address of `host`, which is a name, never a literal address.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the name cannot be resolved.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the operating system.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct SystemResolver;

impl SystemResolver {
    /// Makes the resolver; it holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0))
            .await?
            .map(|address| address.ip())
            .collect())
    }
}

pub(super) type AddressRule = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Where requests may go.
pub(super) struct Rules {
    pub(super) origins: Vec<Uri>,
    pub(super) also_allowed: Option<AddressRule>,
    /// Whether this machine may be reached over `http`, by a literal address or as `localhost`.
    pub(super) loopback: bool,
}

impl Rules {
    /// Tells if the operator configured the origin of this address.
    pub(super) fn allows(&self, uri: &Uri) -> bool {
        self.origins.iter().any(|origin| same_origin(origin, uri))
            || (self.loopback && is_loopback(uri))
    }

    /// Refuses what needs no look at addresses to be refused.
    pub(super) fn check_scheme(&self, uri: &Uri) -> Result<(), HttpError> {
        let invalid = |message| Err(HttpError::new(HttpErrorKind::InvalidRequest, message));
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return invalid("the address must not hold credentials");
        }
        match uri.scheme_str() {
            Some("https") => Ok(()),
            Some("http") if self.allows(uri) => Ok(()),
            Some("http") => Err(HttpError::new(
                HttpErrorKind::Blocked,
                "only https is allowed here",
            )),
            Some(_) => invalid("the address must be https or http"),
            None => invalid("the address must be absolute"),
        }
    }

    /// Refuses a literal address before TLS stumbles over its spelling.
    fn check_literal(&self, uri: &Uri) -> Result<(), Refused> {
        match host(uri).and_then(literal) {
            Some(address) if !self.allows(uri) => self.check_address(address),
            _ => Ok(()),
        }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        match blocked(address) {
            Some(class) if !self.also_allowed.as_ref().is_some_and(|rule| rule(address)) => Err(
                Refused::Blocked(format!("{address} is not a public address ({class})")),
            ),
            _ => Ok(()),
        }
    }
}

/// Whether an address says itself that it is on this machine.
fn is_loopback(uri: &Uri) -> bool {
    match host(uri) {
        Some(host) if host.eq_ignore_ascii_case("localhost") => true,
        Some(host) => literal(host).is_some_and(|address| address.is_loopback()),
        None => false,
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

/// Why no connection was made, in the words the caller will see.
#[derive(Debug)]
pub(super) enum Refused {
    Blocked(String),
    Timeout,
    NoTls,
}

impl Refused {
    pub(super) const fn kind(&self) -> HttpErrorKind {
        match self {
            Self::Blocked(_) | Self::NoTls => HttpErrorKind::Blocked,
            Self::Timeout => HttpErrorKind::Timeout,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(reason) => f.write_str(reason),
            Self::Timeout => f.write_str("no connection in time"),
            Self::NoTls => f.write_str("this client was built without TLS and reaches http only"),
        }
    }
}

impl Error for Refused {}

/// At which step making a connection failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot resolve the host name {host}")]
    Resolve { host: String, source: io::Error },
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the host name {host} has no address")]
    NoAddress { host: String },
    #[error("the TLS handshake failed")]
    Tls { source: BoxError },
}

impl Failure {
    /// Says of an error that it is TLS's, unless it is of an earlier step.
    fn of_tls(error: BoxError) -> BoxError {
        if error.is::<Self>() || error.is::<Refused>() {
            return error;
        }
        Self::Tls { source: error }.into()
    }
}

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Opens TCP connections to addresses that the rules allow.
#[derive(Clone)]
pub(super) struct TcpConnector {
    pub(super) rules: Arc<Rules>,
    pub(super) resolver: Arc<dyn Resolve>,
}

impl TcpConnector {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let (Some(host), Some(port)) = (host(&uri), port(&uri)) else {
            return Err("the address has no host".into());
        };
        let addresses = self.resolve(host).await?;
        if !self.rules.allows(&uri) {
            // A hostile name server could hide a private address among public ones: refuse them all.
            for address in &addresses {
                self.rules.check_address(*address)?;
            }
        }
        let host = host.to_owned();
        let mut last = Failure::NoAddress { host };
        for address in addresses {
            let address = SocketAddr::new(address, port);
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(TokioIo::new(stream));
                }
                Err(source) => last = Failure::Connect { address, source },
            }
        }
        Err(last.into())
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        let resolved = self.resolver.resolve(host).await;
        resolved.map_err(|source| Failure::Resolve {
            host: host.to_owned(),
            source,
        })
    }
}

/// Reads a literal address in any spelling that a browser would (`127.1`, `0x7f000001`).
fn literal(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    match url::Host::parse(host) {
        Ok(url::Host::Ipv4(address)) => Some(address.into()),
        Ok(url::Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    }
}

impl Service<Uri> for TcpConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // A connection is rare and slow: a box does not count.
        Box::pin(self.clone().connect(uri))
    }
}

/// Adds TLS where the address wants it, and one time limit for looking up, connecting and shaking hands.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) tcp: TcpConnector,
    pub(super) https: Option<HttpsConnector<TcpConnector>>,
    pub(super) rules: Arc<Rules>,
    pub(super) timeout: Duration,
}

impl Connector {
    /// Connects without TLS.
    pub(super) async fn plain(&self, uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        self.rules.check_literal(&uri)?;
        let connecting = tokio::time::timeout(self.timeout, self.tcp.clone().connect(uri));
        connecting.await.map_err(|_| Refused::Timeout)?
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Both connectors always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Err(refused) = self.rules.check_literal(&uri) {
            return Box::pin(std::future::ready(Err(refused.into())));
        }
        let connecting: Connecting<Self::Response> = match (uri.scheme_str(), &mut self.https) {
            (Some("http"), _) => {
                let connecting = self.tcp.call(uri);
                Box::pin(async move { connecting.await.map(MaybeHttpsStream::Http) })
            }
            (_, Some(https)) => {
                let connecting = https.call(uri);
                Box::pin(async move { connecting.await.map_err(Failure::of_tls) })
            }
            (_, None) => Box::pin(std::future::ready(Err(Refused::NoTls.into()))),
        };
        let timeout = self.timeout;
        Box::pin(async move {
            let connected = tokio::time::timeout(timeout, connecting).await;
            connected.map_err(|_| Refused::Timeout)?
        })
    }
}
