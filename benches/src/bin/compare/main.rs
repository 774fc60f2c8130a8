//! Measures a gateway beside the forwarder that does nothing but forward.
//!
//! Starts an upstream for each era, the forwarder and the gateway in front of each, and puts the
//! same load on them in turns. Read the processor time first: on a machine that all of them share,
//! requests per second and latencies say what is left over.
//!
//! The gateway is started as `GATEWAY --listen ADDR --upstream NAME=URL ...`, and with
//! `--upstream NAME="COMMAND ARGUMENT..."` for an upstream on stdio; it serves `/mcp` and puts
//! `NAME__` in front of tool names. Anything else can be measured by a script that takes these
//! arguments.

mod cells;
mod footprint;
mod lists;
mod programs;
mod rounds;
mod table;

use std::{error::Error, fs, path::PathBuf};

use benches::serve::say;
use clap::{Parser, ValueEnum};

use crate::{programs::Programs, rounds::Rounds, table::Verdict};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Parts of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Calls of both eras.
    Calls,
    /// Calls to an upstream on stdio.
    Stdio,
    /// The list of many tools of many upstreams, beside a server that has it ready.
    Lists,
    /// Memory when idle, and for each idle session.
    Memory,
    /// Time from the start to the first complete list.
    Start,
}

#[derive(Parser)]
struct Arguments {
    /// The gateway to measure.
    #[arg(long, default_value = "target/release/gateway")]
    gateway: PathBuf,
    /// Further arguments for the gateway.
    #[arg(long)]
    gateway_arg: Vec<String>,
    /// Another gateway, to be measured in the same rounds: an earlier build, or another program that takes these arguments.
    #[arg(long)]
    beside: Option<PathBuf>,
    /// Fail if a call costs more than so many times the processor time that it costs the gateway `--beside`, by the lower end
    /// of the range.
    #[arg(long, requires = "beside")]
    at_most: Option<f64>,
    /// What the gateway puts in front of the tool names of the upstream called `up`.
    #[arg(long, default_value = "up__")]
    prefix: String,
    /// Tools that the gateway lists on its own account.
    #[arg(long, default_value_t = 0)]
    own_tools: usize,
    /// Only these parts; default is all.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Only cells whose title contains this.
    #[arg(long)]
    cell: Option<String>,
    /// Rounds of each cell.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each run that count.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Measure the upstream without anything between, too.
    #[arg(long)]
    direct: bool,
    /// Upstreams of the list.
    #[arg(long, default_value_t = 50)]
    upstreams: u32,
    /// Tools of each of them.
    #[arg(long, default_value_t = 20)]
    tools_each: usize,
    /// Sessions to keep idle.
    #[arg(long, default_value_t = 1000)]
    idle_sessions: u32,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let programs = Programs::new(&arguments)?;
    let rounds = Rounds::new(&arguments);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    say(format_args!("{cores} cores; load before: {}", load.trim()))?;
    let mut found = Verdict::default();
    if arguments.wants(Part::Calls) {
        found += cells::calls(&arguments, &programs, &rounds).await?;
    }
    if arguments.wants(Part::Stdio) {
        found += cells::stdio(&arguments, &programs, &rounds).await?;
    }
    if arguments.wants(Part::Lists) {
        found += lists::lists(&arguments, &programs, &rounds).await?;
    }
    if arguments.wants(Part::Memory) {
        footprint::memory(&arguments, &programs).await?;
    }
    if arguments.wants(Part::Start) {
        footprint::start(&arguments, &programs).await?;
    }
    if found.failures > 0 {
        return Err(format!("{} replies were wrong or missing", found.failures).into());
    }
    if let (Some(most), Some(worst)) = (arguments.at_most, found.worst)
        && worst > most
    {
        return Err(format!("a call costs at least {worst:.2} times as much as beside").into());
    }
    Ok(())
}
