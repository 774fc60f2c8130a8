use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// A real PostgreSQL server on a free port of `127.0.0.1`, with a data folder of its own, killed when dropped.
///
/// The programs `initdb` and `postgres` must be installed. They refuse to run as root: a test that does runs them as the
/// user `postgres`.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    folder: PathBuf,
    child: Option<Child>,
}

impl PostgresServer {
    /// Starts a server and waits until it accepts connections.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed or does not start within 20 s.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        drop(listener);
        let folder =
            std::env::temp_dir().join(format!("mcp-postgres-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the data");
        if is_root() {
            let owned = Command::new("chown")
                .arg("postgres")
                .arg(&folder)
                .status()
                .await;
            assert!(
                owned.is_ok_and(|status| status.success()),
                "the user postgres exists"
            );
        }
        let made = program("initdb")
            .args([
                "--auth=trust",
                "--username=test",
                "--no-sync",
                "--encoding=UTF8",
                "-D",
            ])
            .arg(&folder)
            .stdout(Stdio::null())
            .status()
            .await;
        assert!(
            made.is_ok_and(|status| status.success()),
            "this test needs PostgreSQL; run .ci/test, which installs what it needs"
        );
        let mut server = Self {
            port,
            folder,
            child: None,
        };
        server.restart().await;
        server
    }

    /// Returns its address, in the form `postgres://test@127.0.0.1:port/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://test@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops the server at once, as a crash would. What was committed is kept.
    ///
    /// # Panics
    ///
    /// If the process cannot be killed.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("a child can be killed");
            // The other processes of the server end when they notice.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = std::fs::remove_file(self.folder.join("postmaster.pid"));
        }
    }

    /// Starts the server, after stopping it if it runs.
    ///
    /// # Panics
    ///
    /// If it does not start within 20 s.
    pub async fn restart(&mut self) {
        self.kill().await;
        let child = program("postgres")
            .arg("-D")
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""])
            .args(["-c", "fsync=off", "-c", "restart_after_crash=off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.expect("postgres starts where initdb did"));
        for _ in 0..1000 {
            // It listens before it has recovered, and refuses until then.
            let ready = program("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status();
            if ready.await.is_ok_and(|status| status.success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("postgres does not listen on port {}", self.port);
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.child.take());
        // What the server still writes disturbs no other server.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
    }
    #[cfg(not(unix))]
    false
}

/// Finds a program of PostgreSQL, which Debian keeps off the search path.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let found = versions
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .find(|path| path.exists());
    let path = found.unwrap_or_else(|| Path::new(name).to_owned());
    if !is_root() {
        return Command::new(path);
    }
    // Without a session of its own in between, so that killing the child kills the server.
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        "--",
    ]);
    command.arg(path);
    command
}
