//! The programs that take part.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    time::Instant,
};

use crate::{Arguments, Outcome};

/// What tables call the gateway that the other is compared with.
pub(crate) const BESIDE: &str = "beside";

/// No program may take longer to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the programs are, and how the gateway is started.
pub(crate) struct Programs {
    own: PathBuf,
    gateway: PathBuf,
    beside: Option<PathBuf>,
    gateway_arguments: Vec<String>,
}

/// A program that runs; it ends with this value.
pub(crate) struct Program {
    /// What tables call it.
    pub(crate) name: &'static str,
    /// Where it can be reached; empty when it is not a server.
    pub(crate) url: String,
    /// Further URLs of the same program.
    pub(crate) more: Vec<String>,
    pub(crate) pid: u32,
    // Kept for the sake of ending the program.
    _child: Child,
}

impl Programs {
    pub(crate) fn new(arguments: &Arguments) -> Outcome<Self> {
        let own = env::current_exe()?;
        let own = own.parent().ok_or("this program is in no directory")?;
        for gateway in std::iter::once(&arguments.gateway).chain(&arguments.beside) {
            if !gateway.exists() {
                let path = gateway.display();
                return Err(format!("there is no gateway at {path}: build it, or name it").into());
            }
        }
        Ok(Self {
            own: own.to_owned(),
            gateway: arguments.gateway.clone(),
            beside: arguments.beside.clone(),
            gateway_arguments: arguments.gateway_arg.clone(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.own.join(name)
    }

    /// Starts `echo-upstream`, which prints one URL for each port.
    pub(crate) async fn upstream(&self, arguments: &[&str], ports: u32) -> Outcome<Program> {
        self.announced("direct", "echo-upstream", arguments, ports)
            .await
    }

    /// Starts `forwarder` in front of `url`.
    pub(crate) async fn forwarder(&self, url: &str) -> Outcome<Program> {
        self.announced("forwarder", "forwarder", &["--upstream", url], 1)
            .await
    }

    /// Starts `static-server` with the reply in `file`.
    pub(crate) async fn static_server(&self, file: &Path) -> Outcome<Program> {
        let file = file.to_str().ok_or("the path is not UTF-8")?;
        self.announced("static", "static-server", &["--reply", file], 1)
            .await
    }

    /// Starts the gateway with `upstreams`, each `NAME=URL`, and waits until it listens.
    pub(crate) async fn gateway(&self, upstreams: &[String]) -> Outcome<Program> {
        self.listening("gateway", &self.gateway, upstreams).await
    }

    /// Starts the gateway, and the one beside it if there is one, each with `upstreams`.
    pub(crate) async fn gateways(&self, upstreams: &[String]) -> Outcome<Vec<Program>> {
        let mut gateways = vec![self.gateway(upstreams).await?];
        if let Some(beside) = &self.beside {
            gateways.push(self.listening(BESIDE, beside, upstreams).await?);
        }
        Ok(gateways)
    }

    async fn listening(
        &self,
        name: &'static str,
        gateway: &Path,
        upstreams: &[String],
    ) -> Outcome<Program> {
        let (program, address) = self.start(name, gateway, upstreams).await?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            if Instant::now() > deadline {
                return Err(format!("{} does not listen", gateway.display()).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(program)
    }

    /// Starts the gateway and does not wait.
    pub(crate) async fn gateway_at_once(
        &self,
        upstreams: &[String],
    ) -> Outcome<(Program, SocketAddr)> {
        self.start("gateway", &self.gateway, upstreams).await
    }

    async fn start(
        &self,
        name: &'static str,
        gateway: &Path,
        upstreams: &[String],
    ) -> Outcome<(Program, SocketAddr)> {
        let address = free_port().await?;
        let mut command = Command::new(gateway);
        command.args(["--listen", &address.to_string()]);
        for upstream in upstreams {
            command.args(["--upstream", upstream]);
        }
        command.args(&self.gateway_arguments).stdout(Stdio::null());
        let child = command.kill_on_drop(true).stdin(Stdio::null()).spawn()?;
        let program = Program {
            name,
            url: format!("http://{address}/mcp"),
            more: Vec::new(),
            pid: child.id().ok_or("the gateway ended at once")?,
            _child: child,
        };
        Ok((program, address))
    }

    /// Starts one of our own programs and reads the URLs that it prints.
    async fn announced(
        &self,
        name: &'static str,
        file: &str,
        arguments: &[&str],
        urls: u32,
    ) -> Outcome<Program> {
        let mut command = Command::new(self.path(file));
        command.args(arguments).stdin(Stdio::null());
        let (child, mut lines) = piped(command)?;
        let mut more = Vec::new();
        for _ in 0..urls {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??;
            more.push(line.ok_or_else(|| format!("{file} ended at once"))?);
        }
        Ok(Program {
            name,
            url: more.remove(0),
            more,
            pid: child.id().ok_or("it ended at once")?,
            _child: child,
        })
    }
}

/// Starts `command`, to be ended with the value returned, and reads its output by lines.
pub(crate) fn piped(mut command: Command) -> Outcome<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().ok_or("there is no stdout")?;
    Ok((child, BufReader::new(stdout).lines()))
}

/// A port that was free a moment ago.
async fn free_port() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?)
}
