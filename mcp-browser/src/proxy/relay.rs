//! Moving bytes, and counting them.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

const BUFFER: usize = 16 * 1024;

/// Copies both ways until either side ends, or more came back than `count` lets through.
pub(super) async fn relay(
    browser: impl AsyncRead + AsyncWrite,
    server: TcpStream,
    count: impl Fn(u64) -> bool,
) {
    let (mut from_browser, mut to_browser) = tokio::io::split(browser);
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let copied = tokio::io::copy(&mut from_browser, &mut to_server).await;
        // The other side may have closed first.
        let _ = to_server.shutdown().await;
        copied.map(drop)
    };
    let down = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let size = from_server.read(&mut buffer).await?;
            if size == 0 {
                return to_browser.shutdown().await;
            }
            if !count(size as u64) {
                return Err(io::Error::other("the session has received all that it may"));
            }
            to_browser.write_all(&buffer[..size]).await?;
        }
    };
    // An end of either kind ends the tunnel.
    let _ = tokio::try_join!(up, down);
}

/// Asks a proxy for a tunnel (RFC 9110, section 9.3.6).
pub(super) async fn open_tunnel(stream: &mut TcpStream, address: SocketAddr) -> io::Result<()> {
    let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 8 * 1024 {
            return Err(io::Error::other("the proxy answers too much"));
        }
        // One byte at a time: what follows belongs to the tunnel.
        answer.push(stream.read_u8().await?);
    }
    let granted = answer.starts_with(b"HTTP/1.1 2") || answer.starts_with(b"HTTP/1.0 2");
    if granted {
        Ok(())
    } else {
        Err(io::Error::other("the proxy refuses the tunnel"))
    }
}

/// Counts the bytes that came; `false` says that there were too many.
type Count = Arc<dyn Fn(u64) -> bool + Send + Sync>;

/// A body whose bytes are counted, and which breaks when there are too many.
pub(super) struct Counted<B> {
    body: B,
    count: Count,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, count: Count) -> Self {
        Self { body, count }
    }
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map(|frame| {
            let frame = frame?.map_err(Into::into);
            if let Ok(frame) = &frame
                && let Some(data) = frame.data_ref()
                && !(self.count)(data.remaining() as u64)
            {
                return Some(Err("the session has received all that it may".into()));
            }
            Some(frame)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
