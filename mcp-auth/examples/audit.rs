//! Writes an audit record until it is stopped, or checks one.
//!
//! `cargo run -p mcp-auth --features audit --example audit -- write FILE` prints the number of each event, with the
//! milliseconds since the first, when it has its place in the record. Stop it however you like, then
//! `cargo run -p mcp-auth --features audit --example audit -- verify FILE`.

use std::{
    error::Error,
    io::{BufReader, Write as _},
    time::{Duration, SystemTime},
};

use mcp_auth::audit::{FileAudit, OnFailure, verify};
use mcp_core::{AuditEvent, AuditOutcome, AuditSink as _, Principal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [what, file] = arguments.as_slice() else {
        return Err("usage: audit write|verify FILE".into());
    };
    let mut out = std::io::stdout();
    if what == "verify" {
        let whole = verify(BufReader::new(std::fs::File::open(file)?))?;
        writeln!(out, "{} events, head {}", whole.events, whole.head)?;
        return Ok(());
    }
    let audit = FileAudit::open(file, OnFailure::Refuse)?;
    let started = tokio::time::Instant::now();
    let who = Principal::authenticated("https://as.example", "alice");
    for number in 1_u64.. {
        let mut event = AuditEvent::new(
            SystemTime::now(),
            who.clone(),
            "example",
            AuditOutcome::Succeeded,
        );
        event.target = Some(number.to_string().into());
        match audit.record(&event).await {
            Ok(()) => writeln!(out, "{number} {}", started.elapsed().as_millis())?,
            Err(error) => {
                writeln!(out, "refused: {error}")?;
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
