//! The tail of what a process writes to its standard error.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp_core::UpstreamId;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::redact::Redactor;

/// How much is kept, in bytes.
const KEPT: usize = 4 << 10;

/// How much of a line goes into one log event, in bytes.
const LOGGED: usize = 1 << 10;

/// The last lines, without the secrets that the process was given. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.lock();
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(KEPT);
        kept.drain(..excess);
    }

    /// Returns what is kept, as text.
    pub(super) fn text(&self) -> String {
        let mut kept = self.lock();
        let text = String::from_utf8_lossy(kept.make_contiguous());
        text.trim().to_owned()
    }
}

/// Reads the standard error of a process to its end: keeps the last of it and logs it, both without secrets.
pub(super) async fn read(
    mut stderr: impl AsyncRead + Unpin,
    tail: Tail,
    id: UpstreamId,
    secrets: Vec<String>,
) {
    let mut redactor = Redactor::new(&secrets);
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let clean = redactor.push(&buffer[..read]);
        tail.push(&clean);
        log(&id, &mut line, &clean);
    }
    let rest = redactor.finish();
    tail.push(&rest);
    log(&id, &mut line, &rest);
    log(&id, &mut line, b"\n");
}

/// Logs whole lines, and the beginning of long ones.
fn log(id: &UpstreamId, line: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (piece, ends) = match piece.strip_suffix(b"\n") {
            Some(piece) => (piece, true),
            None => (piece, false),
        };
        let room = LOGGED.saturating_sub(line.len()).min(piece.len());
        line.extend_from_slice(&piece[..room]);
        if ends {
            let text = String::from_utf8_lossy(line);
            if !text.trim().is_empty() {
                let text = text.trim_end();
                tracing::debug!(target: "mcp_aggregate::stderr", upstream = %id, "{text}");
            }
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn tail_of(pieces: &[&[u8]], secrets: &[&str]) -> String {
        let (mut writer, reader) = tokio::io::duplex(1 << 20);
        let tail = Tail::default();
        let secrets = secrets.iter().copied().map(str::to_owned).collect();
        let id = UpstreamId::new("up").unwrap();
        let reading = tokio::spawn(read(reader, tail.clone(), id, secrets));
        for piece in pieces {
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(writer);
        reading.await.unwrap();
        tail.text()
    }

    #[tokio::test]
    async fn the_end_is_kept_and_secrets_are_not() {
        let long = [b'x'; 2 * KEPT];
        let text = tail_of(&[&long, b"\nkey is hunter22, sorry\n"], &["hunter22"]).await;
        assert!(text.ends_with("key is [redacted], sorry"), "{text}");
        assert!(text.len() <= KEPT);
    }

    #[tokio::test]
    async fn a_secret_at_the_cut_does_not_show_in_part() {
        let secret = "sk-very-secret-0123456789";
        for shift in 0..=secret.len() {
            let filler = vec![b'y'; KEPT - shift];
            let text = tail_of(&[secret.as_bytes(), &filler], &[secret]).await;
            for start in 0..secret.len() - 5 {
                assert!(!text.contains(&secret[start..start + 6]), "{shift}");
            }
        }
    }

    #[tokio::test]
    async fn a_secret_that_arrives_in_pieces_does_not_show() {
        let secret = "sk-very-secret-0123456789";
        for cut in 1..secret.len() {
            let (head, rest) = secret.as_bytes().split_at(cut);
            let text = tail_of(&[b"key ", head, rest, b" end"], &[secret]).await;
            assert_eq!(text, "key [redacted] end");
        }
    }
}
