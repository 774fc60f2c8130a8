//! The end of what a process writes to its standard error.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use mcp_core::UpstreamId;
use tokio::{io::AsyncReadExt, process::ChildStderr};

/// How much is kept.
const KEPT: usize = 4 << 10;

/// How much of a line goes into one log event.
const LOGGED: usize = 1 << 10;

/// The last lines, without the secrets that the process was given.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(KEPT);
        kept.drain(..excess);
    }

    /// Returns what is kept, as text.
    pub(super) fn text(&self, secrets: &[String]) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(kept.make_contiguous()).into_owned();
        redact(text.trim(), secrets)
    }
}

/// Reads the standard error of a process to its end: keeps the last of it and logs it.
pub(super) async fn read(
    mut stderr: ChildStderr,
    tail: Tail,
    id: UpstreamId,
    secrets: Vec<String>,
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tail.push(&buffer[..read]);
        for line in buffer[..read].split(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&line[..line.len().min(LOGGED)]);
            if !line.trim().is_empty() {
                let line = redact(line.trim_end(), &secrets);
                tracing::debug!(target: "mcp_aggregate::stderr", upstream = %id, "{line}");
            }
        }
    }
}

fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret, "[redacted]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_secrets_are_not() {
        let tail = Tail::default();
        tail.push(&[b'x'; 2 * KEPT]);
        tail.push(b"\nkey is hunter22, sorry\n");
        let text = tail.text(&["hunter22".to_owned()]);
        assert!(text.ends_with("key is [redacted], sorry"), "{text}");
        assert!(text.len() <= KEPT + 16);
    }
}
