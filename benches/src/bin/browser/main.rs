//! Measures the browser tools beside `@playwright/mcp` and Playwright in a Node process.
//!
//! ```sh
//! cargo build --release -p benches --features browser --bin browser
//! target/release/browser compare --anchor node_modules/@playwright/mcp/cli.js
//! target/release/browser soak --sessions 1000
//! ```
//!
//! Both servers are driven over stdio by the same client; the page is the same static one. Read the ratios: on a
//! machine that others share, the times say little by themselves.

mod client;
mod memory;

use std::{collections::BTreeMap, error::Error, path::PathBuf, time::Duration};

use axum::{Router, response::Html, routing::get};
use benches::{serve::say, stats::Spread};
use clap::{Parser, Subcommand};
use mcp_browser::{
    BrowserConfig, BrowserService, BrowserTools, Discover, DriverConfig, OriginPolicy,
    SessionOptions,
};
use mcp_core::{
    Principal,
    rmcp3::{RmcpServer, serve},
};
use rmcp::{ServiceExt as _, transport::stdio};
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

use self::{
    client::Client,
    memory::{pss, tree},
};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
struct Arguments {
    /// Folder of the npm package playwright-core.
    #[arg(
        long,
        global = true,
        default_value = ".cache/playwright/node_modules/playwright-core"
    )]
    playwright: PathBuf,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Serves the browser tools on stdio, for the comparison.
    Serve {
        /// The origin that may be reached.
        origin: String,
        /// How many contexts are kept ready.
        #[arg(long, default_value_t = 1)]
        warm: usize,
    },
    /// Measures the three side by side.
    Compare {
        /// cli.js of @playwright/mcp; without it only Node's Playwright is compared with.
        #[arg(long)]
        anchor: Option<PathBuf>,
        /// How often each step is measured.
        #[arg(long, default_value_t = 15)]
        repeats: usize,
    },
    /// Opens and closes sessions and looks whether anything grows.
    Soak {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        sessions: usize,
    },
}

const PAGE: &str = "<!doctype html><title>Simple</title><h1>Hello</h1><p>A page.</p>
    <button onclick=\"this.dataset.n = 1 + +(this.dataset.n || 0)\">Press</button><a href=\"#a\">Link</a>";

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let driver = Discover::new()
        .programs_in(&path)
        .package_at(std::path::absolute(&arguments.playwright)?)
        .find()?;
    match arguments.part {
        Part::Serve { origin, warm } => serve_stdio(driver, &origin, warm).await,
        Part::Compare { anchor, repeats } => compare(&arguments.playwright, anchor, repeats).await,
        Part::Soak { sessions } => soak(driver, sessions).await,
    }
}

fn config(driver: DriverConfig, origin: &str) -> Outcome<BrowserConfig> {
    let policy = OriginPolicy::only([origin])?.allow_private([origin])?;
    Ok(BrowserConfig::new(driver)
        .with_policy(policy)
        .with_warm_contexts(1)
        .with_max_sessions(64, 64))
}

async fn serve_stdio(driver: DriverConfig, origin: &str, warm: usize) -> Outcome<()> {
    let browsers = BrowserService::new(config(driver, origin)?.with_warm_contexts(warm))?;
    // Begun before the client has said anything: that is what a warm pool is for.
    let warming = browsers.clone();
    tokio::spawn(async move { warming.warm_up().await });
    let service = serve(BrowserTools::new(browsers.clone())).into_service();
    RmcpServer::new(service, Principal::local())
        .serve(stdio())
        .await?
        .waiting()
        .await?;
    browsers.shutdown().await;
    Ok(())
}

async fn site() -> Outcome<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let big: String = (0..3300)
        .map(|n| format!("<p><a href='#{n}'>Item {n}</a> <b>x</b></p>"))
        .collect();
    let app = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/big", get(move || async move { Html(big) }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(origin)
}

fn text(answer: &Value) -> &str {
    answer["content"][0]["text"].as_str().unwrap_or_default()
}

fn reference(snapshot: &str) -> Outcome<String> {
    let line = snapshot
        .lines()
        .find(|line| line.contains("button \"Press\""))
        .ok_or("no button")?;
    Ok(line
        .split("[ref=")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
        .ok_or("no reference")?
        .to_owned())
}

type Times = BTreeMap<&'static str, Vec<f64>>;

fn note(times: &mut Times, step: &'static str, since: Instant) {
    times
        .entry(step)
        .or_default()
        .push(since.elapsed().as_secs_f64() * 1e3);
}

fn ours(origin: &str) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", origin]);
    Ok(command)
}

/// Our server, and a session on the page.
struct Ours {
    client: Client,
    id: Value,
    url: String,
    repeats: usize,
}

impl Ours {
    async fn start(origin: &str, repeats: usize, times: &mut Times) -> Outcome<Self> {
        let started = Instant::now();
        let client = Client::start(ours(origin)?).await?;
        let mut own = Self {
            client,
            id: Value::Null,
            url: format!("{origin}/"),
            repeats,
        };
        own.id = own.open().await?;
        own.navigate().await?;
        note(times, "cold start to first snapshot", started);
        // What the next session needs is made meanwhile, as it would be between two callers.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Ok(own)
    }

