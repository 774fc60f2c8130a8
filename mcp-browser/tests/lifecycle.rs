//! Leases, pools, crashes and bad pages, on a real browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking and tell stories"
)]

mod support;

use std::{sync::Arc, time::Duration};

use mcp_browser::{
    Action, BrowserConfig, BrowserErrorKind as K, BrowserLimits, BrowserService, Conditions,
    ConsoleLevel, CookieQuery, DriverConfig, Extract, Isolation, NewCookie, Notice, ProfileStore,
    Route, SessionOptions, Wait,
};
use mcp_core::{
    Principal,
    secret::Secret,
    store::{MemoryStore, Namespace},
};
use support::{config, driver, service, session, site, text};
use tokio::time::Instant as Started;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn user(name: &str) -> Principal {
    Principal::authenticated("issuer", name)
}

/// The processes that hold this mark in their command line.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: &str, check: impl Fn() -> bool) {
    for _ in 0..600 {
        if check() {
            return;
        }
        tokio::time::sleep(ms(50)).await;
    }
    panic!("not within 30 s: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_belong_to_their_principal_and_are_bounded() {
    let site = site().await;
    let service = service(config(&[&site]).with_max_sessions(3, 2));
    let (alice, bob) = (user("alice"), user("bob"));
    let create = |principal: &Principal| {
        let (service, principal) = (service.clone(), principal.clone());
        async move { service.create(&principal, SessionOptions::default()).await }
    };
    let one = create(&alice).await.unwrap();
    let two = create(&alice).await.unwrap();
    assert_eq!(create(&alice).await.unwrap_err().kind(), K::LimitReached);
    assert_eq!(
        service.session(&bob, one.id()).unwrap_err().kind(),
        K::SessionNotFound
    );
    assert_eq!(
        service.close(&bob, one.id()).await.unwrap_err().kind(),
        K::SessionNotFound
    );
    let _three = create(&bob).await.unwrap();
    assert_eq!(
        create(&bob).await.unwrap_err().kind(),
        K::LimitReached,
        "the bound for all"
    );
    // Cookies of one session are not the other's.
    one.navigate(&site.url("/cookie")).await.unwrap();
    two.navigate(&site.url("/headers")).await.unwrap();
    assert!(!text(&two).await.contains("s3cr3t"));
    one.navigate(&site.url("/headers")).await.unwrap();
    assert!(text(&one).await.contains("sid=s3cr3t"));
    service.close(&alice, one.id()).await.unwrap();
    assert_eq!(
        one.navigate(&site.url("/form")).await.unwrap_err().kind(),
        K::SessionNotFound
    );
    create(&bob).await.unwrap();
    service.shutdown().await;
    assert_eq!(service.session_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_when_idle_and_when_old_and_when_their_caller_is_gone() {
    let site = site().await;
    let idle = service(config(&[&site]).with_session_timeouts(ms(4000), Duration::from_secs(60)));
    let kept = session(&idle).await;
    for _ in 0..5 {
        kept.navigate(&site.url("/form")).await.unwrap();
        tokio::time::sleep(ms(1000)).await;
    }
    assert_eq!(idle.session_count(), 1, "it was used");
    until("idle", || idle.session_count() == 0).await;
    assert!(!kept.is_open());
    idle.shutdown().await;
    let old = service(config(&[&site]).with_session_timeouts(Duration::from_secs(60), ms(900)));
    let _kept = session(&old).await;
    until("old", || old.session_count() == 0).await;
    // A caller that goes away leaves nothing.
    let service = service(config(&[&site]));
    service.warm_up().await.unwrap();
    for wait in [1, 20, 100, 150] {
        let created = tokio::time::timeout(
            ms(wait),
            service.create(&Principal::local(), SessionOptions::default()),
        )
        .await;
        drop(created);
    }
    for id in service.sessions(&Principal::local()) {
        // One that was finished in time.
        service.close(&Principal::local(), &id).await.unwrap();
    }
    until("dropped", || service.session_count() == 0).await;
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_is_killed_is_noticed_and_started_again() {
    let site = site().await;
    let service = service(config(&[&site]));
    let first = session(&service).await;
    let (pid, memory) = first.browser_usage().unwrap();
    assert!(memory > 10 << 20, "{memory}");
    let never = {
        let (session, url) = (first.clone(), site.url("/never"));
        tokio::spawn(async move { session.navigate(&url).await })
    };
    tokio::time::sleep(ms(300)).await;
    std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    let error = never.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), K::BrowserGone, "{error}");
    assert!(error.to_string().contains("create a new"), "{error}");
    until("forgotten", || service.session_count() == 0).await;
    let second = session(&service).await;
    second.navigate(&site.url("/form")).await.unwrap();
    assert_ne!(second.browser_usage().unwrap().0, pid);
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_killed_is_noticed_and_leaves_no_browser() {
    let site = site().await;
    let service = service(config(&[&site]));
    let first = session(&service).await;
    let (browser, _) = first.browser_usage().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{browser}/stat")).unwrap();
    let driver: u32 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let never = {
        let (session, url) = (first.clone(), site.url("/never"));
        tokio::spawn(async move { session.navigate(&url).await })
    };
    tokio::time::sleep(ms(300)).await;
    std::process::Command::new("kill")
        .args(["-9", &driver.to_string()])
        .status()
        .unwrap();
    let started = Started::now();
    assert_eq!(never.await.unwrap().unwrap_err().kind(), K::BrowserGone);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the action does not hang"
    );
    until("no orphan", || !alive(browser)).await;
    let second = session(&service).await;
    second.navigate(&site.url("/form")).await.unwrap();
    let (browser, _) = second.browser_usage().unwrap();
    drop((first, second));
    service.shutdown().await;
    until("shutdown ends it", || !alive(browser)).await;
    assert_eq!(
        service
            .create(&Principal::local(), SessionOptions::default())
            .await
            .unwrap_err()
            .kind(),
        K::BrowserGone
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_dropped_leaves_nothing() {
    let service = service(config(&[]));
    let session = session(&service).await;
    let (browser, _) = session.browser_usage().unwrap();
    drop((service, session));
    until("no orphan", || !alive(browser)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_on_memory_and_processor_end_a_browser_of_its_own() {
    let site = site().await;
    let limits = BrowserLimits::new().with_memory(900 << 20);
    let memory = service(
        config(&[&site])
            .with_isolation(Isolation::PerPrincipal)
            .with_limits(limits)
            .allow_evaluate()
            .with_timeouts(Duration::from_secs(20), Duration::from_secs(20)),
    );
    let (alice, bob) = (user("alice"), user("bob"));
    let of_alice = memory
        .create(&alice, SessionOptions::default())
        .await
        .unwrap();
    let of_bob = memory
        .create(&bob, SessionOptions::default())
        .await
        .unwrap();
    assert_ne!(
        of_alice.browser_usage().unwrap().0,
        of_bob.browser_usage().unwrap().0
    );
    of_alice.navigate(&site.url("/form")).await.unwrap();
    let script = "() => { window.kept = []; return new Promise(() => setInterval(() => { const a = new Uint8Array(50 << 20); a.fill(1); window.kept.push(a) }, 20)) }";
    let error = of_alice.evaluate(script).await.unwrap_err();
    assert_eq!(error.kind(), K::BrowserGone, "{error}");
    assert!(error.to_string().contains("MiB"), "{error}");
    of_bob.navigate(&site.url("/form")).await.unwrap();
    let pid = of_bob.browser_usage().unwrap().0;
    memory.close(&bob, of_bob.id()).await.unwrap();
    drop(of_bob);
    until("a browser of one's own ends with its sessions", || {
        !alive(pid)
    })
    .await;
    memory.shutdown().await;
    // So little that a script that spins is above it on a busy machine too, over so long that the start is below it.
    let limits = BrowserLimits::new().with_cpu(0.3, Duration::from_secs(10));
    let cpu = service(
        config(&[&site])
            .with_limits(limits)
            .allow_evaluate()
            .with_timeouts(Duration::from_secs(90), Duration::from_secs(90)),
    );
    let session = session(&cpu).await;
    session.navigate(&site.url("/form")).await.unwrap();
    let error = session.evaluate("() => { for (;;) {} }").await.unwrap_err();
    assert!(error.to_string().contains("processors"), "{error}");
    cpu.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pages_are_errors_and_leave_the_session_well() {
    let site = site().await;
    let config = config(&[&site])
        .allow_evaluate()
        .with_timeouts(ms(12_000), ms(12_000))
        .with_settle_timeout(ms(500))
        .with_max_tabs(4);
    let service = service(config);
    let session = session(&service).await;
    let error = session.navigate(&site.url("/never")).await.unwrap_err();
    assert_eq!(error.kind(), K::Timeout, "{error}");
    let error = session.navigate(&site.url("/loop")).await.unwrap_err();
    assert!(
        error.kind() == K::Navigation && error.to_string().contains("REDIRECT"),
        "{error}"
    );
    let error = session.navigate("http://127.0.0.1:1/").await.unwrap_err();
    assert_eq!(error.kind(), K::Denied);
    // A storm of dialogs: the first is shown, the rest go by.
    session.navigate(&site.url("/dialogs")).await.unwrap();
    session.act("text=Storm", Action::click()).await.unwrap();
    let mut title = String::new();
    let started = Started::now();
    while title != "calm" && started.elapsed() < Duration::from_secs(60) {
        if session.dialog().is_some() {
            // It may have been dismissed by itself meanwhile.
            let _ = session.answer_dialog(true, None).await;
        } else if let Ok(view) = session.snapshot(false, 0, 5000).await {
            title = view.title;
        }
    }
    assert_eq!(title, "calm");
    // A flood of popups.
    session.navigate(&site.url("/popups")).await.unwrap();
    let flood = session.act("text=Flood", Action::click()).await;
    if let Err(error) = flood {
        // A machine with nothing but popups to open may take longer than an action may.
        assert_eq!(error.kind(), K::Timeout, "{error}");
    }
    let mut closed = 0;
    let started = Started::now();
    while closed == 0 && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(ms(100)).await;
        for notice in session.take_notices() {
            if let Notice::PopupsClosed(count) = notice {
                closed += count;
            }
        }
    }
    assert!(closed > 0);
    assert!(session.tabs().len() <= 4, "{:?}", session.tabs());
    for tab in session.tabs().into_iter().skip(1) {
        session.close_tab(tab.number).await.unwrap();
    }
    // A script that never ends, and one that throws.
    session.navigate(&site.url("/form")).await.unwrap();
    let error = session
        .evaluate("() => { throw new Error('mine') }")
        .await
        .unwrap_err();
    assert!(
        error.kind() == K::Script && error.to_string().contains("mine"),
        "{error}"
    );
    let error = session.evaluate("() => { for (;;) {} }").await.unwrap_err();
    assert_eq!(error.kind(), K::Timeout, "{error}");
    session.navigate(&site.url("/form")).await.unwrap();
    assert!(text(&session).await.contains("Log in"));
    assert_eq!(session.evaluate("1 + 1").await.unwrap(), 2);
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_script_never_ends_is_replaced() {
    let site = site().await;
    let service = service(config(&[&site]).with_timeouts(ms(12_000), ms(8_000)));
    let session = session(&service).await;
    // Where the new document shares the page's process it cannot come.
    session.navigate(&site.url("/spin")).await.unwrap();
    site.gate.notify_one();
    until("spinning", || site.was_asked_for("/spins")).await;
    let left = session.navigate(&site.url("/form")).await;
    if let Err(error) = left {
        assert!(error.to_string().contains("does not end"), "{error}");
        session.navigate(&site.url("/form")).await.unwrap();
    }
    assert!(text(&session).await.contains("Log in"));
    // One whose own script keeps it from being loaded.
    let error = session.navigate(&site.url("/spinning")).await.unwrap_err();
    assert!(error.to_string().contains("does not end"), "{error}");
    session.navigate(&site.url("/form")).await.unwrap();
    assert!(text(&session).await.contains("Log in"));
    assert_eq!(session.tabs().len(), 1);
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_an_end_is_cut_off() {
    let site = site().await;
    let service = service(
        config(&[&site])
            .with_max_session_bytes(4 << 20)
            .with_timeouts(Duration::from_secs(5), Duration::from_secs(10)),
    );
    let greedy = session(&service).await;
    // It is loaded as far as it may be.
    let _ = greedy.navigate(&site.url("/huge")).await;
    until("cut off", || greedy.received() > 4 << 20).await;
    assert!(greedy.received() < 8 << 20, "{}", greedy.received());
    let error = greedy.navigate(&site.url("/form")).await.unwrap_err();
    assert!(
        error.kind() == K::Denied && error.to_string().contains("received"),
        "{error}"
    );
    let other = session(&service).await;
    other.navigate(&site.url("/form")).await.unwrap();
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_come_back() {
    let site = site().await;
    let store = Arc::new(MemoryStore::new());
    let profiles = ProfileStore::new(
        store,
        Namespace::new("profiles").unwrap(),
        &Secret::new("k".repeat(32)),
    )
    .unwrap();
    let service = service(config(&[&site]).with_profiles(profiles));
    let mut options = SessionOptions::default();
    options.profile = Some("shop".into());
    for (round, title) in ["nothing", "kept value"].into_iter().enumerate() {
        let session = service
            .create(&user("alice"), options.clone())
            .await
            .unwrap();
        session.navigate(&site.url("/storage")).await.unwrap();
        assert_eq!(session.snapshot(false, 0, 1000).await.unwrap().title, title);
        session.navigate(&site.url("/headers")).await.unwrap();
        assert_eq!(text(&session).await.contains("sid=s3cr3t"), round == 1);
        session.navigate(&site.url("/cookie")).await.unwrap();
        service.close(&user("alice"), session.id()).await.unwrap();
    }
    let other = service.create(&user("bob"), options).await.unwrap();
    other.navigate(&site.url("/storage")).await.unwrap();
    assert_eq!(
        other.snapshot(false, 0, 1000).await.unwrap().title,
        "nothing"
    );
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_places_and_languages_are_emulated() {
    let site = site().await;
    let service = service(config(&[&site]).allow_evaluate().allow_stealth());
    let make = |json: serde_json::Value| {
        let service = service.clone();
        let options: SessionOptions = serde_json::from_value(json).unwrap();
        async move { service.create(&Principal::local(), options).await.unwrap() }
    };
    let look = "async () => ({ w: screen.width, dpr: devicePixelRatio, lang: navigator.language, tz: Intl.DateTimeFormat().resolvedOptions().timeZone,
        ua: navigator.userAgent, webdriver: navigator.webdriver, dark: matchMedia('(prefers-color-scheme: dark)').matches,
        brands: navigator.userAgentData ? navigator.userAgentData.brands.map(b => b.brand).join() : '',
        place: await new Promise(d => navigator.geolocation.getCurrentPosition(p => d([p.coords.latitude, p.coords.longitude]), e => d(e.code))) })";
    let phone = make(serde_json::json!({ "device": "Pixel 7", "locale": "de-DE", "timezone": "Europe/Berlin", "color_scheme": "dark",
        "geolocation": { "latitude": 52.5, "longitude": 13.4 } })).await;
    phone.navigate(&site.url("/form")).await.unwrap();
    let seen = phone.evaluate(look).await.unwrap();
    assert_eq!(
        (
            &seen["w"],
            &seen["dpr"],
            &seen["lang"],
            &seen["tz"],
            &seen["dark"]
        ),
        (
            &412.into(),
            &2.625.into(),
            &"de-DE".into(),
            &"Europe/Berlin".into(),
            &true.into()
        ),
        "{seen}"
    );
    assert!(seen["ua"].as_str().unwrap().contains("Pixel 7"), "{seen}");
    assert_eq!(seen["place"], serde_json::json!([52.5, 13.4]));
    assert_eq!(seen["webdriver"], true, "stealth is off by default");
    let quiet = make(serde_json::json!({ "stealth": true, "locale": "en-GB", "geolocation": { "latitude": 1, "longitude": 1 } })).await;
    quiet.navigate(&site.url("/headers")).await.unwrap();
    let seen = quiet.evaluate(look).await.unwrap();
    assert_eq!(seen["webdriver"], false);
    assert!(
        !seen.to_string().contains("Headless") && seen["ua"].as_str().unwrap().contains("Chrome/"),
        "{seen}"
    );
    assert!(
        !text(&quiet).await.contains("Headless"),
        "{}",
        text(&quiet).await
    );
    // Everywhere a page of the session can be: frames, tabs of its own and of the caller, workers.
    let brands =
        "() => navigator.userAgentData.brands.map(b => b.brand).join() + navigator.userAgent";
    let worker = "() => new Promise(done => { const w = new Worker(URL.createObjectURL(new Blob([
        'postMessage(navigator.userAgentData.brands.map(b => b.brand).join() + navigator.userAgent)']))); w.onmessage = e => done(e.data) })";
    let frame = "() => { const f = document.createElement('iframe'); document.body.append(f);
        return f.contentWindow.navigator.userAgentData.brands.map(b => b.brand).join() }";
    quiet.navigate(&site.url("/popups")).await.unwrap();
    quiet
        .evaluate("() => { window.open('/headers') }")
        .await
        .unwrap();
    quiet.open_tab().await.unwrap();
    quiet.navigate(&site.url("/headers")).await.unwrap();
    let tabs = quiet.tabs();
    assert_eq!(tabs.len(), 3);
    for tab in tabs {
        quiet.select_tab(tab.number).await.unwrap();
        let shown = text(&quiet).await;
        if shown.contains("sec-ch-ua") {
            assert!(shown.contains("\"Google Chrome\";v="), "{shown}");
        }
        for script in [brands, frame, worker] {
            let seen = quiet.evaluate(script).await.unwrap().to_string();
            assert!(
                !shown.contains("Headless")
                    && !seen.contains("Headless")
                    && seen.contains("Google Chrome"),
                "{}: {shown} {seen}",
                tab.url
            );
        }
    }
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_are_kept_ready_for_sessions_like_the_latest() {
    let site = site().await;
    let service = service(config(&[&site]).allow_evaluate().with_warm_contexts(1));
    service.warm_up().await.unwrap();
    let mut options = SessionOptions::default();
    options.viewport = Some(mcp_browser::Viewport::new(640, 480));
    options.locale = Some("de-DE".into());
    let look = "() => [innerWidth, innerHeight, navigator.language]";
    for _ in 0..3 {
        let session = service.create(&user("alice"), options.clone()).await;
        let session = session.unwrap();
        session.navigate(&site.url("/form")).await.unwrap();
        let seen = session.evaluate(look).await.unwrap();
        assert_eq!(seen, serde_json::json!([640, 480, "de-DE"]));
        service.close(&user("alice"), session.id()).await.unwrap();
        until("one is ready", || service.warm_contexts() == 1).await;
    }
    // Another kind of session gets nothing of it.
    let plain = session(&service).await;
    plain.navigate(&site.url("/form")).await.unwrap();
    let seen = plain.evaluate(look).await.unwrap();
    assert_eq!(seen[0], 1280);
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_blocked_answered_changed_and_slowed() {
    let site = site().await;
    let service = service(
        config(&[&site])
            .allow_evaluate()
            .with_timeouts(Duration::from_secs(10), Duration::from_secs(10)),
    );
    let session = session(&service).await;
    session.navigate(&site.url("/form")).await.unwrap();
    let fulfil = Route::Fulfil {
        status: 201,
        content_type: "application/json".into(),
        body: r#"{"from":"route"}"#.into(),
    };
    session.route("**/api/data", fulfil).await.unwrap();
    session.route("**/blocked/**", Route::Block).await.unwrap();
    session
        .route(
            "**/headers",
            Route::Modify {
                headers: vec![("X-Mine".into(), "yes".into())],
            },
        )
        .await
        .unwrap();
    let fetch = |url: &str| format!("fetch('{url}').then(r => r.text(), e => 'failed')");
    assert_eq!(
        session.evaluate(&fetch("/api/data")).await.unwrap(),
        r#"{"from":"route"}"#
    );
    assert_eq!(
        session.evaluate(&fetch("/blocked/x")).await.unwrap(),
        "failed"
    );
    assert!(
        session
            .evaluate(&fetch("/headers"))
            .await
            .unwrap()
            .as_str()
            .unwrap()
            .contains("x-mine: yes")
    );
    assert_eq!(session.routes().len(), 3);
    assert_eq!(
        session
            .route(
                "**",
                Route::Modify {
                    headers: vec![("bad\nname".into(), String::new())]
                }
            )
            .await
            .unwrap_err()
            .kind(),
        K::InvalidInput
    );
    session.clear_routes().await.unwrap();
    assert!(
        !session
            .evaluate(&fetch("/headers"))
            .await
            .unwrap()
            .as_str()
            .unwrap()
            .contains("x-mine")
    );
    session
        .set_conditions(Conditions::new(false, Some(400), None, None))
        .await
        .unwrap();
    let started = Started::now();
    session.evaluate(&fetch("/headers")).await.unwrap();
    assert!(started.elapsed() >= ms(400));
    session
        .set_conditions(Conditions::new(true, None, None, None))
        .await
        .unwrap();
    assert_eq!(
        session.evaluate(&fetch("/headers")).await.unwrap(),
        "failed"
    );
    session.set_conditions(Conditions::default()).await.unwrap();
    session.navigate(&site.url("/console")).await.unwrap();
    session.wait(&Wait::Time(ms(200))).await.unwrap();
    let console = format!("{:?}", session.console(ConsoleLevel::Debug));
    for part in ["hello from the page", "bad thing", "thrown"] {
        assert!(console.contains(part), "{console}");
    }
    assert!(!format!("{:?}", session.console(ConsoleLevel::Error)).contains("hello"));
    let network: Vec<String> = session.network().iter().map(ToString::to_string).collect();
    let network = network.join("\n");
    assert!(
        network.contains("/console document 200") && network.contains("/blocked/x fetch failed"),
        "{network}"
    );
    session
        .set_cookie(&NewCookie::new(&site.url("/"), "mine", "1"))
        .await
        .unwrap();
    session
        .set_storage(true, "key", Some("value"))
        .await
        .unwrap();
    assert_eq!(
        session.storage(true).await.unwrap(),
        [("key".to_owned(), "value".to_owned())]
    );
    assert_eq!(session.cookies().await.unwrap()[0]["name"], "mine");
    session
        .clear_cookies(&CookieQuery::default())
        .await
        .unwrap();
    assert_eq!(session.cookies().await.unwrap(), serde_json::json!([]));
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn videos_and_traces_are_recorded_on_demand() {
    let site = site().await;
    let service = service(config(&[&site]));
    let mut options = SessionOptions::default();
    options.video = true;
    let session = service.create(&Principal::local(), options).await.unwrap();
    session.start_trace().await.unwrap();
    assert_eq!(
        session.start_trace().await.unwrap_err().kind(),
        K::InvalidInput
    );
    session.navigate(&site.url("/form")).await.unwrap();
    session.act("text=Send", Action::click()).await.unwrap();
    assert!(session.stop_trace().await.unwrap().starts_with(b"PK"));
    session.wait(&Wait::Time(ms(500))).await.unwrap();
    let videos = service
        .close(&Principal::local(), session.id())
        .await
        .unwrap();
    // A WebM file begins with the EBML header.
    assert!(
        videos.len() == 1 && videos[0].starts_with(&[0x1a, 0x45, 0xdf, 0xa3]),
        "{}",
        videos.len()
    );
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tabs_are_listed_chosen_and_closed() {
    let site = site().await;
    let service = service(config(&[&site]).with_max_tabs(3));
    let session = session(&service).await;
    session.navigate(&site.url("/popups")).await.unwrap();
    session.act("text=One", Action::click()).await.unwrap();
    session.wait(&Wait::Time(ms(300))).await.unwrap();
    let tabs = session.tabs();
    assert_eq!((tabs.len(), tabs[0].current), (2, true), "{tabs:?}");
    session.select_tab(tabs[1].number).await.unwrap();
    assert!(
        session
            .extract(None, Extract::Text, 0, 1000)
            .await
            .unwrap()
            .0
            .contains("Frame button")
    );
    session.open_tab().await.unwrap();
    assert_eq!(
        session.open_tab().await.unwrap_err().kind(),
        K::LimitReached
    );
    assert_eq!(
        session.select_tab(99).await.unwrap_err().kind(),
        K::InvalidInput
    );
    for tab in session.tabs() {
        session.close_tab(tab.number).await.unwrap();
    }
    assert_eq!(
        session
            .navigate(&site.url("/form"))
            .await
            .unwrap_err()
            .kind(),
        K::InvalidInput
    );
    session.open_tab().await.unwrap();
    session.navigate(&site.url("/form")).await.unwrap();
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let good = driver();
    let missing = BrowserService::new(BrowserConfig::new(DriverConfig::new(
        "/nonexistent/node",
        "/nonexistent",
        "/nonexistent",
    )))
    .unwrap_err();
    assert!(
        missing.kind() == K::NotInstalled && missing.to_string().contains("nodejs"),
        "{missing}"
    );
    // Something that is there and is no driver, and no browser.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("package.json"),
        r#"{"version":"1.64.0"}"#,
    )
    .unwrap();
    let broken = "console.error('no such module: tea'); process.exit(3)";
    std::fs::write(folder.path().join("cli.js"), broken).unwrap();
    let config = DriverConfig::new(
        support::program("node"),
        folder.path(),
        support::program("chromium"),
    );
    let service = BrowserService::new(BrowserConfig::new(config)).unwrap();
    let error = service
        .create(&Principal::local(), SessionOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.kind() == K::StartFailed
            && error.to_string().contains("Node 20")
            && error.to_string().contains("no such module: tea"),
        "{error}"
    );
    std::fs::write(folder.path().join("cli.js"), "setInterval(() => {}, 1000)").unwrap();
    let config = DriverConfig::new(
        support::program("node"),
        folder.path(),
        support::program("chromium"),
    )
    .with_start_timeout(ms(800));
    let service = BrowserService::new(BrowserConfig::new(config)).unwrap();
    let error = service
        .create(&Principal::local(), SessionOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.kind() == K::StartFailed && error.to_string().contains("in time"),
        "{error}"
    );
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../.cache/playwright/node_modules/playwright-core");
    let config = DriverConfig::new(support::program("node"), package, support::program("true"));
    let service = BrowserService::new(BrowserConfig::new(config)).unwrap();
    let error = service
        .create(&Principal::local(), SessionOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::StartFailed, "{error}");
    drop(good);
}
