//! Messages as lines (revision 2026-07-28, stdio): one JSON text each, without line ends inside.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// How many messages may wait to be written.
pub(super) const WAITING: usize = 64;

/// Reads lines of bounded length.
pub(super) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self {
            reader,
            buffer: BytesMut::with_capacity(8 << 10),
            searched: 0,
            limit,
        }
    }

    /// Returns the next line that is not empty, without its end; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// A line is too long, or reading failed.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + found + 1).freeze();
                self.searched = 0;
                let line = line.slice(..line.len() - 1);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.searched > self.limit {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line is longer than allowed",
                ));
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Writes messages as lines until the sender is gone or writing fails; several at once where several wait.
pub(super) async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut waiting = Vec::with_capacity(WAITING);
    while messages.recv_many(&mut waiting, WAITING).await > 0 {
        let mut lines = Vec::new();
        for message in waiting.drain(..) {
            push_line(&mut lines, message);
        }
        writer.write_all(&lines).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

/// Adds a message as a line. White space is the only place where JSON has line ends, so a space does as well.
fn push_line(lines: &mut Vec<u8>, mut message: Vec<u8>) {
    for byte in &mut message {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    if lines.is_empty() {
        *lines = message;
    } else {
        lines.extend_from_slice(&message);
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_bounded() {
        let mut lines = Lines::new(&b"{\"a\":1}\r\n\n  \nlast\nunfinished"[..], 64);
        assert_eq!(lines.next().await.unwrap().unwrap(), "{\"a\":1}\r");
        assert_eq!(lines.next().await.unwrap().unwrap(), "last");
        assert!(lines.next().await.unwrap().is_none());
        let long = [b'x'; 100];
        assert!(Lines::new(&long[..], 64).next().await.is_err());
    }

    #[tokio::test]
    async fn a_message_is_one_line_whatever_its_white_space() {
        let (sender, messages) = mpsc::channel(WAITING);
        sender.send(b"{\r\n \"a\": 1\n}".to_vec()).await.unwrap();
        sender.send(b"{}".to_vec()).await.unwrap();
        drop(sender);
        let mut written = Vec::new();
        write(&mut written, messages).await.unwrap();
        assert_eq!(written, b"{   \"a\": 1 }\n{}\n");
    }
}
