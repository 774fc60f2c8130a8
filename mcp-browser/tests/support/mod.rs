//! A real browser, and a site for it.
#![allow(
    dead_code,
    clippy::too_many_lines,
    reason = "each test file uses a part; routes are a list"
)]

#[cfg(feature = "rmcp")]
pub(crate) mod tools;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{
        Path as Segment, Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{any, get},
};
use mcp_browser::{
    BrowserConfig, BrowserService, DriverConfig, OriginPolicy, Session, SessionOptions,
};
use mcp_core::Principal;

pub(crate) const ADVICE: &str = "run .ci/test, which installs it";

/// The driver as `.ci/test` installs it.
pub(crate) fn driver() -> DriverConfig {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let package = root.join(".cache/playwright/node_modules/playwright-core");
    let config = DriverConfig::new(program("node"), package, program("chromium"))
        .with_ffmpeg(program("ffmpeg"));
    if let Err(error) = config.check() {
        panic!("{error}: {ADVICE}");
    }
    config
}

pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: {ADVICE}"))
}

/// A site on a port of its own, which writes down who asked for what.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) origin: String,
    pub(crate) port: u16,
    pub(crate) hits: Arc<Mutex<Vec<String>>>,
    /// Lets one request for `/gate` go on.
    pub(crate) gate: Arc<tokio::sync::Notify>,
}

impl Site {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub(crate) fn hits(&self) -> Vec<String> {
        self.hits.lock().unwrap().clone()
    }

    pub(crate) fn was_asked_for(&self, path: &str) -> bool {
        self.hits().iter().any(|hit| hit == path)
    }
}

pub(crate) async fn site() -> Site {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let site = Site {
        origin: format!("http://127.0.0.1:{port}"),
        port,
        hits: Arc::default(),
        gate: Arc::default(),
    };
    let app = routes().with_state(site.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    site
}

pub(crate) fn routes() -> Router<Site> {
    Router::new()
        .route(
            "/redirect",
            get(|Query(query): Query<Vec<(String, String)>>| async move {
                Redirect::temporary(&query[0].1)
            }),
        )
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route(
            "/never",
            get(|| async { std::future::pending::<()>().await }),
        )
        .route(
            "/gate",
            get(|State(site): State<Site>| async move { site.gate.notified().await }),
        )
        .route("/huge", get(huge))
        .route(
            "/file",
            get(|| async {
                (
                    [
                        (header::CONTENT_TYPE, "application/octet-stream"),
                        (
                            header::CONTENT_DISPOSITION,
                            "attachment; filename=report.bin",
                        ),
                    ],
                    vec![7u8; 1000],
                )
            }),
        )
        .route(
            "/headers",
            get(|headers: HeaderMap| async move {
                let lines: Vec<String> = headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
                    .collect();
                lines.join("\n")
            }),
        )
        .route(
            "/cookie",
            get(|| async {
                (
                    [(header::SET_COOKIE, "sid=s3cr3t; Max-Age=3600")],
                    Html("<h1>Cookie</h1>"),
                )
            }),
        )
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                "slow answer"
            }),
        )
        .route(
            "/slower",
            get(|| async {
                tokio::time::sleep(std::time::Duration::from_millis(600)).await;
                "slower answer"
            }),
        )
        .route("/post", any(|body: String| async move { body }))
        .route(
            "/ws",
            any(|upgrade: WebSocketUpgrade| async move { upgrade.on_upgrade(echo) }),
        )
        .route(
            "/worker.js",
            get(|| async { ([(header::CONTENT_TYPE, "text/javascript")], WORKER) }),
        )
        // Beacons, pings and forms are posted.
        .route("/{*page}", any(page))
}

async fn page(State(site): State<Site>, Segment(page): Segment<String>) -> Response {
    site.hits.lock().unwrap().push(format!("/{page}"));
    match page_text(&page) {
        Some(text) => Html(text).into_response(),
        None => (StatusCode::NOT_FOUND, "no such page").into_response(),
    }
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message
            && socket
                .send(Message::Text(format!("echo {text}").into()))
                .await
                .is_err()
        {
            return;
        }
    }
}

