//! Starts a gateway and says what it aggregated.

use std::{error::Error, io::Write, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use gateway_example::{app, arguments::Arguments, clients, clock, default_gateway, gateway};
use mcp_aggregate::{GatewayBuilder, GatewayEvent, HealthReport, Running, UpstreamState};
use mcp_core::{
    Timing,
    serve::{Server, Signals},
    transport::stdio::{StdioConfig, StdioTransport},
};
use tokio::net::TcpListener;

/// Many small, short-lived allocations on several threads are what this allocator is made for. The libraries leave the
/// choice to the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often to say what is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "error,rmcp=off".into()),
        )
        .init();
    let arguments = Arguments::parse();
    let ended = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| {
            let ended = runtime.block_on(run(arguments));
            // A client on standard output that has stopped reading does not hold the program up.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere else to say it if standard error is gone.
            let _ = writeln!(std::io::stderr(), "gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.serve_clock {
        return clock::serve().await;
    }
    if arguments.print_clients {
        return print_clients(&arguments);
    }
    // The handlers stand before anything is started that they would have to end.
    let signals = Signals::new()?;
    let timing = Timing::default()
        .with_call(arguments.silence())
        .with_drain(Duration::from_secs(arguments.drain));
    let gateway = describe(&arguments)?.timing(timing.clone()).build()?;
    match arguments.stdio {
        true => {
            let running = Arc::new(gateway.start());
            serve_stdio(&running, timing, signals).await
        }
        false => {
            let listener = TcpListener::bind(arguments.listen)
                .await
                .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
            let running = Arc::new(gateway.start());
            serve_http(&running, listener, timing, signals, arguments.wait).await
        }
    }
}

fn describe(arguments: &Arguments) -> Result<GatewayBuilder, Box<dyn Error>> {
    if !arguments.upstreams.is_empty() {
        return Ok(gateway(&arguments.servers()?, arguments.no_prefix));
    }
    let (npx, uvx) = (is_installed("npx"), is_installed("uvx"));
    for (found, program, what) in [
        (npx, "npx", "everything, from the npm registry"),
        (uvx, "uvx", "time, from the Python registry"),
    ] {
        if !found {
            writeln!(
                std::io::stderr(),
                "{program} is not installed: without {what}"
            )?;
        }
    }
    Ok(default_gateway(&std::env::current_exe()?, npx, uvx))
}

fn print_clients(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let own: Vec<_> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--print-clients")
        .collect();
    let url = format!("http://{}/mcp", arguments.listen);
    let text = clients::snippets(&url, &std::env::current_exe()?, &own);
    Ok(write!(std::io::stdout(), "{text}")?)
}

async fn serve_stdio(
    running: &Arc<Running>,
    timing: Timing,
    mut signals: Signals,
) -> Result<(), Box<dyn Error>> {
    let config = StdioConfig::default().with_timing(timing.clone());
    let transport = StdioTransport::new(running.service(), config);
    let telling = tell(running, PATIENCE, std::io::stderr);
    tokio::select! {
        served = transport.serve_process() => served?,
        () = signals.next() => {
            let draining = async {
                transport.drain(timing.drain).await;
                running.drain(timing.drain).await;
            };
            tokio::select! {
                () = draining => {}
                () = signals.next() => {}
            }
        }
        told = telling => told?,
    }
    transport.close().await;
    running.shutdown().await;
    Ok(())
}

async fn serve_http(
    running: &Arc<Running>,
    listener: TcpListener,
    timing: Timing,
    signals: Signals,
    wait: u64,
) -> Result<(), Box<dyn Error>> {
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "http://{address}/mcp")?;
    let told = Arc::clone(running);
    let wait = Duration::from_secs(wait);
    let telling = tokio::spawn(async move { say_what_is_there(&told, address, wait).await });
    let (stop, abort) = signals.split();
    let stop = async move {
        stop.await;
        telling.abort();
        let text = "finishing the calls in flight; a second signal ends at once";
        // Nothing is left to say it to if standard error is gone.
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let server = Server::new(listener)
        .with_timing(timing)
        .with_part(Arc::clone(running));
    Ok(server
        .serve_until(app(running, address), stop, abort)
        .await?)
}

async fn say_what_is_there(
    running: &Running,
    address: SocketAddr,
    wait: Duration,
) -> std::io::Result<()> {
    let settling = running.settled(wait);
    tokio::select! {
        _ = settling => {}
        told = tell_waiting(running, std::io::stdout) => told?,
    }
    report(running, address)?;
    tell(running, Duration::MAX, std::io::stdout).await
}

/// Says from time to time what is waited for. Does not end by itself.
async fn tell_waiting<W: Write>(running: &Running, out: impl Fn() -> W) -> std::io::Result<()> {
    loop {
        tokio::time::sleep(PATIENCE).await;
        let names = names_of(&running.health(), UpstreamState::Starting);
        if !names.is_empty() {
            writeln!(
                out(),
                "waiting for {names} (a package may have to be downloaded)"
            )?;
        }
    }
}

fn names_of(health: &HealthReport, state: UpstreamState) -> String {
    let of_state = health.upstreams.iter().filter(|one| one.state == state);
    let names: Vec<_> = of_state.map(|one| one.id.to_string()).collect();
    names.join(", ")
}

/// Says which upstreams come up and which are lost. Does not end while the gateway runs.
async fn tell<W: Write>(
    running: &Running,
    patience: Duration,
    out: impl Fn() -> W,
) -> std::io::Result<()> {
    let mut events = running.events();
    let waiting = async {
        match patience {
            Duration::MAX => std::future::pending().await,
            _ => tell_waiting(running, &out).await,
        }
    };
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            ended = &mut waiting => return ended,
            event = events.recv() => match event {
                Some(GatewayEvent::Upstream { id, state, error, .. }) => {
                    let why = error.map(|error| format!(": {}", error.message()));
                    let why = why.unwrap_or_default();
                    writeln!(out(), "{id} is {}{why}", state.name())?;
                }
                Some(_) => {}
                None => return std::future::pending().await,
            },
        }
    }
}

/// Says what is served, what is not and why, and how to use it.
fn report(running: &Running, address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let counts = running.counts();
    writeln!(
        out,
        "{} tools, {} prompts, {} resources, {} resource templates from:",
        counts.tools, counts.prompts, counts.resources, counts.templates
    )?;
    for upstream in running.health().upstreams {
        match (upstream.state, upstream.error) {
            (UpstreamState::Healthy, _) => writeln!(out, "  {}  ok", upstream.id)?,
            (UpstreamState::Starting, _) => writeln!(out, "  {}  still starting", upstream.id)?,
            (state, error) => writeln!(
                out,
                "  {}  {}: {}",
                upstream.id,
                state.name(),
                error.unwrap_or_default()
            )?,
        }
    }
    for one in running.catalogue().withheld() {
        writeln!(
            out,
            "  {:?} of {} is withheld: {} has the same",
            one.name, one.withheld, one.offered
        )?;
    }
    writeln!(
        out,
        "Clients connect to http://{address}/mcp; --print-clients prints a configuration for each."
    )
}

/// Whether a program can be found.
fn is_installed(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