    async fn open(&mut self) -> Outcome<Value> {
        let made = self
            .client
            .call("browser_create_session", json!({}))
            .await?;
        Ok(made["structuredContent"]["session_id"].clone())
    }

    async fn navigate(&mut self) -> Outcome<Value> {
        let there = json!({ "session_id": self.id, "url": self.url });
        self.client.call("browser_navigate", there).await
    }

    async fn navigations(&mut self, times: &mut Times) -> Outcome<()> {
        for _ in 0..self.repeats {
            let begun = Instant::now();
            self.navigate().await?;
            note(times, "navigate with snapshot", begun);
        }
        Ok(())
    }

    async fn clicks(&mut self, times: &mut Times) -> Outcome<()> {
        for _ in 0..self.repeats {
            let only = json!({ "session_id": self.id });
            let page = self.client.call("browser_snapshot", only).await?;
            let mut click = json!({ "session_id": self.id, "action": "click",
                "selector": reference(text(&page))?, "snapshot": "none" });
            let begun = Instant::now();
            self.client.call("browser_interact", click.clone()).await?;
            note(times, "click", begun);
            click["snapshot"] = "changes".into();
            let begun = Instant::now();
            self.client.call("browser_interact", click).await?;
            note(times, "click with snapshot", begun);
        }
        Ok(())
    }

    async fn sessions(&mut self, times: &mut Times) -> Outcome<()> {
        for _ in 0..self.repeats {
            let begun = Instant::now();
            let other = self.open().await?;
            let there = json!({ "session_id": other, "url": self.url });
            self.client.call("browser_navigate", there).await?;
            note(times, "new session", begun);
            let only = json!({ "session_id": other });
            self.client.call("browser_close_session", only).await?;
            tokio::time::sleep(Duration::from_millis(800)).await;
        }
        Ok(())
    }

    async fn unchanged(&mut self) -> Outcome<()> {
        let there = json!({ "session_id": self.id, "url": format!("{}big", self.url) });
        self.client.call("browser_navigate", there).await?;
        let again = json!({ "session_id": self.id, "changes": true });
        let same = self.client.call("browser_snapshot", again).await?;
        let bytes = text(&same).len();
        say(format!("unchanged snapshot of 10,000 nodes: {bytes} bytes"))?;
        Ok(())
    }
}

async fn measure_ours(origin: &str, repeats: usize, times: &mut Times) -> Outcome<()> {
    let mut own = Ours::start(origin, repeats, times).await?;
    own.navigations(times).await?;
    own.clicks(times).await?;
    own.sessions(times).await?;
    own.unchanged().await?;
    own.client.stop().await
}

/// What one and eight sessions take, with nothing kept ready.
async fn weigh_ours(origin: &str, memory: &mut Vec<(usize, u64, u64)>) -> Outcome<()> {
    let mut command = ours(origin)?;
    command.args(["--warm", "0"]);
    let mut client = Client::start(command).await?;
    for sessions in 1..=8 {
        let made = client.call("browser_create_session", json!({})).await?;
        let id = made["structuredContent"]["session_id"].clone();
        let url = format!("{origin}/");
        client
            .call("browser_navigate", json!({ "session_id": id, "url": url }))
            .await?;
        if matches!(sessions, 1 | 8) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let pid = client.child.id();
            memory.push((sessions, pss(pid)?, tree(pid)?));
        }
    }
    client.stop().await
}

async fn measure_anchor(
    cli: &PathBuf,
    origin: &str,
    settle: Option<&str>,
    repeats: usize,
    times: &mut Times,
    memory: &mut Vec<(usize, u64, u64)>,
) -> Outcome<()> {
    let command = || {
        let mut command = Command::new("node");
        command.arg(cli).args([
            "--headless",
            "--isolated",
            "--no-sandbox",
            "--browser",
            "chrome",
            "--executable-path",
            "/usr/bin/chromium",
        ]);
        if let Some(settle) = settle {
            command.args(["--timeout-settle", settle]);
        }
        command
    };
    let url = format!("{origin}/");
    let started = Instant::now();
    let mut client = Client::start(command()).await?;
    client
        .call("browser_navigate", json!({ "url": url }))
        .await?;
    client.call("browser_snapshot", json!({})).await?;
    note(times, "cold start to first snapshot", started);
    for _ in 0..repeats {
        let begun = Instant::now();
        client
            .call("browser_navigate", json!({ "url": url }))
            .await?;
        note(times, "navigate with snapshot", begun);
    }
    for _ in 0..repeats {
        let page = client.call("browser_snapshot", json!({})).await?;
        let arguments = json!({ "element": "Press", "target": reference(&page.to_string().replace("\\\"", "\"").replace("\\n", "\n"))? });
        let begun = Instant::now();
        client.call("browser_click", arguments).await?;
        note(times, "click", begun);
    }
    memory.push((1, 0, tree(client.child.id())?));
    for _ in 0..repeats.min(8) {
        let begun = Instant::now();
        client.call("browser_close", json!({})).await?;
        client
            .call("browser_navigate", json!({ "url": url }))
            .await?;
        note(times, "new session", begun);
    }
    client.stop().await
}

