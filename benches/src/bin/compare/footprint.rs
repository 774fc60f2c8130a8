//! Memory, and the time it takes to start.

use std::{process::Stdio, time::Duration};

use benches::{
    load::{Connection, Plan},
    process,
    serve::say,
    stats::Spread,
};
use clap::Parser as _;
use tokio::{process::Command, time::Instant};

use crate::{
    Arguments, Outcome,
    programs::{Programs, piped},
    table::range,
};

/// No start may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Starts that are measured.
const STARTS: u32 = 5;

/// Memory of the gateway when idle, and what each idle session adds, alone and with its stream.
pub(crate) async fn memory(arguments: &Arguments, programs: &Programs) -> Outcome<()> {
    let sessions = arguments.idle_sessions;
    say(format_args!(
        "\n## Memory\n\n\
         | {sessions} idle sessions | MiB without | KiB for each | of the upstream for each |\n\
         |---|---|---|---|"
    ))?;
    for (title, streams) in [
        ("alone", &[][..]),
        ("with streams", &["--idle-streams"][..]),
    ] {
        let upstream = programs.upstream(&[], 1).await?;
        let gateway = programs.gateway(&[format!("up={}", upstream.url)]).await?;
        first_list(&gateway.url, 2 + arguments.own_tools).await?;
        let idle = process::resident_kib(gateway.pid);
        let upstream_idle = process::resident_kib(upstream.pid);
        let mut command = Command::new(programs.path("loadgen"));
        command
            .arg(&gateway.url)
            .args(["--idle-sessions", &sessions.to_string()])
            .args(streams)
            .stdin(Stdio::piped());
        let (_child, mut lines) = piped(command)?;
        let ready = lines.next_line().await?;
        ready.ok_or("the load generator gave up")?;
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / f64::from(sessions);
        say(format_args!(
            "| {title} | {:.1} | {:.1} | {:.1} |",
            idle as f64 / 1024.0,
            each(process::resident_kib(gateway.pid), idle),
            each(process::resident_kib(upstream.pid), upstream_idle),
        ))?;
    }
    Ok(())
}

/// Time and processor time from the start of the gateway to its first complete list.
pub(crate) async fn start(arguments: &Arguments, programs: &Programs) -> Outcome<()> {
    let upstream = programs.upstream(&[], 1).await?;
    let mut times = Vec::new();
    let mut cpu = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let (gateway, _) = programs
            .gateway_at_once(&[format!("up={}", upstream.url)])
            .await?;
        first_list(&gateway.url, 2 + arguments.own_tools).await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        cpu.push(process::cpu(gateway.pid).as_secs_f64() * 1e3);
    }
    say(format_args!(
        "\n## Start\n\n\
         | ms to the first complete list (min-max) | CPU ms |\n|---|---|\n| {} | {} |",
        range(Spread::of(times), 1),
        range(Spread::of(cpu), 0),
    ))?;
    Ok(())
}

/// Asks until the list holds so many tools.
async fn first_list(url: &str, tools: usize) -> Outcome<()> {
    let tools = tools.to_string();
    let plan = Plan::parse_from(["loadgen", url, "--what", "list", "--tools", &tools]);
    let call = plan.call();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(mut connection) = Connection::open(&plan, 0).await
            && let Ok((id, reply)) = connection.ask(&call).await
            && call.is_answered(id, &reply)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(format!("no complete list of {tools} tools at {url}").into())
}
