//! No way around the origin policy, on a real browser: every kind of request to an origin that is not allowed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking and tell stories"
)]

mod support;

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_browser::{
    Action, BrowserErrorKind as K, ConsoleLevel, Downloads, Notice, OriginPolicy, Screenshot,
    Secrets, Session, SessionOptions,
};
use mcp_core::{
    AuditOutcome, MemoryAudit, Principal,
    http_client::Resolve,
    secret::{MemorySecretStore, Secret, SecretName, SecretScope, SecretStore},
    store::Namespace,
};
use serde_json::Value;
use support::{Site, config, service, session, site, text};

async fn run(session: &Session, script: &str) -> Value {
    session
        .evaluate(script)
        .await
        .unwrap_or_else(|error| panic!("{error}: {script}"))
}

/// Everything that a page can do to reach another origin: the path that tells that it did, and how.
fn attempts(evil: &str) -> Vec<(&'static str, String)> {
    let socket = evil.replace("http", "ws");
    vec![
        ("/fetch", format!("fetch('{evil}/fetch', {{ mode: 'no-cors' }}).then(() => 'reached', () => 'failed')")),
        (
            "/fetch-redirect",
            format!(
                "fetch('/redirect?to={evil}/fetch-redirect', {{ mode: 'no-cors' }}).then(r => r.type === 'opaque' && r.status === 0 ? 'sent' : 'reached', () => 'failed')"
            ),
        ),
        ("/image", format!("new Promise(done => {{ const i = new Image(); i.onload = () => done('reached'); i.onerror = () => done('failed'); i.src = '{evil}/image' }})")),
        ("/script", format!("new Promise(done => {{ const s = document.createElement('script'); s.onload = () => done('reached'); s.onerror = () => done('failed'); s.src = '{evil}/script'; document.head.append(s) }})")),
        ("/frame", format!("new Promise(done => {{ const f = document.createElement('iframe'); f.onload = () => done('loaded'); f.src = '{evil}/frame'; document.body.append(f) }})")),
        ("/beacon", format!("navigator.sendBeacon('{evil}/beacon', 'x')")),
        ("/websocket", format!("new Promise(done => {{ const w = new WebSocket('{socket}/websocket'); w.onopen = () => done('reached'); w.onerror = () => done('failed') }})")),
        ("/events", format!("new Promise(done => {{ const e = new EventSource('{evil}/events'); e.onopen = () => done('reached'); e.onerror = () => done('failed') }})")),
        ("/style", format!("new Promise(done => {{ const l = document.createElement('link'); l.rel = 'stylesheet'; l.onload = () => done('reached'); l.onerror = () => done('failed'); l.href = '{evil}/style'; document.head.append(l) }})")),
        ("/prefetch", format!("new Promise(done => {{ const l = document.createElement('link'); l.rel = 'prefetch'; l.href = '{evil}/prefetch'; document.head.append(l); setTimeout(() => done('x'), 100) }})")),
        ("/video", format!("new Promise(done => {{ const v = document.createElement('video'); v.onerror = () => done('failed'); v.onloadeddata = () => done('reached'); v.src = '{evil}/video' }})")),
        ("/from-worker", format!("new Worker(URL.createObjectURL(new Blob([`fetch('{evil}/from-worker', {{ mode: 'no-cors' }})`]))) && 'started'")),
        ("/from-shared-worker", format!("new SharedWorker(URL.createObjectURL(new Blob([`fetch('{evil}/from-shared-worker', {{ mode: 'no-cors' }})`]))) && 'started'")),
        ("/popup", format!("window.open('{evil}/popup') !== undefined")),
        ("/download", format!("(() => {{ const a = document.createElement('a'); a.href = '{evil}/download'; a.download = 'x'; document.body.append(a); a.click() }})()")),
        ("/ping", format!("(() => {{ const a = document.createElement('a'); a.href = '/inner'; a.ping = '{evil}/ping'; a.target = '_blank'; document.body.append(a); a.click() }})()")),
        ("/form", format!("(() => {{ const f = document.createElement('form'); f.action = '{evil}/form'; f.method = 'post'; f.target = '_blank'; document.body.append(f); f.submit() }})()")),
        (
            // A service worker that fetches on its own.
            "/from-service-worker",
            format!(
                "navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(r => new Promise(done => {{
                    navigator.serviceWorker.onmessage = e => done(e.data); r.active.postMessage('{evil}/from-service-worker') }}))"
            ),
        ),
        // The page moves itself there.
        ("/location", format!("location.href = '{evil}/location'")),
    ]
}

