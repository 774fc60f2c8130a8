//! One of 50 upstreams is replaced again and again under load: what calls to the others and to it see.
//!
//! Rounds without and with replacements take turns, so that both see the same machine. Every reply is verified.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::{io, sync::Arc, thread, time::Duration};

use benches::{
    load::{self, Plan, Report},
    serve::say,
};
use clap::Parser as _;
use mcp_aggregate::{Gateway, Running, Upstream};
use mcp_core::{
    Error, Json, Method, Request, Response, serve::Server, transport::http::HttpConfig,
};
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};
use tower::service_fn;

/// The upstream that is replaced.
const SWAPPED: &str = "up-25";

/// The time between two replacements.
const APART: Duration = Duration::from_millis(100);

/// How many connections call the others, and how many the one that is replaced.
const CONNECTIONS: (u32, u32) = (56, 8);

const ROUNDS: usize = 5;

fn upstream(id: &str) -> Upstream {
    let tool =
        |number| json!({ "name": format!("tool_{number}"), "inputSchema": { "type": "object" } });
    let mut tools: Vec<_> = (0..19).map(tool).collect();
    tools.push(json!({ "name": "echo", "inputSchema": { "type": "object" } }));
    let list = json!({ "resultType": "complete", "tools": tools });
    let discovered =
        json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } });
    Upstream::service(
        id,
        service_fn(move |request: Request| {
            let answer = match *request.method() {
                Method::TOOLS_LIST => list.clone(),
                Method::TOOLS_CALL => {
                    let text = request
                        .param("arguments")
                        .and_then(|own| own.member("text"));
                    let text = text.unwrap_or(Json::NULL);
                    let result = format!(
                        r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}]}}"#
                    );
                    return std::future::ready(Response::parse(result).map_err(Error::from));
                }
                _ => discovered.clone(),
            };
            std::future::ready(Ok::<_, Error>(Response::new(answer.into())))
        }),
    )
}

/// Puts load on one tool, from a thread of its own.
fn load(url: &str, upstream: &str, connections: u32) -> thread::JoinHandle<Report> {
    let plan = Plan::parse_from([
        "swap",
        url,
        "--era=stateless",
        &format!("--connections={connections}"),
        &format!("--tool={upstream}__echo"),
        "--seconds=2",
        "--warmup=0.3",
    ]);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let run = runtime.unwrap().block_on(load::run(&plan, |_| Ok(())));
        run.unwrap()
    })
}

async fn swap(running: Arc<Running>) {
    loop {
        sleep(APART).await;
        running.replace(upstream(SWAPPED)).await.unwrap();
    }
}

/// Runs one round. Returns the p99 of calls to the others in microseconds.
async fn round(running: &Arc<Running>, url: &str, with_swaps: bool) -> io::Result<u32> {
    let swapping = with_swaps.then(|| tokio::spawn(swap(Arc::clone(running))));
    let threads = [
        load(url, "up-3", CONNECTIONS.0),
        load(url, SWAPPED, CONNECTIONS.1),
    ];
    let reports = tokio::task::spawn_blocking(|| threads.map(|thread| thread.join().unwrap()));
    let [others, own] = reports.await.unwrap();
    if let Some(swapping) = swapping {
        swapping.abort();
    }
    for report in [&others, &own] {
        assert_eq!(
            (report.wrong, report.errors),
            (0, 0),
            "{:?}",
            report.last_error
        );
    }
    let what = if with_swaps { "with swaps" } else { "without" };
    let (all, p99, own) = (others.replies, others.p99, own.replies);
    say(format_args!(
        "{what:<11} {all} calls of the others, p99 {p99} us; {own} of the swapped one"
    ))?;
    Ok(p99)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> io::Result<()> {
    let ids = (0..50).map(|number| format!("up-{number}"));
    let gateway = ids.fold(Gateway::builder("gw"), |gateway, id| {
        gateway.upstream(upstream(&id))
    });
    let running = Arc::new(gateway.build().unwrap().start());
    assert!(running.settled(Duration::from_secs(30)).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let transport = running.http(HttpConfig::default());
    tokio::spawn(Server::new(listener).serve(transport, std::future::pending()));
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let without = round(&running, &url, false).await?;
        let with = round(&running, &url, true).await?;
        ratios.push(f64::from(with) / f64::from(without));
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    say(format_args!(
        "p99 of the others, with swaps over without: {median:.2} {ratios:.2?}"
    ))
}
