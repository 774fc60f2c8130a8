//! Owns a running process: reads what it writes, and sees to it that it ends.

use std::{process::ExitStatus, time::Duration};

use bytes::Bytes;
use mcp_core::{
    Error, ErrorKind, UpstreamId,
    jsonrpc::{Glimpse, Message},
    lines::{Line, Lines},
    pipe::Pipe,
};
use process_wrap::tokio::ChildWrapper;
use tokio::{
    process::ChildStdout,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{guard::Guarded, stderr::Tail};

/// How long what was sent SIGKILL may take to be gone.
#[cfg(unix)]
const VANISH: Duration = Duration::from_millis(500);

/// Owns the process: reads what it says, and sees to it that it ends.
pub(super) struct Supervisor {
    pub(super) id: UpstreamId,
    pub(super) child: Box<dyn ChildWrapper>,
    pub(super) pipe: Pipe,
    /// Taken out to close the input of the process.
    pub(super) sender: Option<mpsc::Sender<Bytes>>,
    pub(super) errors: JoinHandle<()>,
    pub(super) stop: CancellationToken,
    pub(super) broken: CancellationToken,
    pub(super) tail: Tail,
    /// How long the process is given after its input was closed, and again after SIGTERM.
    pub(super) grace: Duration,
    pub(super) ended: watch::Sender<Option<Instant>>,
    /// Ends the group when this program does. After the process is killed.
    pub(super) guard: Option<Guarded>,
}

impl Supervisor {
    pub(super) async fn run(mut self, stdout: ChildStdout, limit: usize) {
        let mut lines = Lines::new(stdout, limit);
        let stop = self.stop.clone();
        let (broken, grace) = (self.broken.clone(), self.grace);
        // What it has written before it stopped reading is still of use.
        let deaf = async move {
            broken.cancelled().await;
            sleep(grace).await;
        };
        tokio::pin!(deaf);
        let reason = loop {
            tokio::select! {
                line = lines.next() => match line {
                    Ok(Some(Line::Whole(line))) => self.take(&line),
                    Ok(Some(_)) => self.pass_over(lines.head(), limit),
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                },
                () = &mut deaf => break None,
                () = stop.cancelled() => break Some("it was stopped".to_owned()),
            }
        };
        self.stop.cancel();
        let why = match reason {
            Some(reason) => {
                // Calls in flight need not wait for the end as well.
                self.close(&reason);
                self.end().await;
                reason
            }
            None => {
                let why = match self.end().await {
                    Some(status) => format!("it ended with {status}"),
                    None => "it closed its input or output and was stopped".to_owned(),
                };
                // What it said last explains why it ended.
                let _ = timeout(Duration::from_millis(250), &mut self.errors).await;
                self.close(&why);
                why
            }
        };
        tracing::debug!(upstream = %self.id, reason = %why, "process ended");
        self.ended.send_replace(Some(Instant::now()));
    }

    /// Takes a line that the process has written.
    fn take(&self, line: &Bytes) {
        match Message::parse_any(line) {
            Ok(messages) => messages.for_each(|message| self.pipe.receive(message, None)),
            Err(malformed) => {
                // Some servers print what is not a message; no call waits for it.
                tracing::debug!(upstream = %self.id, error = %malformed.error, "a line that is not a message");
                if let Some(call) = Glimpse::of(line).answered() {
                    let error = Error::new(
                        ErrorKind::BadUpstream,
                        "the server's answer is not a JSON-RPC message",
                    );
                    let error = error.with_source(malformed.error);
                    self.pipe.inbox().fail(Some(call), error);
                }
            }
        }
    }

    /// Fails the call whose answer is longer than allowed: the one that its beginning names, else the oldest.
    fn pass_over(&self, head: &Bytes, limit: usize) {
        let glimpse = Glimpse::of(head);
        tracing::debug!(upstream = %self.id, limit, "a line that is longer than allowed is passed over");
        if glimpse.has_method || head.first() != Some(&b'{') {
            return;
        }
        let message = format!("the server answered with a message of more than {limit} bytes");
        let error = Error::new(ErrorKind::TooLarge, message);
        self.pipe.inbox().fail(glimpse.answered(), error);
    }

    /// Fails every call in progress.
    fn close(&self, why: &str) {
        let said = self.tail.text();
        let message = with_tail(format!("the server is not running: {why}"), &said);
        let error = Error::new(ErrorKind::Unavailable, message).with_upstream(self.id.clone());
        self.pipe.close(&error);
    }

    /// Ends the process and everything that it has started.
    async fn end(&mut self) -> Option<ExitStatus> {
        // Closing the input is the polite way.
        self.sender = None;
        let mut status = self.wait().await;
        #[cfg(unix)]
        if status.is_none() && self.child.signal(TERMINATE).is_ok() {
            status = self.wait().await;
        }
        // What it has started itself may still run. An error says that nothing does.
        let _ = self.child.start_kill();
        if status.is_none() {
            status = self.wait().await;
        }
        #[cfg(unix)]
        self.vanish().await;
        status
    }

    /// Waits until nothing of the group is left, which was sent SIGKILL. A zombie counts until its parent takes note of it, so
    /// the wait is bounded.
    #[cfg(unix)]
    async fn vanish(&self) {
        let gone = async {
            // Any signal will do; an error says that there is nothing to send it to.
            while self.child.signal(TERMINATE).is_ok() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        // Zombies only, by then.
        let _ = timeout(VANISH, gone).await;
    }

    async fn wait(&mut self) -> Option<ExitStatus> {
        timeout(self.grace, self.child.wait()).await.ok()?.ok()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Of use where the runtime ends before the supervisor has: the wrapper would kill the leader only. An error says that
        // nothing of the group is left.
        let _ = self.child.start_kill();
        self.guard = None;
    }
}

/// Adds the tail of stderr, if there is any, to a message.
pub(super) fn with_tail(message: String, said: &str) -> String {
    match said.is_empty() {
        true => message,
        false => format!("{message}; the end of its stderr: {said}"),
    }
}

/// SIGTERM (POSIX.1-2017, signal.h).
#[cfg(unix)]
const TERMINATE: i32 = 15;
