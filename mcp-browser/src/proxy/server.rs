use std::{
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use mcp_core::http_client::Resolve;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{
    policy::{OriginPolicy, Target},
    relay::{Counted, relay},
};
use crate::{BrowserError, BrowserErrorKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many refusals and failures are remembered for whoever asks why a page lacks something.
const TROUBLE: usize = 50;
/// How many connections one session may have open.
const CONNECTIONS: usize = 256;

/// What all sessions' proxies share.
#[derive(Clone, Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) resolver: Arc<dyn Resolve>,
    /// Bytes that one session may receive.
    pub(crate) max_bytes: u64,
    /// Where to send everything instead: an HTTP proxy that tunnels.
    pub(crate) upstream: Option<Target>,
}

/// A session's proxy. Dropping it ends every connection through it.
pub(crate) struct FilterProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: AbortHandle,
}

/// Why a connection was not made.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// Where to.
    pub(crate) host: String,
    pub(crate) error: BrowserError,
}

/// Where Chromium goes by itself.
const BACKGROUND: [&str; 5] = [
    "google.com",
    "googleapis.com",
    "gstatic.com",
    "gvt1.com",
    "gvt2.com",
];

impl Trouble {
    /// Whether Chromium may have gone there by itself.
    pub(crate) fn is_background(&self) -> bool {
        let of = |domain: &str| {
            let rest = self.host.strip_suffix(domain);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        BACKGROUND.iter().any(|domain| of(domain))
    }
}

struct Shared {
    config: RwLock<(ProxyConfig, OriginPolicy)>,
    received: AtomicU64,
    /// Whether that was all that the session may receive.
    exhausted: watch::Sender<bool>,
    trouble: Mutex<VecDeque<Trouble>>,
}

impl FilterProxy {
    pub(crate) async fn start(config: ProxyConfig, policy: OriginPolicy) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            config: RwLock::new((config, policy)),
            received: AtomicU64::new(0),
            exhausted: watch::channel(false).0,
            trouble: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            shared,
            address,
            accepting,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives a warm context's proxy the rules of the session that it becomes.
    pub(crate) fn set(&self, config: ProxyConfig, policy: OriginPolicy) {
        *self
            .shared
            .config
            .write()
            .unwrap_or_else(PoisonError::into_inner) = (config, policy);
    }

    pub(crate) fn policy(&self) -> OriginPolicy {
        self.shared.rules().1
    }

    /// Takes why connections were not made, since the last time.
    pub(crate) fn take_trouble(&self) -> Vec<Trouble> {
        let mut trouble = self
            .shared
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        trouble.drain(..).collect()
    }

    /// Waits until the session has received all that it may, and says so.
    pub(crate) async fn exhausted(&self) -> BrowserError {
        let mut exhausted = self.shared.exhausted.subscribe();
        // The sender lives as long as this.
        let _ = exhausted.wait_for(|exhausted| *exhausted).await;
        self.shared.full()
    }

    pub(crate) fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }
}

impl Drop for FilterProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for FilterProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterProxy")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Serves connections; when it is aborted, the set takes them with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let Ok(own) = listener.local_addr() else {
        return;
    };
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = listener.accept().await else {
            // No descriptor is free: wait for one.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if connections.len() >= CONNECTIONS {
            continue;
        }
        // Small messages should not wait for each other; without it they are only slower.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if !super::peer::is_own(peer, own) {
                tracing::warn!("another user's connection to a session's proxy was refused");
                return;
            }
            let service = service_fn(move |request| Arc::clone(&shared).answer(request));
            let serving = hyper::server::conn::http1::Builder::new()
                .preserve_header_case(true)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // The browser sees a broken connection as one.
            let _ = serving.await;
        });
    }
}

type Body = Either<Counted<Incoming>, Full<Bytes>>;

/// Ends the connection without an answer: an answer of ours would look to the page like one of the server.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was not made")
    }
}

impl std::error::Error for Broken {}

