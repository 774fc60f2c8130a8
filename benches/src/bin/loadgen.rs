//! Puts load on an MCP endpoint and checks every reply.

use std::error::Error;

use benches::{
    load::{self, Plan},
    serve::say,
};
use clap::Parser as _;

// One thread: the load takes as little as it can from the machine it shares with what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let plan = Plan::parse();
    if let Some(sessions) = plan.idle_sessions {
        return load::idle(&plan, sessions).await;
    }
    let report = load::run(&plan, |mark| say(mark)).await?;
    say(serde_json::to_string(&report)?)?;
    Ok(())
}
