use std::{
    collections::VecDeque,
    fmt,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use playwright_rs::{
    Playwright,
    server::{
        connection::{Connection, ConnectionExt, ConnectionLike},
        transport::PipeTransport,
    },
};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStderr, Command},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    DriverConfig,
    tap::{Tap, pump},
};
use crate::{BrowserError, BrowserErrorKind};

/// The `ffmpeg` that this version of the driver looks for in its folder of browsers.
const FFMPEG: &str = "ffmpeg-1013/ffmpeg-linux";
/// How many messages of the driver may wait to be dealt with.
const MESSAGES: usize = 256;

/// A running driver. Dropping it kills the driver, and with it every browser that it started.
pub(crate) struct Driver {
    playwright: Playwright,
    tap: Arc<Tap>,
    pid: u32,
    ended: watch::Receiver<bool>,
    /// Asks the one who watches the process to end it.
    stop: mpsc::Sender<()>,
}

impl Driver {
    pub(crate) async fn start(config: &DriverConfig) -> Result<Self, BrowserError> {
        config.check()?;
        let folder = TempDir::with_prefix("mcp-browser-")
            .map_err(|error| failed("no folder for temporary files").with_source(error))?;
        let mut child = command(config, folder.path())?
            .spawn()
            .map_err(|error| failed("Node.js cannot be started").with_source(error))?;
        let pid = child.id().unwrap_or_default();
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("the driver has no pipes"));
        };
        let errors = child.stderr.take().map(Tail::of);
        // Doc-hidden parts of `playwright-rs`, used here only: its own `launch` reads the environment, installs a
        // signal handler, and does not tell when the driver ends.
        let (transport, messages) = PipeTransport::new(stdin, stdout);
        let (sender, receiver) = transport.into_parts();
        let tap = Arc::<Tap>::default();
        let (passing, passed) = mpsc::channel(MESSAGES);
        let connection = Arc::new(Connection::new(sender, receiver, passed));
        let (running, tapped) = (Arc::clone(&connection), Arc::clone(&tap));
        let reading = tokio::spawn(async move {
            tokio::join!(running.run(), pump(tapped, messages, passing));
        });
        let handshake = async {
            let object = connection.initialize_playwright().await?;
            connection.get_typed::<Playwright>(object.guid()).await
        };
        let handshake = tokio::time::timeout(config.start_timeout, handshake);
        let started = tokio::select! {
            result = handshake => match result {
                Ok(Ok(playwright)) => Ok(playwright),
                Ok(Err(error)) => Err(failed("the driver does not answer").with_source(error)),
                Err(_) => Err(failed("the driver did not answer in time")),
            },
            status = child.wait() => Err(ended_at_once(config, status)),
        };
        let playwright = match (started, &errors) {
            (Ok(playwright), _) => playwright,
            (Err(error), errors) => {
                reading.abort();
                return Err(match errors {
                    Some(errors) => errors.explain(error).await,
                    None => error,
                });
            }
        };
        let (stop, stopped) = mpsc::channel(1);
        let (ending, ended) = watch::channel(false);
        tokio::spawn(async move {
            let _folder = folder;
            watch_over(child, &connection, stopped).await;
            ending.send_replace(true);
            reading.abort();
        });
        Ok(Self {
            playwright,
            tap,
            pid,
            ended,
            stop,
        })
    }

    pub(crate) fn playwright(&self) -> &Playwright {
        &self.playwright
    }

    pub(crate) fn tap(&self) -> &Tap {
        &self.tap
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    pub(crate) fn is_alive(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Lets the driver close its browsers and end; kills it where it does not.
    pub(crate) async fn shutdown(&self) {
        // Full: it has been asked already.
        let _ = self.stop.try_send(());
        let mut ended = self.ended.clone();
        // An error says that the watcher is gone, and the driver with it.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

fn ended_at_once(
    config: &DriverConfig,
    status: std::io::Result<std::process::ExitStatus>,
) -> BrowserError {
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    failed(format!(
        "the driver ended at once ({status}): {} {} run-driver needs Node 20 or later",
        config.node.display(),
        config.cli().display(),
    ))
}

/// The end of what the driver writes to its standard error, which says why it does not start.
struct Tail {
    text: Arc<Mutex<VecDeque<u8>>>,
    reading: JoinHandle<()>,
}

impl Tail {
    /// How many bytes are kept.
    const LENGTH: usize = 2000;

    fn of(mut errors: ChildStderr) -> Self {
        let text = Arc::<Mutex<VecDeque<u8>>>::default();
        let kept = Arc::clone(&text);
        // Ends with the driver, whose end of the pipe it is.
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = errors.read(&mut buffer).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&buffer[..length]);
                let excess = kept.len().saturating_sub(Self::LENGTH);
                kept.drain(..excess);
            }
        });
        Self { text, reading }
    }

    /// Adds what the driver said to an error.
    async fn explain(&self, error: BrowserError) -> BrowserError {
        for _ in 0..20 {
            if self.reading.is_finished() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = text.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.trim() {
            "" => error,
            text => error.map_message(|message| format!("{message}; it said: {text}")),
        }
    }
}

/// Waits for the end of the process: by itself, or because it was asked, or because its last user is gone.
async fn watch_over(
    mut child: Child,
    connection: &Arc<Connection>,
    mut stopped: mpsc::Receiver<()>,
) {
    let asked = tokio::select! {
        _ = child.wait() => return,
        asked = stopped.recv() => asked.is_some(),
    };
    // The end of its input makes the driver close its browsers and end.
    connection.close_writer();
    let patience = Duration::from_secs(if asked { 10 } else { 5 });
    if tokio::time::timeout(patience, child.wait()).await.is_err() {
        // Chromium ends when its pipe to the driver does.
        let _ = child.kill().await;
    }
}

fn command(config: &DriverConfig, folder: &Path) -> Result<Command, BrowserError> {
    let mut command = Command::new(&config.node);
    command
        .arg(config.cli())
        .arg("run-driver")
        .env_clear()
        .env("HOME", folder)
        .env("TMPDIR", folder)
        // Fixed, not read: Debian's Chromium is started by a shell script.
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("PW_LANG_NAME", "rust")
        .env("PW_LANG_NAME_VERSION", "1.90")
        .env("PW_CLI_DISPLAY_VERSION", env!("CARGO_PKG_VERSION"))
        .env("PLAYWRIGHT_BROWSERS_PATH", folder)
        .envs(config.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // A signal to our own group (Ctrl-C) is ours to handle.
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(unix)]
    if let Some(ffmpeg) = &config.ffmpeg {
        let place = folder.join(FFMPEG);
        let linked = place
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::os::unix::fs::symlink(ffmpeg, &place));
        linked.map_err(|error| failed("ffmpeg cannot be linked").with_source(error))?;
    }
    Ok(command)
}

fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> BrowserError {
    BrowserError::new(BrowserErrorKind::StartFailed, message)
}
