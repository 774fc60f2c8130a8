//! Connections over HTTP/1.1 that whoever waits for an answer drives.
//!
//! hyper's connection is a future. In a task of its own, each answer wakes that task first and then the one that waits, often
//! on another thread. Here the connection is polled by the task that waits.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::idle::Idle;
use super::incoming::IncomingBody;
use crate::quiet::Quiet;

/// How long a request may go on being sent whose answer has been read already.
const REST: Duration = Duration::from_secs(10);

type Stream = TokioIo<TcpStream>;

/// The next part of a body; `None` at its end.
type Part = Option<Result<Frame<Bytes>, hyper::Error>>;

/// A connection that only moves while it is polled.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// What reads and writes for a connection.
struct Driver {
    /// `None` once it is closed.
    io: Option<http1::Connection<Stream, Full<Bytes>>>,
    quiet: Quiet,
}

/// Why a connection did not answer.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// The request, if nothing of it has been sent.
    pub(super) unsent: Option<Request<Full<Bytes>>>,
}

/// A connection in use.
pub(super) struct Lease {
    connection: Box<Connection>,
    /// Where it is kept afterwards.
    home: Option<(Arc<Idle>, Authority)>,
}

impl Driver {
    /// Polls `wanted` and, as long as that has to wait, the connection that it waits for. `None` if the connection has closed
    /// without it.
    fn drive<T>(
        &mut self,
        cx: &Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<T>> {
        let Self { io, quiet } = self;
        quiet.poll(cx, |inner| {
            if let Poll::Ready(found) = wanted(inner) {
                return Poll::Ready(Some(found));
            }
            if let Some(connection) = io {
                quiet.heard();
                if Pin::new(connection).poll(inner).is_pending() {
                    return Poll::Pending;
                }
                // What waits for it learns why.
                *io = None;
            }
            match wanted(inner) {
                Poll::Ready(found) => Poll::Ready(Some(found)),
                Poll::Pending => Poll::Ready(None),
            }
        })
    }

    /// Polls the connection once, without waking a task later. Returns whether it is open.
    fn is_open(&mut self) -> bool {
        let Some(connection) = &mut self.io else {
            return false;
        };
        let polled = self
            .quiet
            .poll_unawaited(|inner| Pin::new(connection).poll(inner));
        if polled.is_ready() {
            self.io = None;
        }
        self.io.is_some()
    }
}

impl Connection {
    pub(super) async fn open(
        stream: Stream,
        settings: &http1::Builder,
    ) -> Result<Box<Self>, hyper::Error> {
        let (sender, io) = settings.handshake(stream).await?;
        Ok(Box::new(Self {
            sender,
            driver: Driver {
                io: Some(io),
                quiet: Quiet::new(),
            },
        }))
    }

    /// Returns whether the server has kept the connection open, as far as can be known.
    pub(super) fn is_open(&mut self) -> bool {
        self.driver.is_open()
    }

    /// Returns whether the next request can be sent.
    fn is_ready(&mut self) -> bool {
        self.sender.is_ready() || (self.driver.is_open() && self.sender.is_ready())
    }

    /// Waits until the next request can be sent. Returns whether it ever can.
    async fn ready(&mut self) -> bool {
        let Self { sender, driver } = self;
        let ready = std::future::poll_fn(|cx| driver.drive(cx, |inner| sender.poll_ready(inner)));
        matches!(ready.await, Some(Ok(())))
    }
}

impl Lease {
    pub(super) fn new(connection: Box<Connection>, home: Option<(Arc<Idle>, Authority)>) -> Self {
        Self { connection, home }
    }

    /// Sends a request and returns the head of its answer. Dropping the future closes the connection.
    pub(super) async fn send(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<IncomingBody>, Unanswered> {
        let Connection { sender, driver } = &mut *self.connection;
        let answer = {
            let mut answer = pin!(sender.try_send_request(request));
            let answered =
                std::future::poll_fn(|cx| driver.drive(cx, |inner| answer.as_mut().poll(inner)));
            match answered.await {
                Some(answer) => answer,
                // Unreachable: a connection that closes tells who waits. Asked once more, it does.
                None => answer.await,
            }
        };
        match answer {
            Ok(response) => Ok(response.map(|body| IncomingBody::driven(body, self))),
            Err(mut error) => Err(Unanswered {
                unsent: error.take_message(),
                error: error.into_error(),
            }),
        }
    }

    /// Polls for the next part of the body of the answer. `None` if the connection has closed without one.
    pub(super) fn poll_frame(
        &mut self,
        cx: &Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Part>> {
        let driver = &mut self.connection.driver;
        driver.drive(cx, |inner| Pin::new(&mut *body).poll_frame(inner))
    }

    /// Keeps the connection for the next request, once the answer has been read or is of no interest any more.
    pub(super) fn release(mut self) {
        if self.connection.is_ready() {
            self.keep();
        } else if self.connection.driver.io.is_some()
            && let Ok(runtime) = Handle::try_current()
        {
            // The server has answered before it has read everything.
            runtime.spawn(async move {
                if timeout(REST, self.connection.ready()).await == Ok(true) {
                    self.keep();
                }
            });
        }
    }

    fn keep(self) {
        if let Some((idle, authority)) = self.home {
            idle.put(authority, self.connection);
        }
    }
}