/// Without an end.
async fn huge() -> Response {
    let chunk = bytes::Bytes::from("<p>more and more</p>\n".repeat(5000));
    let stream =
        futures_util::stream::repeat_with(move || Ok::<_, std::convert::Infallible>(chunk.clone()));
    (
        [(header::CONTENT_TYPE, "text/html")],
        axum::body::Body::from_stream(stream),
    )
        .into_response()
}

const WORKER: &str = "self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', event => event.waitUntil(clients.claim()));
self.addEventListener('message', async event => {
  try { await fetch(event.data, { mode: 'no-cors' }); event.source.postMessage('reached'); }
  catch (error) { event.source.postMessage('failed'); }
});";

fn page_text(page: &str) -> Option<String> {
    let body = match page {
        "form" => FORM,
        "shadow" => "<h1>Shadow</h1><div id=host></div><script>
            const root = document.getElementById('host').attachShadow({ mode: 'open' });
            root.innerHTML = '<label>Inside <input id=deep></label><button>Press me</button><p id=out></p>';
            root.querySelector('button').onclick = () => root.querySelector('#out').textContent = 'Pressed ' + root.querySelector('#deep').value;
            </script>",
        "frames" => "<h1>Frames</h1><iframe src=/inner title=inner></iframe>",
        "inner" => "<button onclick=\"this.textContent='Done in frame'\">Frame button</button>",
        "dialogs" => "<h1>Dialogs</h1><button onclick=\"document.title = prompt('Your name?', 'Ada')\">Ask</button>
            <button onclick=\"document.title = confirm('Sure?')\">Confirm</button>
            <button onclick=\"for (let i = 0; i < 200; i++) alert(i); document.title = 'calm'\">Storm</button>",
        "spin" => "<h1>Spin</h1><script>fetch('/gate').then(() => {
            const told = new XMLHttpRequest(); told.open('GET', '/spins', false); told.send(); for (;;) {} })</script>",
        "spinning" => "<h1>Spinning</h1><script>for (;;) {}</script>",
        "popups" => "<h1>Popups</h1><button onclick=\"for (let i = 0; i < 30; i++) window.open('/inner?' + i)\">Flood</button>
            <a href=/inner target=_blank>One</a>",
        "article" => "<h1>Tea &amp; coffee</h1><p>Read <a href=/form>the form</a>.</p><p style='display:none'>unseen</p>
            <table><tr><th>Item</th><th>Price</th></tr><tr><td>Tea</td><td>3</td></tr></table><script>var x = 'script text'</script>",
        "big" => "<h1>Big</h1><div id=list></div><script>
            document.getElementById('list').innerHTML = Array.from({ length: 3300 }, (_, n) => `<p><a href='#${n}'>Item ${n}</a> <b>x</b></p>`).join('');
            </script>",
        "busy" => "<h1>Busy</h1><button onclick=\"fetch('/slow').then(r => r.text()).then(t => document.getElementById('out').textContent = t)\">Load</button><p id=out></p>",
        "colours" => "<style>body { margin: 0 } div { width: 100px; height: 100px }</style>
            <div style='background: rgb(255, 0, 0)'></div><div id=green style='background: rgb(0, 128, 0)'></div><div style='height: 2000px'></div>",
        "console" => "<h1>Console</h1><script>console.log('hello from the page'); console.error('bad thing'); setTimeout(() => { throw new Error('thrown') })</script>",
        "drag" => "<style>#a, #b { width: 80px; height: 80px; border: 1px solid; }</style><div id=a draggable=true>drag me</div><div id=b>target</div>
            <script>b.ondragover = e => e.preventDefault(); b.ondrop = e => { e.preventDefault(); b.textContent = 'dropped' }</script>",
        "storage" => "<h1>Storage</h1><script>document.title = localStorage.getItem('kept') || 'nothing'; localStorage.setItem('kept', 'kept value')</script>",
        "rtc" => "<h1>RTC</h1>",
        "worker" => "<h1>Worker</h1>",
        "upload" => UPLOAD,
        "edit" => "<h1>Edit</h1><div contenteditable=true id=editor><p>First</p><p id=last>Last</p></div><p id=plain>plain</p>
            <input id=fixed readonly value=fixed><label>Long <textarea id=long></textarea></label>
            <label>Word <input id=word type=password><button onclick=\"word.type='text'\">Show</button></label>",
        "covered" => "<h1>Covered</h1><button id=under onclick=\"document.title = 'clicked'\">Under</button>
            <div id=banner style='position: fixed; inset: 0; background: #fff8'></div>",
        "leave" => "<h1>Leave</h1><input id=text><script>onbeforeunload = e => { e.preventDefault(); return 'x' }</script><a href=/article>Away</a>",
        "polls" => "<h1>Polls</h1><button onclick=\"fetch('/slower').then(r => r.text()).then(t => document.getElementById('out').textContent = t)\">Load</button><p id=out></p>
            <script>setInterval(() => fetch('/slow?t=' + Date.now()), 100)</script>",
        "srcdoc" => "<h1>Outer</h1><iframe srcdoc='<p id=p>Inner words</p><button onclick=\"p.remove()\">Remove</button>'></iframe>",
        "freezes" => "<h1>Freezes</h1><script>addEventListener('DOMContentLoaded', () => setTimeout(() => { const end = Date.now() + 6000; while (Date.now() < end); }, 30))</script>",
        "tables" => TABLES,
        "clicks" => "<h1>Clicks</h1><button id=b>Here</button><p id=out></p><select id=many multiple><option>red</option><option>green</option><option>blue</option></select>
            <script>for (const name of ['click', 'dblclick', 'auxclick']) b.addEventListener(name, e => { out.textContent += [e.type, e.button, e.shiftKey, e.ctrlKey].join() + ';' });
            onkeydown = e => { document.title = 'key ' + e.key }</script>",
        "canvas" => "<style>body { margin: 0 }</style><canvas id=c width=300 height=200 style='background: #eee'></canvas><p id=out></p>
            <div id=list style='height: 100px; width: 200px; overflow: auto'><div style='height: 1000px'>long</div></div>
            <script>const say = e => { out.textContent += e.type + ' ' + e.offsetX + ',' + e.offsetY + ';' };
            for (const name of ['mousedown', 'mouseup']) c.addEventListener(name, say);
            list.onscroll = () => { document.title = 'scrolled ' + (list.scrollTop > 0) }</script>",
        "media" => "<h1>Media</h1>",
        "requests" => "<h1>Requests</h1><script>fetch('/post', { method: 'POST', body: 'sent body', headers: { 'x-mine': 'yes' } }); fetch('/nowhere');
            console.debug('a detail'); console.warn('a warning'); console.error('an error')</script>",
        "inner2" => "<p>other</p>",
        _ => return None,
    };
    Some(format!(
        "<!doctype html><meta charset=utf-8><title>{page}</title>{body}"
    ))
}