impl Shared {
    fn rules(&self) -> (ProxyConfig, OriginPolicy) {
        self.config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let target = match request.method() {
            &Method::CONNECT => request
                .uri()
                .authority()
                .and_then(|authority| Target::of_authority(authority.as_str())),
            _ => Target::of_url(&request.uri().to_string()),
        };
        let Some(target) = target else {
            return Ok(text(StatusCode::BAD_REQUEST, "not a request for a proxy"));
        };
        let stream = match self.connect(&target).await {
            Ok(stream) => stream,
            Err(error) => {
                self.note(target.host, error);
                return Err(Broken);
            }
        };
        if request.method() == Method::CONNECT {
            tokio::spawn(async move {
                if let Ok(upgraded) = hyper::upgrade::on(request).await {
                    relay(TokioIo::new(upgraded), stream, |bytes| self.count(bytes)).await;
                }
            });
            return Ok(Response::new(Either::Right(Full::default())));
        }
        let response = forward(request, stream).await.map_err(|_| Broken)?;
        Ok(response
            .map(|body| Either::Left(Counted::new(body, Arc::new(move |bytes| self.count(bytes))))))
    }

    /// Counts what came; tells whether it was not too much.
    fn count(&self, bytes: u64) -> bool {
        let most = self.rules().0.max_bytes;
        let fits = self.received.fetch_add(bytes, Ordering::Relaxed) + bytes <= most;
        if !fits {
            self.exhausted.send_replace(true);
        }
        fits
    }

    fn full(&self) -> BrowserError {
        let most = self.rules().0.max_bytes;
        BrowserError::new(
            BrowserErrorKind::Denied,
            format!("the session has received its {most} bytes: create a new one"),
        )
    }

    fn note(&self, host: String, error: BrowserError) {
        tracing::debug!(%error, "a session's connection was not made");
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let text = error.to_string();
        if trouble.len() < TROUBLE && !trouble.iter().any(|known| known.error.to_string() == text) {
            trouble.push_back(Trouble { host, error });
        }
    }

    /// Connects to an address of the target that has been checked.
    async fn connect(&self, target: &Target) -> Result<TcpStream, BrowserError> {
        let (config, policy) = self.rules();
        policy.check_target(target)?;
        if *self.exhausted.borrow() {
            return Err(self.full());
        }
        let unresolved = || {
            BrowserError::new(
                BrowserErrorKind::Navigation,
                format!("{} cannot be resolved", target.host),
            )
        };
        let addresses = match target.literal() {
            Some(address) => vec![address],
            None => tokio::time::timeout(CONNECT_TIMEOUT, config.resolver.resolve(&target.host))
                .await
                .map_err(|_| unresolved())?
                .map_err(|error| unresolved().with_source(error))?,
        };
        if addresses.is_empty() {
            return Err(unresolved());
        }
        // One private address among public ones is how rebinding looks: refuse them all.
        for address in &addresses {
            policy.check_address(target, *address)?;
        }
        let connecting = dial(&config, &addresses, target.port);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let unreachable = || {
            BrowserError::new(
                BrowserErrorKind::Navigation,
                format!("{target} cannot be reached"),
            )
        };
        stream
            .map_err(|_| unreachable())?
            .map_err(|error| unreachable().with_source(error))
    }
}

async fn dial(config: &ProxyConfig, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        let stream = match &config.upstream {
            None => TcpStream::connect(address).await,
            Some(proxy) => through(proxy, address).await,
        };
        match stream {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks another proxy for a tunnel, to the checked address rather than to the name.
async fn through(proxy: &Target, address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await?;
    super::relay::open_tunnel(&mut stream, address).await?;
    Ok(stream)
}

/// Sends a plain request to the server itself.
async fn forward(
    request: Request<Incoming>,
    stream: TcpStream,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    let (mut parts, body) = request.into_parts();
    // The origin form, as servers expect it (RFC 9112, section 3.2.1).
    let path = parts
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = authority.as_str().parse()
    {
        parts.headers.insert(header::HOST, host);
    }
    parts.uri = path.parse().unwrap_or_default();
    strip_hop_by_hop(&mut parts.headers);
    let mut response = sender
        .send_request(Request::from_parts(parts, body))
        .await?;
    strip_hop_by_hop(response.headers_mut());
    Ok(response)
}

/// Headers that concern one connection only (RFC 9110, section 7.6.1).
fn strip_hop_by_hop(headers: &mut http::HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| {
            value
                .split(',')
                .map(|name| name.trim().to_ascii_lowercase())
        })
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        "connection",
        "proxy-connection",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from(format!("{message}\n"))));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
