//! An HTTP server for a tower service, and the orderly shutdown of the stack behind it.
//!
//! 1. The head of a request has to arrive within [`Timing::request_head`](crate::Timing::request_head), its body within
//!    [`Timing::request_body`](crate::Timing::request_body): a client that sends slowly costs one connection, and not for
//!    long.
//! 2. At most [`Bounds::connections`](crate::Bounds::connections) are open; another waits in the listener's queue. Of one
//!    address there are at most [`Bounds::connections_per_peer`](crate::Bounds::connections_per_peer); another is closed.
//! 3. Each request carries the client's address as [`PeerAddr`], which the HTTP transport counts sessions by where there
//!    is no credential.
//!
//! # Shutdown
//!
//! When the future given to [`Server::serve`] completes, the parts named by [`Server::with_part`] are drained in their
//! order, all within [`Timing::drain`](crate::Timing::drain), while connections are still served: new calls are refused,
//! those in flight finish, and clients can answer what those calls ask. Then no connection is accepted any more, the
//! open ones end, and the parts are closed in their order. Name transports first and what they stand on after them.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, Json, Request, Response, serve::Server, transport::http::{HttpConfig, HttpTransport}};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let service = service_fn(|request: Request| async move {
//!     Ok::<_, Error>(Response::new(Json::string(request.method().as_str())))
//! });
//! let transport = HttpTransport::new(service, HttpConfig::default());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! // A program takes `Signals` and calls `serve_until_signal`.
//! let stop = async {};
//! Server::new(listener)
//!     .with_part(transport.clone())
//!     .serve(transport, stop)
//!     .await
//! # }
//! ```

mod body;
mod signals;
mod version;

use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, Service, ServiceExt};

use self::version::Version;
pub use self::{
    body::{RequestBody, RequestBodyError},
    signals::Signals,
};
use crate::{
    Bounds, Drain, Timing,
    quiet::Quiet,
    transport::http::{PeerAddr, Share, Shares, network},
};

/// Delay before another attempt where no connection can be accepted, for instance because the process has no file
/// descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// An HTTP server (HTTP/1.1 and HTTP/2 without TLS) that shuts down in order. See the [module](self).
#[must_use]
pub struct Server {
    listener: TcpListener,
    timing: Timing,
    bounds: Bounds,
    parts: Vec<Box<dyn Drain>>,
}

impl Server {
    /// Creates a server for a listener.
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            timing: Timing::default(),
            bounds: Bounds::default(),
            parts: Vec::new(),
        }
    }

    /// Sets the durations: [`Timing::request_head`], [`Timing::request_body`], [`Timing::drain`] and [`Timing::flush`]
    /// are the server's.
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Sets the limits: [`Bounds::connections`] is the server's.
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Adds a part of the stack that is drained and closed when the server stops, after the parts before it.
    pub fn with_part(mut self, part: impl Drain + 'static) -> Self {
        self.parts.push(Box::new(part));
        self
    }

    /// Serves until `stop` completes, then shuts the stack down in order and returns.
    ///
    /// # Errors
    ///
    /// The address of the listener cannot be read. Errors of single connections are logged at level `debug`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every connection at once; parts are neither drained nor closed.
    pub async fn serve<S, B>(self, service: S, stop: impl Future<Output = ()>) -> io::Result<()>
    where
        S: HttpService<B>,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.serve_until(service, stop, std::future::pending())
            .await
    }

    /// Serves until the first signal, then shuts the stack down in order; a second signal ends what is in flight at once.
    ///
    /// # Errors
    ///
    /// As [`Server::serve`].
    ///
    /// # Cancel safety
    ///
    /// As [`Server::serve`].
    pub async fn serve_until_signal<S, B>(self, service: S, signals: Signals) -> io::Result<()>
    where
        S: HttpService<B>,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (stop, abort) = signals.split();
        self.serve_until(service, stop, abort).await
    }

    /// Serves as [`Server::serve`] does; when `abort` completes during the shutdown, what is in flight is not waited for
    /// any longer. For a second signal.
    ///
    /// # Errors
    ///
    /// As [`Server::serve`].
    ///
    /// # Cancel safety
    ///
    /// As [`Server::serve`].
    pub async fn serve_until<S, B>(
        self,
        service: S,
        stop: impl Future<Output = ()>,
        abort: impl Future<Output = ()>,
    ) -> io::Result<()>
    where
        S: HttpService<B>,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        tracing::debug!(address = %self.listener.local_addr()?, "serving");
        let connections = Connections::new(&self.timing, &self.bounds);
        let (mut stop, mut abort) = (pin!(stop), pin!(abort));
        let mut open = JoinSet::new();
        let ending = async {
            stop.as_mut().await;
            drain(&self.parts, self.timing.drain).await;
        };
        let mut ending = pin!(ending);
        let aborted = loop {
            tokio::select! {
                biased;
                () = &mut ending => break false,
                () = &mut abort => break true,
                (stream, slot) = connections.accept(&self.listener) => {
                    open.spawn(connections.run(service.clone(), stream, slot));
                }
                Some(_) = open.join_next() => {}
            }
        };
        drop(self.listener);
        connections.end();
        let ended = async { while open.join_next().await.is_some() {} };
        tokio::select! {
            _ = timeout(self.timing.flush, ended), if !aborted => {}
            () = &mut abort, if !aborted => {}
            else => {}
        }
        for part in &self.parts {
            part.close().await;
        }
        open.shutdown().await;
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// A tower service that answers HTTP requests. Implemented for every matching service, `axum::Router` and
/// [`HttpTransport`](crate::transport::http::HttpTransport) among them.
pub trait HttpService<B>:
    Service<
        http::Request<RequestBody>,
        Response = http::Response<B>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<S, B> HttpService<B> for S where
    S: Service<
            http::Request<RequestBody>,
            Response = http::Response<B>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// Drains all parts in order, within one deadline.