const UPLOAD: &str = "<h1>Upload</h1><p id=out></p>
    <input type=file id=field style='display: none' onchange='show(this)'><button onclick=field.click()>Attach</button>
    <input type=file id=many multiple hidden onchange='show(this)'><button onclick='setTimeout(() => many.click(), 50)'>Attach many</button>
    <label>Picture <input type=file id=labelled hidden onchange='show(this)'></label>
    <div id=box>Box<input type=file hidden onchange='show(this)'></div>
    <div id=area style='width: 90px; height: 40px' ondragover='event.preventDefault()' ondrop='event.preventDefault(); show(event.dataTransfer)'>Drop here</div>
    <button id=nothing>Nothing</button>
    <script>function show(from) { out.textContent = 'got ' + Array.from(from.files, f => f.name + ':' + f.size).join() }</script>";

const TABLES: &str = "<h1>Tables</h1><table id=t><tr><th colspan=2>Name</th><th>Price</th></tr><tr><td rowspan=2>Tea</td><td>green</td><td>3</td></tr>
    <tr><td>black</td><td>4</td></tr><tr style='display: none'><td>x</td><td>x</td><td>x</td></tr></table>
    <div role=grid id=g><div role=row aria-rowindex=2><div role=gridcell aria-colindex=2>b2</div><div role=gridcell aria-colindex=1>a2</div></div>
    <div role=row aria-rowindex=1><div role=columnheader aria-colindex=1>A</div><div role=columnheader aria-colindex=2>B</div></div></div>";

