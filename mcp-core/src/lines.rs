//! Messages as lines, as on standard input and output: one JSON text each, without line ends inside
//! (revision 2026-07-28, stdio).

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

/// How many messages are written at once.
const AT_ONCE: usize = 64;

/// How much is kept of a line that is passed over.
const HEAD: usize = 4 << 10;

/// What stands on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Line {
    /// The line without its end.
    Whole(Bytes),
    /// Nothing: the line was longer than allowed and has been passed over. [`Lines::head`] has its beginning.
    TooLong,
}

/// Reads lines of bounded length.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    searched: usize,
    limit: usize,
    skipping: bool,
    head: Bytes,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Creates a reader that passes over lines of more than `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Self {
        Self {
            reader,
            buffer: BytesMut::with_capacity(8 << 10),
            searched: 0,
            limit,
            skipping: false,
            head: Bytes::new(),
        }
    }

    /// Returns the beginning of the line that was passed over last, up to 4 KiB.
    #[must_use]
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    fn keep_head(&mut self, line: &[u8]) {
        let head = line.get(..HEAD).unwrap_or(line);
        self.head = Bytes::copy_from_slice(head);
    }

    /// Returns the next line that is not blank; `None` at the end of the stream, where an unfinished line is
    /// lost.
    ///
    /// # Errors
    ///
    /// Reading failed.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes a line out of the buffer.
    fn take(&mut self) -> Option<Line> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(found) = memchr::memchr(b'\n', unsearched) else {
                self.searched = self.buffer.len();
                if self.searched > self.limit {
                    let skipped = self.buffer.split();
                    if !std::mem::replace(&mut self.skipping, true) {
                        self.keep_head(&skipped);
                    }
                    self.searched = 0;
                }
                return None;
            };
            let end = self.searched + found;
            let line = self.buffer.split_to(end + 1).freeze().slice(..end);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) {
                return Some(Line::TooLong);
            }
            if line.len() > self.limit {
                self.keep_head(&line);
                return Some(Line::TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Some(Line::Whole(line));
            }
        }
    }
}

/// Writes messages as lines until all senders are gone or writing fails; several at once where several wait.
///
/// # Errors
///
/// Writing failed.
pub async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let mut waiting = Vec::with_capacity(AT_ONCE);
    let mut lines = Vec::new();
    while messages.recv_many(&mut waiting, AT_ONCE).await > 0 {
        for message in waiting.drain(..) {
            push_line(&mut lines, &message);
        }
        writer.write_all(&lines).await?;
        writer.flush().await?;
        lines.clear();
        lines.shrink_to(64 << 10);
    }
    writer.shutdown().await
}

/// Adds a message as a line. White space is the only place where JSON has line ends, so a space does as well.
fn push_line(lines: &mut Vec<u8>, message: &[u8]) {
    let start = lines.len();
    lines.reserve(message.len() + 1);
    lines.extend_from_slice(message);
    if memchr::memchr2(b'\n', b'\r', message).is_some() {
        for byte in lines.iter_mut().skip(start) {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], limit: usize) -> Vec<Option<String>> {
        let mut lines = Lines::new(text, limit);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            seen.push(match line {
                Line::Whole(line) => Some(String::from_utf8(line.to_vec()).unwrap()),
                Line::TooLong => None,
            });
        }
        seen
    }

    #[tokio::test]
    async fn lines_are_cut() {
        let seen = all(b"{\"a\":1}\r\n\n  \nlast\nunfinished", 64).await;
        assert_eq!(
            seen,
            [Some("{\"a\":1}\r".to_owned()), Some("last".to_owned())]
        );
    }

    #[tokio::test]
    async fn lines_that_are_too_long_are_passed_over() {
        let long = "x".repeat(100_000);
        let text = format!("a\n{long}\nb\n12345\n1234\n{long}");
        let some = |text: &str| Some(text.to_owned());
        let seen = all(text.as_bytes(), 4).await;
        assert_eq!(seen, [some("a"), None, some("b"), None, some("1234")]);
    }

    #[tokio::test]
    async fn the_beginning_of_a_line_that_is_too_long_is_kept() {
        let long = "x".repeat(100_000);
        let text = format!("head {long}\nshort {}\n", "y".repeat(5));
        let mut lines = Lines::new(text.as_bytes(), 8);
        for beginning in ["head x", "short y"] {
            assert_eq!(lines.next().await.unwrap(), Some(Line::TooLong));
            assert!(lines.head().starts_with(beginning.as_bytes()));
            assert!(lines.head().len() <= HEAD);
        }
    }

    #[tokio::test]
    async fn a_message_is_one_line_whatever_its_white_space() {
        let (sender, messages) = mpsc::channel(8);
        for message in [&b"{\r\n \"a\": 1\n}"[..], b"{}"] {
            sender.send(Bytes::from_static(message)).await.unwrap();
        }
        drop(sender);
        let mut written = Vec::new();
        write(&mut written, messages).await.unwrap();
        assert_eq!(written, b"{   \"a\": 1 }\n{}\n");
    }
}