/// Tries everything, and returns what the scripts answered. Each attempt has its page until `ended` says that it came to
/// its end, at most half a minute: going on before would end it with its page, and prove nothing.
async fn try_all(
    session: &Session,
    good: &Site,
    bad: &Site,
    ended: impl Fn(&str) -> bool,
) -> Vec<(&'static str, Value)> {
    let mut answers = Vec::new();
    for (path, attempt) in attempts(&bad.origin) {
        // Tabs that were opened before do not count against this one.
        for tab in session.tabs().into_iter().skip(1) {
            let _ = session.close_tab(tab.number).await;
        }
        session.navigate(&good.url("/article")).await.unwrap();
        // A page that goes away while it is asked did not get an answer either.
        let answer = session.evaluate(&attempt).await.unwrap_or_default();
        answers.push((path, answer));
        for _ in 0..600 {
            if ended(path) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_reaches_an_origin_that_is_not_allowed() {
    let (good, bad) = (site().await, site().await);
    let service = service(
        config(&[&good])
            .allow_evaluate()
            .with_settle_timeout(Duration::from_millis(500)),
    );
    let session = session(&service).await;
    // A page itself, and one that redirects there.
    let error = session.navigate(&bad.url("/direct")).await.unwrap_err();
    assert_eq!(error.kind(), K::Denied, "{error}");
    for (index, kind) in ["/redirect?to=", "/redirect?to=/redirect?to="]
        .into_iter()
        .enumerate()
    {
        let url = good.url(&format!("{kind}{}/redirected{index}", bad.origin));
        let error = session.navigate(&url).await.unwrap_err();
        assert_eq!(error.kind(), K::Denied, "{error}");
        assert!(error.to_string().contains(&bad.port.to_string()), "{error}");
    }
    // Every attempt gets as far as the session's proxy, which refuses it.
    let refused = Mutex::new(Vec::new());
    let ended = |path: &str| {
        let notices = session.take_notices();
        let is_refused = notices.iter().any(|notice| match notice {
            Notice::Refused(why) => why.contains(&bad.port.to_string()),
            _ => false,
        });
        if is_refused {
            refused.lock().unwrap().push(path.to_owned());
        }
        is_refused
    };
    let answers = try_all(&session, &good, &bad, ended).await;
    let paths: Vec<&str> = answers.iter().map(|(path, _)| *path).collect();
    assert_eq!(*refused.lock().unwrap(), paths, "tried and refused");
    for (path, answer) in answers {
        assert_ne!(answer, "reached", "{path}");
        if path == "/from-service-worker" {
            assert_eq!(answer, "failed", "it ran, and did not get there");
        }
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(bad.hits(), Vec::<String>::new(), "nothing arrived");
    assert!(good.was_asked_for("/article"));
    service.shutdown().await;
}

/// The control of the test above: where the other origin is allowed every one of the attempts arrives.
#[tokio::test(flavor = "multi_thread")]
async fn everything_reaches_an_origin_that_is_allowed() {
    let (good, bad) = (site().await, site().await);
    let service = service(
        config(&[&good, &bad])
            .allow_evaluate()
            .with_settle_timeout(Duration::from_millis(500)),
    );
    let session = session(&service).await;
    try_all(&session, &good, &bad, |path| bad.was_asked_for(path)).await;
    let paths = attempts("http://x").into_iter().map(|(path, _)| path);
    let missing: Vec<&str> = paths.filter(|path| !bad.was_asked_for(path)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "did not arrive");
    service.shutdown().await;
}

/// A page that asks a STUN server for its address, over UDP.
const RTC: &str = "new Promise(async done => { const c = new RTCPeerConnection({ iceServers: [{ urls: 'stun:127.0.0.1:PORT' }] });
    c.createDataChannel('x'); await c.setLocalDescription(await c.createOffer()); setTimeout(() => done('gathered'), 2000) })";

#[tokio::test(flavor = "multi_thread")]
async fn webrtc_finds_no_way_out_and_would_without_the_fence() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let script = RTC.replace("PORT", &port);
    let packet = async |wait: u64| {
        let mut buffer = [0; 64];
        tokio::time::timeout(Duration::from_secs(wait), socket.recv(&mut buffer)).await
    };
    // The control: the same page in a browser without our arguments.
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("rtc.html");
    std::fs::write(&page, format!("<!doctype html><script>{script}</script>")).unwrap();
    let mut plain = tokio::process::Command::new(support::program("chromium"))
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("file://{}", page.display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let sent = packet(60).await;
    plain.start_kill().unwrap();
    plain.wait().await.unwrap();
    assert!(sent.is_ok(), "the control sends a packet");
    // What it had sent before it ended.
    while packet(2).await.is_ok() {}
    let site = site().await;
    let service = service(
        config(&[&site])
            .allow_evaluate()
            .with_timeouts(Duration::from_secs(10), Duration::from_secs(30)),
    );
    let session = session(&service).await;
    session.navigate(&site.url("/rtc")).await.unwrap();
    assert_eq!(run(&session, &script).await, "gathered");
    assert!(packet(1).await.is_err(), "a packet went around the proxy");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_and_workers_work_where_they_may() {
    let site = site().await;
    let service = service(config(&[&site]).allow_evaluate());
    let session = session(&service).await;
    session.navigate(&site.url("/article")).await.unwrap();
    let socket = format!(
        "new Promise(done => {{ const w = new WebSocket('ws://127.0.0.1:{}/ws'); w.onopen = () => w.send('hi'); w.onmessage = e => done(e.data); w.onerror = () => done('failed') }})",
        site.port
    );
    assert_eq!(run(&session, &socket).await, "echo hi");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_no_pages_are_refused() {
    let site = site().await;
    let service = service(config(&[&site]));
    let session = session(&service).await;
    let refused = [
        "file:///etc/passwd",
        "chrome://version",
        "chrome://settings",
        "view-source:http://a.example/",
        "data:text/html,<h1>x",
        "javascript:alert(1)",
        "blob:http://a.example/x",
        "about:config",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://2130706433/",
        "http://0.0.0.0/",
        "http://localhost/",
        "http://metadata.google.internal/",
    ];
    for url in refused {
        let error = session.navigate(url).await.unwrap_err();
        assert_eq!(error.kind(), K::Denied, "{url}: {error}");
    }
    session.navigate(&site.url("/form")).await.unwrap();
    assert!(
        text(&session).await.contains("Log in"),
        "the session is well"
    );
    service.shutdown().await;
}

/// Answers what it is told to, another answer each time.
#[derive(Debug, Default)]
struct Rebinding {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<u32>,
}

#[async_trait::async_trait]
impl Resolve for Rebinding {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        *self.asked.lock().unwrap() += 1;
        let mut all = self.answers.lock().unwrap();
        let answers = all.get_mut(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_inside_are_refused_whenever_they_do() {
    let inside = site().await;
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    let public: IpAddr = "192.0.32.8".parse().unwrap();
    let resolver = Arc::new(Rebinding::default());
    {
        let mut answers = resolver.answers.lock().unwrap();
        answers.insert("rebind.example".into(), vec![vec![local]]);
        answers.insert("mixed.example".into(), vec![vec![public, local]]);
        answers.insert("known.example".into(), vec![vec![local]]);
    }
    let known = format!("http://known.example:{}", inside.port);
    let policy = OriginPolicy::public()
        .allow_private([known.as_str()])
        .unwrap();
    let config = config(&[])
        .with_policy(policy)
        .with_resolver(resolver.clone());
    let service = service(config);
    let session = session(&service).await;
    for host in ["rebind.example", "mixed.example"] {
        for scheme in ["http", "https"] {
            let error = session
                .navigate(&format!("{scheme}://{host}:{}/inside", inside.port))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), K::Denied, "{scheme} {host}: {error}");
        }
    }
    assert!(!inside.was_asked_for("/inside"));
    session.navigate(&format!("{known}/form")).await.unwrap();
    assert!(
        text(&session).await.contains("Log in"),
        "what the operator allowed by name is reached"
    );
    assert!(*resolver.asked.lock().unwrap() >= 4);
    let error = session
        .navigate("http://unknown.example/")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::Navigation, "{error}");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_the_same_rules() {
    let (address, port) = tls_site().await;
    let allowed = format!("https://127.0.0.1:{port}");
    let policy = OriginPolicy::only([allowed.as_str()])
        .unwrap()
        .allow_private([allowed.as_str()])
        .unwrap();
    let service = service(config(&[]).with_policy(policy).insecure_ignore_tls_errors());
    let session = session(&service).await;
    session
        .navigate(&format!("https://{address}/"))
        .await
        .unwrap();
    assert!(text(&session).await.contains("over TLS"));
    let other = tls_site().await.1;
    let error = session
        .navigate(&format!("https://127.0.0.1:{other}/"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::Denied, "{error}");
    service.shutdown().await;
}

async fn tls_site() -> (String, u16) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let private =
        rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let body = "<h1>over TLS</h1>";
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (address.to_string(), address.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_narrowed_and_not_widened() {
    let (a, b, c) = (site().await, site().await, site().await);
    let service = service(config(&[&a, &b]).with_warm_contexts(1));
    service.warm_up().await.unwrap();
    let mut options = SessionOptions::default();
    options.allow_origins = Some(vec![a.origin.clone(), c.origin.clone()]);
    let session = service.create(&Principal::local(), options).await.unwrap();
    session.navigate(&a.url("/form")).await.unwrap();
    for refused in [&b, &c] {
        assert_eq!(
            session
                .navigate(&refused.url("/form"))
                .await
                .unwrap_err()
                .kind(),
            K::Denied
        );
    }
    let mut options = SessionOptions::default();
    options.deny_origins = vec![b.origin.clone()];
    let session = service.create(&Principal::local(), options).await.unwrap();
    session.navigate(&a.url("/form")).await.unwrap();
    assert_eq!(
        session.navigate(&b.url("/form")).await.unwrap_err().kind(),
        K::Denied
    );
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_off_and_bounded_when_on() {
    let site = site().await;
    let plain = service(config(&[&site]));
    let off = session(&plain).await;
    // A download ends the navigation; what matters is that nothing is kept.
    let _ = off.navigate(&site.url("/file")).await;
    assert_eq!(off.downloads().await.unwrap_err().kind(), K::Denied);
    plain.shutdown().await;
    let folder = tempfile::tempdir().unwrap();
    for (max_bytes, fits) in [(1000, true), (999, false)] {
        let keep = Downloads::Keep {
            folder: folder.path().to_owned(),
            max_bytes,
        };
        let service = service(config(&[&site]).with_downloads(keep));
        let session = session(&service).await;
        let _ = session.navigate(&site.url("/file")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let kept = session.downloads().await.unwrap().remove(0);
        assert_eq!((kept.number, kept.name.as_str()), (1, "report.bin"));
        let read = session.read_download(1).await;
        if fits {
            assert_eq!(std::fs::read(kept.path.unwrap()).unwrap(), vec![7; 1000]);
            assert_eq!(read.unwrap().1, vec![7; 1000]);
        } else {
            assert!(kept.path.is_none() && kept.problem.unwrap().contains("1000 bytes"));
            assert_eq!(read.unwrap_err().kind(), K::TooLarge);
        }
        service.shutdown().await;
    }
}

async fn vault(name: &str, value: &str) -> (Arc<MemorySecretStore>, Namespace) {
    let (store, namespace) = (
        Arc::new(MemorySecretStore::new()),
        Namespace::new("browser").unwrap(),
    );
    let scope = SecretScope::new(namespace.clone(), Principal::local().partition());
    store
        .put(&scope, &SecretName::new(name).unwrap(), Secret::new(value))
        .await
        .unwrap();
    (store, namespace)
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_typed_where_they_may_be_and_seen_nowhere() {
    let (shop, other) = (site().await, site().await);
    let (store, namespace) = vault("shop-password", "c0rrect \"horse\" battery").await;
    let secrets = Secrets::new(store, namespace)
        .grant("shop-password", [shop.origin.as_str()])
        .unwrap();
    let audit = Arc::new(MemoryAudit::new(std::num::NonZeroUsize::new(100).unwrap()));
    let service = service(
        config(&[&shop, &other])
            .allow_evaluate()
            .with_secrets(secrets)
            .with_audit(audit.clone()),
    );
    let session = session(&service).await;
    let fill = |name: &str| Action::FillSecret(name.into());
    session.navigate(&shop.url("/form")).await.unwrap();
    session
        .act("#password", fill("shop-password"))
        .await
        .unwrap();
    session.act("#name_", fill("shop-password")).await.unwrap();
    session.act("text=Send", Action::click()).await.unwrap();
    let seen = run(&session, "() => name_.value + '|' + password.value.length").await;
    assert_eq!(seen, "[hidden]|23", "it arrived, and is hidden");
    let leaks = [
        text(&session).await,
        session.snapshot(false, 0, 50_000).await.unwrap().text,
        session.extract(None, mcp_browser::Extract::Html, 0, 50_000).await.unwrap().0,
        run(&session, "() => ({ a: password.value, b: [name_.value] })").await.to_string(),
        run(&session, "() => { console.log(password.value); document.title = password.value; return location.hash = encodeURIComponent(password.value) }").await.to_string(),
        session.snapshot(false, 0, 50_000).await.unwrap().title,
        format!("{:?}", session.console(ConsoleLevel::Debug)),
        format!("{:?}", session.network()),
    ];
    for (index, leak) in leaks.iter().enumerate() {
        assert!(
            !leak.contains("horse") && !leak.contains("c0rrect"),
            "{index}: {leak}"
        );
    }
    let error = session
        .act("#name_", fill("nothing-such"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::Denied);
    // The same form elsewhere, and in a frame from elsewhere, which counts as elsewhere.
    session.navigate(&other.url("/form")).await.unwrap();
    let error = session
        .act("#password", fill("shop-password"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::Denied, "{error}");
    session.navigate(&shop.url("/article")).await.unwrap();
    let frame = format!(
        "new Promise(d => {{ const f = document.createElement('iframe'); f.onload = () => d(1); f.src = '{}/form'; document.body.append(f) }})",
        other.origin
    );
    run(&session, &frame).await;
    let view = session.snapshot(false, 0, 50_000).await.unwrap();
    let inside = support::reference(&view.text, "textbox \"Password\"");
    let error = session
        .act(&inside, fill("shop-password"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::Denied, "{error}");
    session.screenshot(&Screenshot::default()).await.unwrap();
    let events = audit.events();
    let filled = events
        .iter()
        .filter(|event| event.action == "browser.fill_secret");
    let outcomes: Vec<bool> = filled
        .map(|event| event.outcome == AuditOutcome::Succeeded)
        .collect();
    assert_eq!(outcomes, [true, true, false, false, false]);
    assert!(!format!("{events:?}").contains("horse"));
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_shown_in_no_file_and_to_no_answer_of_the_callers() {
    let shop = site().await;
    let (store, namespace) = vault("shop-password", "c0rrect horse").await;
    let secrets = Secrets::new(store, namespace)
        .grant("shop-password", [shop.origin.as_str()])
        .unwrap();
    let service = service(config(&[&shop]).with_secrets(secrets));
    let mut options = SessionOptions::default();
    options.video = true;
    let typed = service.create(&Principal::local(), options).await.unwrap();
    let fill = || Action::FillSecret("shop-password".into());
    let answer = || {
        mcp_browser::Route::Fulfil {
        status: 200,
        content_type: "text/html".into(),
        body: "<input id=name_><script>setInterval(() => document.title = btoa(name_.value), 10)</script>".into(),
    }
    };
    typed.start_trace().await.unwrap();
    typed.navigate(&shop.url("/form")).await.unwrap();
    typed.pdf().await.unwrap();
    typed.act("#name_", fill()).await.unwrap();
    assert_eq!(typed.pdf().await.unwrap_err().kind(), K::Denied);
    assert_eq!(typed.stop_trace().await.unwrap_err().kind(), K::Denied);
    let error = typed.route("**/app.js", answer()).await.unwrap_err();
    assert_eq!(error.kind(), K::Denied, "{error}");
    let videos = service
        .close(&Principal::local(), typed.id())
        .await
        .unwrap();
    assert!(videos.is_empty(), "they would show the field");
    // The other way round: a page of the caller's at a granted origin.
    let forged = session(&service).await;
    forged.route("**/form", answer()).await.unwrap();
    forged.navigate(&shop.url("/form")).await.unwrap();
    let error = forged.act("#name_", fill()).await.unwrap_err();
    assert_eq!(error.kind(), K::Denied, "{error}");
    forged.clear_routes().await.unwrap();
    let error = forged.act("#name_", fill()).await.unwrap_err();
    assert_eq!(error.kind(), K::Denied, "the page is still there: {error}");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_switched_on_is_refused() {
    let site = site().await;
    let service = service(config(&[&site]));
    let session = session(&service).await;
    session.navigate(&site.url("/form")).await.unwrap();
    assert_eq!(session.evaluate("1").await.unwrap_err().kind(), K::Denied);
    let upload = Action::Upload(vec![mcp_browser::Files::new("a", "text/plain", "x")]);
    assert_eq!(
        session.act("#file", upload).await.unwrap_err().kind(),
        K::Denied
    );
    assert_eq!(
        session
            .act("#password", Action::FillSecret("x".into()))
            .await
            .unwrap_err()
            .kind(),
        K::Denied
    );
    let refused = |change: fn(&mut SessionOptions)| {
        let mut options = SessionOptions::default();
        change(&mut options);
        let service = service.clone();
        async move {
            service
                .create(&Principal::local(), options)
                .await
                .unwrap_err()
                .kind()
        }
    };
    assert_eq!(
        refused(|options| options.mode = mcp_browser::Mode::Headed).await,
        K::Denied
    );
    assert_eq!(refused(|options| options.stealth = true).await, K::Denied);
    assert_eq!(
        refused(|options| options.profile = Some("x".into())).await,
        K::Denied
    );
    assert_eq!(
        refused(|options| options.proxy = Some("x".into())).await,
        K::InvalidInput
    );
    assert_eq!(
        refused(|options| options.device = Some("Abacus".into())).await,
        K::InvalidInput
    );
    assert_eq!(
        refused(|options| options.allow_origins = Some(vec!["x".into()])).await,
        K::InvalidInput
    );
    assert_eq!(
        refused(|options| options.deny_origins = vec!["https://a.example".into(); 201]).await,
        K::InvalidInput
    );
    let anonymous = service
        .create(&Principal::anonymous(), SessionOptions::default())
        .await
        .unwrap_err();
    assert_eq!(anonymous.kind(), K::Denied);
    service.shutdown().await;
}
