//! Starts everything, has two users ask every server who they are, and prints the answers.

use std::{io::Write as _, process::ExitCode};

use mixed_auth::{Outcome, World};

#[tokio::main]
async fn main() -> ExitCode {
    match show().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to say it to if standard error is gone.
            let _ = writeln!(std::io::stderr(), "mixed-auth: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show() -> Outcome<()> {
    let world = World::start().await?;
    let mut out = std::io::stdout();
    for user in ["alice", "bob"] {
        for (strategy, answer) in world.ask_as(user, "2026-07-28").await? {
            writeln!(out, "{user:6} {strategy:9} {answer}")?;
        }
    }
    world.stop().await;
    Ok(())
}
