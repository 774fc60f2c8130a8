//! Starts a gateway and says what it aggregated.

use std::{error::Error, io::Write as _, net::SocketAddr, process::ExitCode, time::Duration};

use axum::serve::ListenerExt as _;
use clap::Parser;
use gateway_example::{UpstreamArgument, app, clock, default_gateway, gateway};
use mcp_aggregate::{Running, UpstreamState};
use tokio::net::TcpListener;

/// Many small, short-lived allocations on several threads are what this allocator is made for. The libraries leave the
/// choice to the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often to say what is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Puts several MCP servers behind one endpoint.
///
/// Without --upstream: a server in this process, a server built with this example, and official servers where npx
/// and uvx are installed.
#[derive(Debug, Parser)]
#[command(name = "gateway")]
struct Arguments {
    /// Address to serve on; the endpoint is /mcp.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// A server: NAME=URL, or NAME='COMMAND ARGS'. May be given any number of times.
    #[arg(long = "upstream", value_name = "NAME=TARGET")]
    upstreams: Vec<UpstreamArgument>,
    /// Leave names as they are, for a single upstream.
    #[arg(long)]
    no_prefix: bool,
    /// How long to wait, in seconds, before saying what was aggregated.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
    /// Serve the clock of the example on standard input and output, and nothing else.
    #[arg(long, hide = true)]
    serve_clock: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "warn,rmcp=error".into()),
        )
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to say it to if standard error is gone.
            let _ = writeln!(std::io::stderr(), "gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.serve_clock {
        return clock::serve().await;
    }
    let builder = match arguments.upstreams.is_empty() {
        true => default_gateway(
            &std::env::current_exe()?,
            is_installed("npx"),
            is_installed("uvx"),
        )?,
        false => gateway(&arguments.upstreams, arguments.no_prefix)?,
    };
    let gateway = builder.build()?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    let address = listener.local_addr()?;
    let running = gateway.start();
    let server = tokio::spawn(serve(listener, app(&running, address)));
    writeln!(std::io::stdout(), "http://{address}/mcp")?;
    let waiting = Duration::from_secs(arguments.wait);
    wait(&running, waiting).await?;
    report(&running, address)?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        told = tell_changes(&running) => told?,
    }
    server.abort();
    running.shutdown().await;
    Ok(())
}

/// Waits for the upstreams and says what is waited for.
async fn wait(running: &Running, longest: Duration) -> std::io::Result<()> {
    let settled = running.settled(longest);
    tokio::pin!(settled);
    loop {
        tokio::select! {
            _ = &mut settled => return Ok(()),
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let starting: Vec<_> = running
            .health()
            .upstreams
            .into_iter()
            .filter(|upstream| upstream.state == UpstreamState::Starting)
            .map(|upstream| upstream.id.to_string())
            .collect();
        let names = starting.join(", ");
        writeln!(
            std::io::stdout(),
            "waiting for {names} (a package may have to be downloaded)"
        )?;
    }
}

/// Says which upstreams come up, and which are lost, after the report.
async fn tell_changes(running: &Running) -> std::io::Result<()> {
    let mut known = running.health().upstreams;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = running.health().upstreams;
        for (before, after) in known.iter().zip(&now) {
            let is_up = |state| state == UpstreamState::Healthy;
            match (is_up(before.state), is_up(after.state)) {
                (false, true) => writeln!(std::io::stdout(), "{} is available", after.id)?,
                (true, false) => writeln!(
                    std::io::stdout(),
                    "{} is not available: {}",
                    after.id,
                    after.error.as_deref().unwrap_or("it ended")
                )?,
                _ => {}
            }
        }
        known = now;
    }
}

async fn serve(listener: TcpListener, app: axum::Router) -> std::io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

/// Says what is served, what is not and why, and how to use it.
fn report(running: &Running, address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let [tools, prompts, resources, templates] = running.counts();
    writeln!(
        out,
        "{tools} tools, {prompts} prompts, {resources} resources, {templates} resource templates from:"
    )?;
    for upstream in running.health().upstreams {
        match (upstream.state, upstream.error) {
            (UpstreamState::Healthy, _) => writeln!(out, "  {}  ok", upstream.id)?,
            (UpstreamState::Starting, _) => writeln!(out, "  {}  still starting", upstream.id)?,
            (_, error) => writeln!(
                out,
                "  {}  not available: {}",
                upstream.id,
                error.unwrap_or_default()
            )?,
        }
    }
    for one in running.withheld() {
        writeln!(
            out,
            "  {:?} of {} is withheld: {} has the same",
            one.name, one.withheld, one.offered
        )?;
    }
    writeln!(out, "For a desktop client:")?;
    let snippet = serde_json::json!({
        "mcpServers": { "gateway": { "type": "http", "url": format!("http://{address}/mcp") } }
    });
    writeln!(out, "{snippet:#}")
}

/// Whether a program can be found.
fn is_installed(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