/// What Playwright itself takes, in a Node process.
const FLOOR: &str = r"const [core, url, repeats] = process.argv.slice(1);
const { chromium } = require(core);
(async () => {
  const times = {}; const note = (step, since) => (times[step] ??= []).push(performance.now() - since);
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium' });
  const open = async () => { const context = await browser.newContext(); return [context, await context.newPage()]; };
  const snapshot = page => page.ariaSnapshot ? page.ariaSnapshot({ mode: 'ai' }) : page.locator('body').ariaSnapshot();
  const [, page] = await open(); await page.goto(url); await snapshot(page);
  for (let i = 0; i < +repeats; i++) {
    let begun = performance.now(); await page.goto(url, { waitUntil: 'domcontentloaded' }); await snapshot(page); note('navigate with snapshot', begun);
  }
  for (let i = 0; i < +repeats; i++) { const begun = performance.now(); await page.click('button'); note('click', begun);
    const again = performance.now(); await page.click('button'); await snapshot(page); note('click with snapshot', again); }
  for (let i = 0; i < +repeats; i++) { const begun = performance.now(); const [context, other] = await open(); await other.goto(url); await snapshot(other); note('new session', begun); await context.close(); }
  await browser.close(); console.log(JSON.stringify(times));
})();";

async fn measure_floor(playwright: &PathBuf, origin: &str, repeats: usize) -> Outcome<Times> {
    let output = Command::new("node")
        .args(["-e", FLOOR])
        .arg(std::path::absolute(playwright)?)
        .args([&format!("{origin}/"), &repeats.to_string()])
        .output()
        .await?;
    let times: BTreeMap<String, Vec<f64>> = serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let known = [
        "navigate with snapshot",
        "click",
        "click with snapshot",
        "new session",
    ];
    Ok(known
        .into_iter()
        .filter_map(|step| Some((step, times.get(step)?.clone())))
        .collect())
}

async fn compare(playwright: &PathBuf, anchor: Option<PathBuf>, repeats: usize) -> Outcome<()> {
    let origin = site().await?;
    let (mut ours, mut default, mut unsettled) = (Times::new(), Times::new(), Times::new());
    let mut floor = Times::new();
    let mut memory = BTreeMap::<&str, Vec<(usize, u64, u64)>>::new();
    // In turns, so that what else the machine does falls on all of them.
    for _ in 0..2 {
        measure_ours(&origin, repeats, &mut ours).await?;
        weigh_ours(&origin, memory.entry("ours").or_default()).await?;
        for (step, values) in measure_floor(playwright, &origin, repeats).await? {
            floor.entry(step).or_default().extend(values);
        }
        if let Some(cli) = &anchor {
            let kept = memory.entry("@playwright/mcp").or_default();
            measure_anchor(cli, &origin, None, repeats, &mut default, kept).await?;
            measure_anchor(
                cli,
                &origin,
                Some("0"),
                repeats,
                &mut unsettled,
                &mut Vec::new(),
            )
            .await?;
        }
    }
    say("median ms                        ours   node  ratio   anchor  ratio   anchor, no settle")?;
    for (step, values) in &ours {
        let median = |times: &Times| {
            times
                .get(step)
                .and_then(|values| Spread::of(values.iter().copied()))
                .map(|spread| spread.median)
        };
        let own = Spread::of(values.iter().copied()).map_or(0.0, |spread| spread.median);
        let other = |median: Option<f64>| {
            median.map_or_else(
                || "     -      -".to_owned(),
                |median| format!("{median:6.0} {:6.2}", own / median),
            )
        };
        let (node, anchor, quick) = (
            other(median(&floor)),
            other(median(&default)),
            other(median(&unsettled)),
        );
        say(format!("{step:30} {own:6.0} {node} {anchor}   {quick}"))?;
    }
    for (who, rows) in memory {
        for (sessions, process, all) in rows {
            say(format!(
                "{who}: {sessions} sessions: process {} KiB, with all below it {} MiB (PSS)",
                process / 1024,
                all >> 20
            ))?;
        }
    }
    Ok(())
}

async fn soak(driver: DriverConfig, sessions: usize) -> Outcome<()> {
    let origin = site().await?;
    let browsers = BrowserService::new(config(driver, &origin)?)?;
    browsers.warm_up().await?;
    let local = Principal::local();
    for round in 0..=sessions {
        if round % (sessions / 10).max(1) == 0 {
            let descriptors = std::fs::read_dir("/proc/self/fd")?.count();
            let me = Some(std::process::id());
            say(format!(
                "{round:5} sessions: process {} KiB, with all below it {} MiB (PSS), {descriptors} descriptors",
                pss(me)? / 1024,
                tree(me)? >> 20
            ))?;
        }
        let session = browsers.create(&local, SessionOptions::default()).await?;
        session.navigate(&format!("{origin}/")).await?;
        session.snapshot(false, 0, 20_000).await?;
        browsers.close(&local, session.id()).await?;
    }
    browsers.shutdown().await;
    Ok(())
}
