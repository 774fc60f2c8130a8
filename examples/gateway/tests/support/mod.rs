//! The built gateway as a program of its own, its clients over HTTP, and the processes that it starts.

#![allow(dead_code, reason = "each test program uses its own part")]

mod client;

use std::{
    fmt::Write as _,
    future::Future,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

pub(crate) use self::client::{Client, get};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The variable that marks every process which an upstream starts.
const MARK: &str = "GATEWAY_TEST_MARK";

/// A text that no other test uses.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{next}", std::process::id())
}

/// The command line of the server of these tests.
pub(crate) fn server() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/server.py");
    format!("python3 '{file}'")
}

/// A file in a folder for temporary ones, removed when it is dropped.
pub(crate) struct TemporaryFile(PathBuf);

impl TemporaryFile {
    pub(crate) fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("gateway-{name}-{}", unique())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running gateway. Killed when it is dropped.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    /// Where it serves; empty with `--stdio`.
    pub(crate) address: String,
    mark: String,
}

impl Gateway {
    /// Starts a gateway over HTTP and waits until it serves.
    pub(crate) async fn start(upstreams: &[(&str, String)], options: &[&str]) -> Self {
        let options = [&["--listen", "127.0.0.1:0"], options].concat();
        let mut gateway = Self::run(upstreams, &options);
        let stdout = gateway.child.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(PATIENCE, lines.next_line()).await;
        let url = first.expect("it starts").unwrap().expect("it serves");
        let address = url.strip_prefix("http://").unwrap();
        gateway.address = address.strip_suffix("/mcp").unwrap().to_owned();
        // A pipe that nothing reads would fill up.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        gateway
    }

    /// Starts a gateway with piped standard input and output.
    pub(crate) fn run(upstreams: &[(&str, String)], options: &[&str]) -> Self {
        let mark = unique();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        for (name, target) in upstreams {
            command.arg("--upstream").arg(format!("{name}={target}"));
            command.arg("--env").arg(format!("{name}={MARK}={mark}"));
        }
        let child = command
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            child,
            address: String::new(),
            mark,
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.child.id().expect("it runs"));
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends").unwrap()
    }

    /// Counts the processes that its upstreams have started and that run.
    pub(crate) fn processes(&self) -> usize {
        self.command_lines().len()
    }

    /// Returns the processes that its upstreams have started, run, and have a text in their command line.
    pub(crate) fn processes_with(&self, text: &str) -> Vec<u32> {
        let all = self.command_lines().into_iter();
        let these = all.filter(|(_, line)| line.contains(text));
        these.map(|(process, _)| process).collect()
    }

    /// Returns the processes that its upstreams have started and that run, with their command lines.
    pub(crate) fn command_lines(&self) -> Vec<(u32, String)> {
        let marked = format!("{MARK}={}", self.mark);
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let of_upstream = |process: std::fs::DirEntry| {
            let id = process.file_name().to_str()?.parse().ok()?;
            // The environment of a zombie, and of what is not ours, cannot be read.
            let environment = std::fs::read(process.path().join("environ")).ok()?;
            let mut variables = environment.split(|byte| *byte == 0);
            variables.find(|variable| *variable == marked.as_bytes())?;
            let line = std::fs::read(process.path().join("cmdline")).ok()?;
            Some((id, String::from_utf8_lossy(&line).replace('\0', " ")))
        };
        processes.filter_map(of_upstream).collect()
    }

    /// Waits until no process of an upstream is left.
    pub(crate) async fn leaves_nothing(&self) {
        let gone = until(async || self.processes() == 0).await;
        assert!(gone, "left: {:#?}", self.command_lines());
    }

    /// Waits until so many processes of upstreams run.
    pub(crate) async fn has_started(&self, count: usize) {
        let running = until(async || self.processes() >= count).await;
        assert!(running, "{count}, but: {:#?}", self.command_lines());
    }

    /// Returns the status code of the readiness probe.
    pub(crate) async fn readiness(&self) -> u16 {
        get(&self.address, "/health/ready").await.unwrap().0
    }

    /// Waits until all upstreams are healthy.
    pub(crate) async fn is_healthy(&self) {
        let mut last = String::new();
        let healthy = until(async || {
            last = get(&self.address, "/health").await.unwrap().1;
            last.contains(r#""status":"healthy""#)
        });
        let healthy = healthy.await;
        assert!(healthy, "{last}");
    }
}

/// Polls a condition until it holds; returns whether it did in time.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let polling = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, polling).await.is_ok()
}

/// Sends a signal by its name to a process.
pub(crate) fn signal(name: &str, process: u32) -> bool {
    let mut script = String::from("kill -s ");
    // Writing to a string cannot fail.
    let _ = write!(script, "{name} {process}");
    let sent = std::process::Command::new("sh")
        .args(["-c", &script])
        .stderr(Stdio::null())
        .status();
    sent.unwrap().success()
}

/// Runs a future so many times, several at a time.
pub(crate) async fn rounds<F>(count: usize, at_once: usize, round: impl Fn() -> F)
where
    F: Future<Output = ()> + 'static,
{
    let running = async {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..count {
            if running.len() >= at_once {
                running.join_next().await.unwrap().unwrap();
            }
            running.spawn_local(round());
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    };
    tokio::task::LocalSet::new().run_until(running).await;
}
