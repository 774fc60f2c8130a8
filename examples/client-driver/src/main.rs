//! Uses, through a gateway, all that the server at the URL given offers.
//!
//! What to use, and the revision to speak, are read from the environment that the official suite sets.

use std::{io::Write as _, process::ExitCode};

use client_driver::{Outcome, Plan, authorized, run};
use serde_json::Value;

#[tokio::main]
async fn main() -> ExitCode {
    match drive().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to say it to if standard error is gone.
            let _ = writeln!(std::io::stderr(), "client-driver: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn drive() -> Outcome<()> {
    let server = std::env::args().nth(1).ok_or("give the URL of a server")?;
    let version = std::env::var("MCP_CONFORMANCE_PROTOCOL_VERSION");
    let version = version.unwrap_or_else(|_| "2026-07-28".to_owned());
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let context = match std::env::var("MCP_CONFORMANCE_CONTEXT") {
        Ok(context) => serde_json::from_str(&context)?,
        Err(_) => Value::Null,
    };
    let plan = Plan::of_scenario(&scenario, &context);
    let used = match scenario.starts_with("auth/") {
        true => authorized::run(&server, &version, &scenario, &context, &plan).await?,
        false => run(&server, &version, &plan).await?,
    };
    writeln!(std::io::stdout(), "{used:?}")?;
    Ok(())
}
