//! HTTP servers, as plain as they get.

use std::{
    error::Error,
    io::{self, Write as _},
    net::SocketAddr,
};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Prints one line on stdout at once; programs that start this one wait for it.
///
/// # Errors
///
/// Fails when stdout is closed.
pub fn say(line: impl std::fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Binds `address` and prints the URL under which it can be reached, with `path`.
///
/// # Errors
///
/// Fails when the address cannot be bound.
pub async fn bind(address: SocketAddr, path: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    say(format_args!("http://{}{path}", listener.local_addr()?))?;
    Ok(listener)
}

/// Serves HTTP/1.1 on `listener` until the process ends.
///
/// # Errors
///
/// Fails when the listener does.
pub async fn run<S, B>(listener: TcpListener, service: S) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            // A client that disconnects within a request is its own affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
