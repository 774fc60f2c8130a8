//! Serves browser and captcha tools behind authentication, rate limit, budget and circuit breaker.

use std::{error::Error, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use browser_gateway::{Settings, build};
use clap::Parser;
use mcp_browser::Discover;
use mcp_captcha::Vendor;
use mcp_core::secret::Secret;
use tokio::net::TcpListener;

/// Serves browser tools to the users whose tokens it is given.
///
/// Tokens and keys come from the environment: BROWSER_GATEWAY_TOKENS as NAME=TOKEN,NAME=TOKEN; and for captchas
/// TWOCAPTCHA_KEY, ANTICAPTCHA_KEY, CAPSOLVER_KEY.
#[derive(Debug, Parser)]
#[command(name = "browser-gateway")]
struct Arguments {
    /// Address to serve on; the endpoint is /mcp, and its URL is printed.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// Folder of the npm package playwright-core.
    #[arg(
        long,
        default_value = ".cache/playwright/node_modules/playwright-core",
        value_name = "FOLDER"
    )]
    playwright: PathBuf,
    /// File for the accounts of what was spent.
    #[arg(long, default_value = "browser-gateway.redb", value_name = "FILE")]
    state: PathBuf,
    /// An origin that may be reached; without any, every public one.
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// An origin on a private address that may be reached.
    #[arg(long = "private-origin", value_name = "ORIGIN")]
    private_origins: Vec<String>,
    /// An origin whose captchas may be solved.
    #[arg(long = "captcha-site", value_name = "ORIGIN")]
    captcha_sites: Vec<String>,
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

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let driver = Discover::new()
        .programs_in(&path)
        .package_at(std::path::absolute(&arguments.playwright)?)
        .find()?;
    let mut settings = Settings::new(driver, users()?, arguments.state);
    settings.origins = arguments.origins;
    settings.private_origins = arguments.private_origins;
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
    let app = build(settings).await?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    writeln!(std::io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    let router = app.router.clone();
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served?,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    app.shutdown().await;
    Ok(())
}

fn users() -> Result<Vec<(String, Secret)>, Box<dyn Error>> {
    let text = std::env::var("BROWSER_GATEWAY_TOKENS").unwrap_or_default();
    let users = text.split(',').filter_map(|entry| entry.split_once('='));
    let users: Vec<(String, Secret)> = users
        .map(|(name, token)| (name.to_owned(), Secret::new(token)))
        .collect();
    if users.is_empty()
        || users
            .iter()
            .any(|(name, token)| name.is_empty() || token.secret().len() < 16)
    {
        return Err(
            "set BROWSER_GATEWAY_TOKENS to NAME=TOKEN,... with tokens of at least 16 characters"
                .into(),
        );
    }
    Ok(users)
}
