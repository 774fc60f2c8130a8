//! The list of many tools of many upstreams.

use benches::load::{Plan, run};
use clap::Parser as _;
use tempfile::tempdir;

use crate::{
    Arguments, Outcome,
    programs::Programs,
    rounds::{Rounds, Target},
    table::{self, Verdict},
};

/// Lists all tools of all upstreams, beside a server that answers the same bytes.
pub(crate) async fn lists(
    arguments: &Arguments,
    programs: &Programs,
    rounds: &Rounds,
) -> Outcome<Verdict> {
    let count = arguments.upstreams;
    let more = count.saturating_sub(1).to_string();
    let each = arguments.tools_each.to_string();
    let upstream = programs
        .upstream(&["--more", &more, "--tools", &each], count)
        .await?;
    let urls = std::iter::once(&upstream.url).chain(&upstream.more);
    let upstreams: Vec<String> = urls
        .enumerate()
        .map(|(number, url)| format!("u{number:02}={url}"))
        .collect();
    let gateway = programs.gateway(&upstreams).await?;
    let tools = count as usize * arguments.tools_each + arguments.own_tools;
    let directory = tempdir()?;
    let file = directory.path().join("reply");
    save(&gateway.url, tools, &file).await?;
    let static_server = programs.static_server(&file).await?;
    let kilobytes = std::fs::metadata(&file)?.len() / 1000;
    table::head(&format!(
        "{tools} tools of {count} upstreams, {kilobytes} KB"
    ))?;
    let mut found = Verdict::default();
    for connections in ["1", "16"] {
        let load = [
            "--what",
            "list",
            "--connections",
            connections,
            "--tools",
            &tools.to_string(),
        ];
        let load: Vec<String> = load.into_iter().map(str::to_owned).collect();
        let targets = [
            Target {
                program: &static_server,
                upstream: None,
                load: Vec::new(),
            },
            Target {
                program: &gateway,
                upstream: Some(&upstream),
                load: Vec::new(),
            },
        ];
        let title = format!("tools/list, {connections} connections");
        let rows = rounds.run(programs, &title, &load, &targets).await?;
        found += table::print(&rows, "static")?;
    }
    Ok(found)
}

/// Keeps what the gateway answers, for the server beside it to answer too.
async fn save(url: &str, tools: usize, file: &std::path::Path) -> Outcome<()> {
    let tools = tools.to_string();
    let mut plan = Plan::parse_from(["loadgen", url, "--what", "list", "--tools", &tools]);
    plan.connections = 1;
    plan.seconds = 0.05;
    plan.warmup = 0.0;
    plan.save_reply = Some(file.to_owned());
    run(&plan, |_| Ok(())).await?;
    Ok(())
}
