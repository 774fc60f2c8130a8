//! Serves browser and captcha tools behind authentication, rate limit, budget and circuit breaker.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use browser_gateway::{Extra, Outcome, Settings, State, build};
use clap::{Parser, Subcommand};
use mcp_browser::{BrowserConfig, BrowserService, Discover, DriverConfig};
use mcp_captcha::Vendor;
use mcp_core::{
    Timing,
    secret::Secret,
    serve::{Server, Signals},
    transport::stdio::{StdioConfig, StdioTransport},
};
use tokio::net::TcpListener;
use url::Url;

/// Serves browser tools over HTTP to users with a key, or over stdio to the client that starts it.
///
/// Without a command it serves, and over HTTP issues a key to a user "me" the first time, which is printed once. Needs
/// Node, Chromium and the npm package playwright-core: "doctor" says what is missing. Keys for captcha services come from
/// the environment: TWOCAPTCHA_KEY, ANTICAPTCHA_KEY, CAPSOLVER_KEY.
#[derive(Debug, Parser)]
#[command(name = "browser-gateway")]
struct Arguments {
    /// Folder for keys, secrets, accounts and the audit record.
    #[arg(
        long,
        global = true,
        default_value = "browser-gateway",
        value_name = "FOLDER"
    )]
    state: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks for Node, the driver and the browser, says how to install what is missing, and starts them once.
    Doctor,
    /// Issues a key to a user and prints it. The gateway must not be running.
    Key {
        /// Whose it is.
        user: String,
    },
    /// Reads a secret of a user from standard input, to be typed by its name. The gateway must not be running.
    Secret {
        /// Whose it is.
        user: String,
        /// Its name.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Address to serve on; the endpoint is /mcp, and its URL is printed.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// URL of the endpoint as clients know it, if not that of the address.
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// Also accepts tokens (JWT) of this issuer.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Serves the client that has started this program, over standard input and output. It needs no key.
    #[arg(long, conflicts_with_all = ["listen", "url", "issuer"])]
    stdio: bool,
    /// Folder of the npm package playwright-core. Default is the one in node_modules here, or in .cache/playwright.
    #[arg(long, value_name = "FOLDER", global = true)]
    playwright: Option<PathBuf>,
    /// What to switch on beside the basic tools, separated by commas.
    #[arg(long, value_name = "EXTRA", value_delimiter = ',')]
    with: Vec<Extra>,
    /// Switches everything on.
    #[arg(long, conflicts_with = "with")]
    with_all: bool,
    /// An origin that may be reached wherever its address is, also on a private network. Where any is named, by this or
    /// by --origin, no other may be reached.
    #[arg(long = "allow", value_name = "ORIGIN")]
    allowed: Vec<String>,
    /// An origin that may be reached at public addresses only.
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// An origin on a private address that may be reached beside every public one.
    #[arg(long = "private-origin", value_name = "ORIGIN")]
    private_origins: Vec<String>,
    /// A secret that sessions may type, and an origin where.
    #[arg(long = "secret-for", value_name = "NAME=ORIGIN", value_parser = pair)]
    secrets: Vec<(String, String)>,
    /// Gives each user a browser of their own.
    #[arg(long)]
    browser_each: bool,
    /// An origin whose captchas may be solved.
    #[arg(long = "captcha-site", value_name = "ORIGIN")]
    captcha_sites: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, origin) = text.split_once('=').ok_or("give NAME=ORIGIN")?;
    Ok((name.to_owned(), origin.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to say it to if standard error is gone.
            let _ = writeln!(std::io::stderr(), "browser-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Outcome<()> {
    let state = State::open(arguments.state);
    match arguments.command {
        Some(Command::Doctor) => doctor(&arguments.serve).await,
        Some(Command::Key { user }) => {
            let key = state.await?.issue(&user).await?;
            Ok(writeln!(std::io::stdout(), "{}", key.secret())?)
        }
        Some(Command::Secret { user, name }) => {
            let state = state.await?;
            let mut value = String::new();
            std::io::stdin().read_to_string(&mut value)?;
            let value = Secret::new(value.trim_end_matches(['\r', '\n']));
            state.put_secret(&user, &name, value).await
        }
        None if arguments.serve.stdio => serve_stdio(arguments.serve, &state.await?).await,
        None => serve(arguments.serve, &state.await?).await,
    }
}

/// Says what is there and what is missing, and whether it works.
async fn doctor(arguments: &Serve) -> Outcome<()> {
    let driver = driver(arguments)?;
    let mut out = std::io::stdout();
    writeln!(out, "Node, the Playwright driver and Chromium are there")?;
    let browsers = BrowserService::new(BrowserConfig::new(driver))?;
    let started = browsers.warm_up().await;
    browsers.shutdown().await;
    started?;
    Ok(writeln!(out, "the driver and the browser start")?)
}

/// Serves the client at the other end of standard input and output until it disconnects.
async fn serve_stdio(arguments: Serve, state: &State) -> Outcome<()> {
    let mut signals = Signals::new()?;
    let url = "http://127.0.0.1/mcp".parse()?;
    let app = build(settings(arguments, url)?, state).await?;
    let transport = StdioTransport::new(app.service(), StdioConfig::default());
    tokio::select! {
        served = transport.serve_process() => served?,
        () = signals.next() => {
            // What does not end in time is cut off; a second signal does not wait for it.
            tokio::select! {
                _ = transport.drain(Timing::default().drain) => {}
                () = signals.next() => {}
            }
        }
    }
    transport.close().await;
    app.shutdown().await;
    Ok(())
}

async fn serve(arguments: Serve, state: &State) -> Outcome<()> {
    let signals = Signals::new()?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    let own = format!("http://{}/mcp", listener.local_addr()?);
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => own.parse()?,
    };
    let app = build(settings(arguments, url)?, state).await?;
    writeln!(std::io::stdout(), "{own}")?;
    if state.is_new().await? {
        let key = state.issue("me").await?;
        writeln!(std::io::stdout(), "key of me: {}", key.secret())?;
    }
    let router = app.router.clone();
    let server = Server::new(listener).with_part(app.transport.clone());
    server.serve_until_signal(router, signals).await?;
    app.shutdown().await;
    Ok(())
}

/// Finds what is needed, in the places that are usual.
fn driver(arguments: &Serve) -> Outcome<DriverConfig> {
    let discover = Discover::new().programs_in(&std::env::var_os("PATH").unwrap_or_default());
    let discover = match &arguments.playwright {
        Some(folder) => discover.package_at(folder),
        None => discover
            .package_at("node_modules/playwright-core")
            .package_at(".cache/playwright/node_modules/playwright-core"),
    };
    let driver = discover.find()?;
    // Where windows are shown.
    Ok(match std::env::var_os("DISPLAY") {
        Some(display) => driver.with_environment("DISPLAY", display),
        None => driver,
    })
}

fn settings(arguments: Serve, url: Url) -> Outcome<Settings> {
    let mut settings = Settings::new(driver(&arguments)?, url);
    settings.allowed = arguments.allowed;
    settings.extras = match arguments.with_all {
        true => Extra::ALL.to_vec(),
        false => arguments.with,
    };
    settings.issuer = arguments.issuer;
    settings.origins = arguments.origins;
    settings.private_origins = arguments.private_origins;
    settings.secrets = arguments.secrets;
    settings.browser_each = arguments.browser_each;
    settings.captcha_sites = arguments.captcha_sites;
    let keys = [
        (Vendor::TwoCaptcha, "TWOCAPTCHA_KEY"),
        (Vendor::AntiCaptcha, "ANTICAPTCHA_KEY"),
        (Vendor::CapSolver, "CAPSOLVER_KEY"),
    ];
    let set = keys
        .into_iter()
        .filter_map(|(vendor, name)| Some((vendor, Secret::new(std::env::var(name).ok()?))));
    settings.captcha_keys = set.collect();
    Ok(settings)
}
