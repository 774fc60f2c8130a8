//! Calls.

use crate::{
    Arguments, Outcome,
    programs::Programs,
    rounds::{Rounds, Target},
    table::{self, Verdict},
};

/// Arguments of the calls: title, tool, and what the load generator needs.
const PAYLOADS: [(&str, &str, [&str; 4]); 3] = [
    ("100 B", "echo", ["--shape", "string", "--size", "100"]),
    (
        "100 KB string",
        "echo",
        ["--shape", "string", "--size", "100000"],
    ),
    (
        "100 KB structured",
        "echo_json",
        ["--shape", "structured", "--size", "100000"],
    ),
];
const CONNECTIONS: [u32; 3] = [1, 16, 64];

/// One load.
struct Cell {
    title: String,
    tool: &'static str,
    load: Vec<String>,
}

/// Calls of both eras: sessions and event streams, and stateless requests answered with JSON.
pub(crate) async fn calls(
    arguments: &Arguments,
    programs: &Programs,
    rounds: &Rounds,
) -> Outcome<Verdict> {
    let mut found = Verdict::default();
    for (era, upstream) in [("session", &[][..]), ("stateless", &["--json"][..])] {
        let cells = cells(arguments, era, &CONNECTIONS);
        if cells.is_empty() {
            continue;
        }
        let upstream = programs.upstream(upstream, 1).await?;
        let forwarder = programs.forwarder(&upstream.url).await?;
        let up = format!("up={}", upstream.url);
        let gateways = programs.gateways(&[up]).await?;
        table::head(&format!("Calls, {era} era"))?;
        for cell in &cells {
            let tool = |prefix: &str| vec!["--tool".to_owned(), format!("{prefix}{}", cell.tool)];
            let mut targets = vec![Target {
                program: &forwarder,
                upstream: Some(&upstream),
                load: tool(""),
            }];
            targets.extend(gateways.iter().map(|gateway| Target {
                program: gateway,
                upstream: Some(&upstream),
                load: tool(&arguments.prefix),
            }));
            if arguments.direct {
                targets.insert(
                    0,
                    Target {
                        program: &upstream,
                        upstream: None,
                        load: tool(""),
                    },
                );
            }
            let rows = rounds
                .run(programs, &cell.title, &cell.load, &targets)
                .await?;
            found += table::print(&rows, "forwarder")?;
        }
    }
    Ok(found)
}

/// Calls to an upstream on stdio. The memory of the gateway includes its children.
pub(crate) async fn stdio(
    arguments: &Arguments,
    programs: &Programs,
    rounds: &Rounds,
) -> Outcome<Verdict> {
    let command = programs.path("echo-upstream");
    let upstream = format!("up={} --stdio", command.display());
    let gateways = programs.gateways(&[upstream]).await?;
    table::head("Calls to an upstream on stdio")?;
    let mut found = Verdict::default();
    for cell in cells(arguments, "session", &[1, 16]) {
        let load = vec![
            "--tool".to_owned(),
            format!("{}{}", arguments.prefix, cell.tool),
        ];
        let targets: Vec<_> = gateways
            .iter()
            .map(|gateway| Target {
                program: gateway,
                upstream: None,
                load: load.clone(),
            })
            .collect();
        let rows = rounds
            .run(programs, &cell.title, &cell.load, &targets)
            .await?;
        found += table::print(&rows, "forwarder")?;
    }
    Ok(found)
}

fn cells(arguments: &Arguments, era: &str, connections: &[u32]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (size, tool, payload) in PAYLOADS {
        for connections in connections {
            let title = format!("{era}, {size}, {connections} connections");
            if arguments
                .cell
                .as_ref()
                .is_some_and(|part| !title.contains(part))
            {
                continue;
            }
            let connections = connections.to_string();
            let mut load = vec!["--era", era, "--connections", &connections];
            load.extend(payload);
            let load = load.into_iter().map(str::to_owned).collect();
            cells.push(Cell { title, tool, load });
        }
    }
    cells
}
