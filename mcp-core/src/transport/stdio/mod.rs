//! Serves a stack over lines of JSON, to one client of any revision: on standard input and output, a pipe, or a
//! socket.
//!
//! The era is recognised per message: `initialize` opens a session for this connection, and a request whose
//! `_meta` names a revision stands for itself.
//!
//! # What is refused
//!
//! 1. A line that is not JSON: -32700. One that is not a JSON-RPC message: -32600. Both with the id where one could
//!    be read, and `null` otherwise.
//! 2. A line over the limit: -31052, with id `null`.
//! 3. An id that a request in progress has: -32600. More requests at once than allowed: -31030.
//! 4. A request that is neither of a session nor names its revision, and one that lacks a required member of
//!    `_meta`: -32602. An unknown revision: -32022. A method of another era: -32601.
//!
//! # What is answered
//!
//! Requests are answered as they are done, each after the notifications that belong to it. `notifications/cancelled`
//! drops a request, which then gets no answer. When the stack ends a subscription, its answer is followed by
//! `notifications/cancelled` with its id (revision 2026-07-28, cancellation).
//!
//! # The end
//!
//! The end of the input drops every call and ends the session. Answers that are ready are still written, for 5 s at
//! most.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, Json, Request, Response, transport::stdio::{StdioConfig, serve}};
//! use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let service = service_fn(|request: Request| async move {
//!     Ok::<_, Error>(Response::new(Json::string(request.method().as_str())))
//! });
//! let (server, client) = tokio::io::duplex(1024);
//! let (reader, writer) = tokio::io::split(server);
//! tokio::spawn(serve(service, reader, writer, StdioConfig::default()));
//!
//! let mut client = BufReader::new(client);
//! client.write_all(concat!(
//!     r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"#,
//!     r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
//!     r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#,
//!     "\n",
//! ).as_bytes()).await?;
//! let mut answer = String::new();
//! client.read_line(&mut answer).await?;
//! assert_eq!(answer.trim(), r#"{"jsonrpc":"2.0","id":1,"result":"tools/list"}"#);
//! # Ok(())
//! # }
//! ```

mod config;
mod connection;
mod input;

use std::{fmt, io};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinSet,
    time::{Duration, timeout},
};

pub use self::config::StdioConfig;
use self::{connection::Connection, input::Input};
use super::lifecycle::{self, Lifecycle, Phase};
#[cfg(doc)]
use crate::ErrorKind;
use crate::{
    Seam,
    lines::{self, Lines},
};

/// How many messages may wait to be written.
const WAITING: usize = 64;

/// Serves a stack on the standard input and output of this process until the input ends.
///
/// Nothing else may write to standard output meanwhile.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_process<S: Seam>(service: S, config: StdioConfig) -> io::Result<()> {
    StdioTransport::new(service, config).serve_process().await
}

/// Serves a stack to one client until the input ends.
///
/// # Errors
///
/// Reading or writing failed. A client that has closed its end is no error.
///
/// # Cancel safety
///
/// Dropping the future drops every call and ends the session.
pub async fn serve<S: Seam>(
    service: S,
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    config: StdioConfig,
) -> io::Result<()> {
    StdioTransport::new(service, config)
        .serve(reader, writer)
        .await
}

/// Serves a stack over lines of JSON: one client for each connection. Clones share the connections.
pub struct StdioTransport<S> {
    service: S,
    config: StdioConfig,
    lifecycle: Lifecycle,
}

impl<S: Seam> StdioTransport<S> {
    /// Creates a transport for `service`.
    #[must_use]
    pub fn new(service: S, config: StdioConfig) -> Self {
        Self {
            service,
            lifecycle: Lifecycle::new(&config.timing),
            config,
        }
    }

    /// Serves the client on the standard input and output of this process until the input ends or the transport is
    /// closed.
    ///
    /// Nothing else may write to standard output or read standard input meanwhile. Standard input is read by a thread of
    /// its own, which a tokio runtime does not wait for at its end. Standard output is tokio's: where the client may stop
    /// reading, end the runtime with `shutdown_background`.
    ///
    /// # Errors
    ///
    /// As [`StdioTransport::serve`], and the thread cannot be started.
    pub async fn serve_process(&self) -> io::Result<()> {
        self.serve(Input::start()?, tokio::io::stdout()).await
    }

    /// Serves one client until its input ends or the transport is closed.
    ///
    /// # Errors
    ///
    /// Reading or writing failed. A client that has closed its end is no error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops every call and ends the session.
    pub async fn serve(
        &self,
        reader: impl AsyncRead + Send + Unpin,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<()> {
        let _running = self.lifecycle.track();
        let (sender, messages) = mpsc::channel(WAITING);
        let mut writing = JoinSet::new();
        writing.spawn(lines::write(writer, messages));
        let mut lines = Lines::new(reader, self.config.bounds.line.get());
        let mut changes = self.lifecycle.changes();
        let mut connection = Connection::start(self, sender);
        let mut end = loop {
            tokio::select! {
                () = lifecycle::reached(&mut changes, Phase::Closed) => {
                    connection.close().await;
                    break Ok(());
                }
                () = connection.opened(), if connection.holds() => connection.take_held().await,
                line = lines.next(), if !connection.holds() => match line {
                    Ok(Some(line)) => connection.take(line).await,
                    Ok(None) => break connection.finish(&mut writing).await,
                    Err(error) => break Err(error),
                },
                Some(_) = connection.tasks.join_next(), if !connection.tasks.is_empty() => {}
                written = written(&mut writing) => break written,
            }
        };
        connection.end().await;
        let flush = self.config.timing.flush;
        if let Ok(written) = timeout(flush, written(&mut writing)).await {
            end = end.and(written);
        }
        match end {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            end => end,
        }
    }
}

/// Waits until nothing is written any more: the client is gone, or the last sender.
async fn written(writing: &mut JoinSet<io::Result<()>>) -> io::Result<()> {
    match writing.join_next().await {
        Some(Ok(written)) => written,
        Some(Err(panic)) => Err(io::Error::other(panic)),
        None => Ok(()),
    }
}

impl<S> StdioTransport<S> {
    /// Returns whether sessions and calls are taken: from the start until [`StdioTransport::drain`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lifecycle.phase() == Phase::Open
    }

    /// Refuses new sessions and calls from now on, with an error that says to try again, and waits for those in flight to
    /// finish. Returns whether all have finished within `deadline`. Subscriptions end at once. Draining cannot be undone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the transport draining; it can be waited for again.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.lifecycle.drain(deadline).await
    }

    /// Ends every connection and waits until [`StdioTransport::serve`] has returned for each. A call in flight is
    /// answered with an error of kind [`ErrorKind::Unavailable`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the transport closed.
    pub async fn close(&self) {
        self.lifecycle.close();
        self.lifecycle.ended().await;
    }
}

#[async_trait::async_trait]
impl<S: Seam> crate::Drain for StdioTransport<S> {
    async fn drain(&self, deadline: Duration) -> bool {
        Self::drain(self, deadline).await
    }

    async fn close(&self) {
        Self::close(self).await;
    }
}

impl<S: Clone> Clone for StdioTransport<S> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            config: self.config.clone(),
            lifecycle: self.lifecycle.clone(),
        }
    }
}

impl<S> fmt::Debug for StdioTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioTransport").finish_non_exhaustive()
    }
}