const FORM: &str = "<h1>Log in</h1><form onsubmit=\"event.preventDefault(); document.getElementById('out').textContent =
    'Hello ' + name_.value + ', ' + colour.value + ', ' + agree.checked + ', ' + password.value.length + ', ' + (file.files[0] ? file.files[0].name : 'no file')\">
  <label>Name <input id=name_ name=name></label>
  <label>Password <input id=password type=password></label>
  <label>Colour <select id=colour><option value=r>red</option><option value=g>green</option></select></label>
  <label><input id=agree type=checkbox> I agree</label>
  <label>File <input id=file type=file></label>
  <button>Send</button>
</form><p id=out></p><button class=twin>Twin</button><button class=twin>Twin</button><button disabled id=off>Off</button>
<div id=hover onmouseover=\"this.textContent='hovered'\" ondblclick=\"this.textContent='double'\">hover me</div>";

pub(crate) fn config(sites: &[&Site]) -> BrowserConfig {
    let origins: Vec<&str> = sites.iter().map(|site| site.origin.as_str()).collect();
    let policy = OriginPolicy::only(origins.iter().copied())
        .unwrap()
        .allow_private(origins.iter().copied())
        .unwrap();
    BrowserConfig::new(driver()).with_policy(policy)
}

pub(crate) fn service(config: BrowserConfig) -> BrowserService {
    BrowserService::new(config).unwrap_or_else(|error| panic!("{error}: {ADVICE}"))
}

pub(crate) async fn session(service: &BrowserService) -> Session {
    let made = service
        .create(&Principal::local(), SessionOptions::default())
        .await;
    made.unwrap_or_else(|error| {
        panic!(
            "{error}: {:?}",
            std::error::Error::source(&error).map(ToString::to_string)
        )
    })
}

pub(crate) async fn text(session: &Session) -> String {
    session
        .extract(None, mcp_browser::Extract::Text, 0, 100_000)
        .await
        .unwrap()
        .0
}

/// The reference of the line that holds a text.
pub(crate) fn reference(snapshot: &str, part: &str) -> String {
    let line = snapshot
        .lines()
        .find(|line| line.contains(part))
        .unwrap_or_else(|| panic!("{part} is not in {snapshot}"));
    line.split("[ref=")
        .nth(1)
        .unwrap()
        .split(']')
        .next()
        .unwrap()
        .to_owned()
}

/// Kills the processes of a browser that draw pages.
#[cfg(target_os = "linux")]
pub(crate) fn kill_renderers(browser: u32) {
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let pid = entry.file_name().to_string_lossy().into_owned();
        if line.contains("--type=renderer") && descends(&stat, browser) {
            let status = std::process::Command::new("kill")
                .args(["-9", &pid])
                .status();
            killed += usize::from(status.unwrap().success());
        }
    }
    assert!(killed > 0, "no renderer of {browser}");
}

/// Whether the process of this line of `/proc` is below another.
#[cfg(target_os = "linux")]
fn descends(stat: &str, from: u32) -> bool {
    let parent = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
    match parent {
        None | Some(0 | 1) => false,
        Some(parent) if parent == from => true,
        Some(parent) => {
            let above = std::fs::read_to_string(format!("/proc/{parent}/stat"));
            descends(&above.unwrap_or_default(), from)
        }
    }
}