async fn drain(parts: &[Box<dyn Drain>], deadline: Duration) {
    let until = Instant::now() + deadline;
    for part in parts {
        let left = until.saturating_duration_since(Instant::now());
        if !part.drain(left).await {
            tracing::warn!("calls were still in flight when the time to drain was over");
        }
    }
}

/// The place of one connection, among all and among those of its address.
type Slot = (OwnedSemaphorePermit, Share<IpAddr>);

/// What the connections of a server share.
struct Connections {
    slots: Arc<Semaphore>,
    by_peer: Arc<Shares<IpAddr>>,
    ending: watch::Sender<bool>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    head: Duration,
    body: Duration,
}

impl Connections {
    fn new(timing: &Timing, bounds: &Bounds) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(timing.request_head);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(timing.request_head)
            .keep_alive_timeout(timing.request_head);
        let most = bounds.connections.get().min(Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(most)),
            by_peer: Shares::new(bounds.connections_per_peer.get()),
            ending: watch::Sender::new(false),
            http1,
            http2,
            head: timing.request_head,
            body: timing.request_body,
        }
    }

    /// Accepts a connection when there is room for one.
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, Slot) {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&self.slots).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match listener.accept().await {
                Ok((stream, peer)) => match self.by_peer.take(network(peer.ip())) {
                    Some(share) => return (stream, (permit, share)),
                    None => tracing::debug!(%peer, "too many connections of one address; closed"),
                },
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    /// Lets every connection finish what it is answering, and end.
    fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Serves one connection.
    fn run<S, B>(
        &self,
        service: S,
        stream: TcpStream,
        slot: Slot,
    ) -> impl Future<Output = ()> + Send + use<S, B>
    where
        S: HttpService<B>,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (http1, http2) = (self.http1.clone(), self.http2.clone());
        let (head, within) = (self.head, self.body);
        let mut ending = self.ending.subscribe();
        async move {
            let _slot = slot;
            let looked = tokio::select! {
                looked = version::of(&stream, head) => looked,
                // It has asked for nothing yet.
                () = is_set(&mut ending) => return,
            };
            let version = match looked {
                Ok(version) => version,
                Err(error) => {
                    tracing::debug!(%error, "a connection ended before its first request");
                    return;
                }
            };
            // Small events must not wait for the client's acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            let peer = stream.peer_addr().ok().map(|peer| PeerAddr(peer.ip()));
            let answer = service_fn(move |mut request: http::Request<Incoming>| {
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                let request = request.map(|body| RequestBody::new(body, within));
                service.clone().oneshot(request)
            });
            let io = TokioIo::new(stream);
            // Boxed: this task lives as long as the connection.
            match version {
                Version::Http1 => {
                    finish(Box::pin(http1.serve_connection(io, answer)), ending).await;
                }
                Version::Http2 => {
                    finish(Box::pin(http2.serve_connection(io, answer)), ending).await;
                }
            }
        }
    }
}

/// Waits until the flag is set or its sender is dropped.
async fn is_set(flag: &mut watch::Receiver<bool>) {
    drop(flag.wait_for(|set| *set).await);
}

/// Drives a connection to its end, which is soon once connections are to end.
async fn finish<C>(mut connection: Pin<Box<C>>, mut ending: watch::Receiver<bool>)
where
    C: GracefulConnection<Error: fmt::Display>,
{
    let quiet = Quiet::new();
    let ended = tokio::select! {
        biased;
        ended = poll_fn(|cx| quiet.poll(cx, |inner| connection.as_mut().poll(inner))) => ended,
        () = is_set(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
