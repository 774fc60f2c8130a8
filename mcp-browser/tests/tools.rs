//! The MCP tools through the seam, and the captcha tools on pages with the vendors' documented markup.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking and tell stories"
)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_browser::{BrowserTools, Capability};
use mcp_captcha::{
    Balance, Captcha, CaptchaError, CaptchaErrorKind, Challenge, Kind, Reported, Sites, Solution,
    Solver, TaskId, Verdict,
};
use mcp_core::{
    Amount, Json, Method, Principal, Request,
    rmcp3::{RmcpServer, serve},
};
use rmcp::{
    ClientHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
        ElicitationAction, Implementation,
    },
    service::{RequestContext, RoleClient},
};
use serde_json::{Value, json};
use support::{
    Site, config, reference, service, site,
    tools::{call, open, text},
};
use tower::ServiceExt;

fn all(site: &Site) -> BrowserTools {
    let config = config(&[site]).allow_evaluate().allow_uploads(1000);
    BrowserTools::new(service(config)).with(Capability::ALL)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_driven_through_tools() {
    let site = site().await;
    let tools = all(&site);
    let seam = serve(tools.clone()).into_service();
    let alice = Principal::authenticated("i", "alice");
    let id = open(
        &seam,
        &alice,
        json!({ "mode": "headless", "viewport": { "width": 640, "height": 480 } }),
    )
    .await;
    let page = call(
        &seam,
        &alice,
        "browser_navigate",
        json!({ "session_id": id, "url": site.url("/form") }),
    )
    .await;
    let name = reference(text(&page), "textbox \"Name\"");
    let typed = call(
        &seam,
        &alice,
        "browser_interact",
        json!({ "session_id": id, "action": "type", "selector": name, "value": "Ada" }),
    )
    .await;
    assert!(
        text(&typed).contains("done: type") && text(&typed).contains("Ada"),
        "{typed}"
    );
    let sent = call(
        &seam,
        &alice,
        "browser_interact",
        json!({ "session_id": id, "action": "click", "selector": "text=Send" }),
    )
    .await;
    assert!(text(&sent).contains("Hello Ada"), "{sent}");
    let out = call(
        &seam,
        &alice,
        "browser_interact",
        json!({ "session_id": id, "action": "extract", "selector": "#out" }),
    )
    .await;
    assert!(text(&out).starts_with("Hello Ada"), "{out}");
    let picture = call(
        &seam,
        &alice,
        "browser_screenshot",
        json!({ "session_id": id, "full_page": true }),
    )
    .await;
    assert_eq!(picture["content"][0]["mimeType"], "image/png");
    let read = Request::encode(Method::RESOURCES_READ, &json!({ "uri": format!("browser://{id}/screenshot.png"), "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} } })).unwrap();
    let resource: Value = seam
        .clone()
        .oneshot(read.clone().with_principal(alice.clone()))
        .await
        .unwrap()
        .decode()
        .unwrap();
    assert!(
        resource["contents"][0]["blob"]
            .as_str()
            .unwrap()
            .starts_with("iVBOR"),
        "{resource}"
    );
    let bob = Principal::authenticated("i", "bob");
    assert!(
        seam.clone()
            .oneshot(read.with_principal(bob.clone()))
            .await
            .is_err(),
        "another's session is not there"
    );
    let foreign = call(&seam, &bob, "browser_snapshot", json!({ "session_id": id })).await;
    assert_eq!(foreign["structuredContent"]["error"], "session_not_found");
    assert_eq!(
        call(&seam, &bob, "browser_list_sessions", json!({})).await["structuredContent"]["sessions"],
        json!([])
    );
    let list = call(&seam, &alice, "browser_list_sessions", json!({})).await;
    assert_eq!(
        list["structuredContent"]["sessions"][0]["tabs"][0]["url"],
        site.url("/form")
    );
    let closed = call(
        &seam,
        &alice,
        "browser_close_session",
        json!({ "session_id": id }),
    )
    .await;
    assert_eq!(text(&closed), "closed");
    tools.service().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_of_every_group_answers() {
    let site = site().await;
    let tools = all(&site);
    let seam = serve(tools.clone()).into_service();
    let local = Principal::local();
    let id = open(&seam, &local, json!({})).await;
    let with = |arguments: Value| {
        let mut all = json!({ "session_id": id });
        all.as_object_mut()
            .unwrap()
            .extend(arguments.as_object().unwrap().clone());
        all
    };
    let cases = [
        (
            "browser_navigate",
            json!({ "url": site.url("/article") }),
            "Tea",
        ),
        ("browser_extract", json!({ "what": "markdown" }), "# Tea"),
        (
            "browser_extract",
            json!({ "what": "table", "selector": "table" }),
            "Price",
        ),
        ("browser_tabs", json!({ "action": "open" }), "number"),
        (
            "browser_tabs",
            json!({ "action": "close", "tab": 2 }),
            "number",
        ),
        (
            "browser_navigate",
            json!({ "url": site.url("/console") }),
            "Console",
        ),
        ("browser_wait", json!({ "seconds": 0.2 }), "waited"),
        ("browser_console", json!({}), "hello from the page"),
        ("browser_network", json!({}), "/console document 200"),
        (
            "browser_route",
            json!({ "action": "fulfil", "pattern": "**/mocked", "body": "mocked body" }),
            "fulfil with 200",
        ),
        (
            "browser_evaluate",
            json!({ "script": "fetch('/mocked').then(r => r.text())" }),
            "mocked body",
        ),
        ("browser_route", json!({ "action": "clear" }), "nothing"),
        ("browser_conditions", json!({ "offline": true }), "set"),
        ("browser_conditions", json!({}), "set"),
        (
            "browser_cookies",
            json!({ "action": "set", "url": site.url("/"), "name": "a", "value": "b" }),
            "\"a\"",
        ),
        ("browser_cookies", json!({ "action": "clear" }), "[]"),
        (
            "browser_storage",
            json!({ "action": "set", "name": "k", "value": "v" }),
            "{\"k\":\"v\"}",
        ),
        (
            "browser_navigate",
            json!({ "url": site.url("/form") }),
            "Log in",
        ),
        (
            "browser_upload",
            json!({ "selector": "#file", "files": [{ "name": "a.txt", "content_base64": "aGk=" }] }),
            "uploaded: 1",
        ),
        ("browser_navigate", json!({ "url": "back" }), "Console"),
        ("browser_trace", json!({ "action": "start" }), "tracing"),
        (
            "browser_snapshot",
            json!({ "changes": true }),
            "nothing changed",
        ),
    ];
    for (tool, arguments, part) in cases {
        let answer = call(&seam, &local, tool, with(arguments.clone())).await;
        assert!(
            answer["isError"] != true && text(&answer).contains(part),
            "{tool} {arguments}: {answer}"
        );
    }
    for (tool, arguments, kind) in [
        ("browser_pdf", json!({}), "application/pdf"),
        (
            "browser_trace",
            json!({ "action": "stop" }),
            "application/zip",
        ),
    ] {
        let answer = call(&seam, &local, tool, with(arguments)).await;
        assert_eq!(answer["content"][1]["mimeType"], kind, "{answer}");
    }
    let errors = [
        (
            "browser_interact",
            json!({ "action": "click" }),
            "selector is missing",
        ),
        (
            "browser_interact",
            json!({ "action": "fill", "selector": "#x" }),
            "value is missing",
        ),
        (
            "browser_interact",
            json!({ "action": "click", "selector": "#x", "secret": "s" }),
            "for the actions type and fill",
        ),
        ("browser_wait", json!({}), "is missing"),
        ("browser_wait", json!({ "seconds": -1 }), "not a time"),
        (
            "browser_navigate",
            json!({ "url": "file:///etc/passwd" }),
            "may not be opened",
        ),
        ("browser_downloads", json!({}), "not allowed"),
        (
            "browser_upload",
            json!({ "selector": "#file", "files": [{ "name": "a", "content_base64": "%" }] }),
            "not base64",
        ),
        ("browser_dialog", json!({ "accept": true }), "no dialog"),
    ];
    for (tool, arguments, part) in errors {
        let answer = call(&seam, &local, tool, with(arguments)).await;
        assert!(
            answer["isError"] == true && text(&answer).contains(part),
            "{tool}: {answer}"
        );
    }
    tools.service().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_off_until_switched_on_and_every_tool_says_what_it_does() {
    let site = site().await;
    let listed = async |tools: BrowserTools| -> Vec<Value> {
        let params = json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} } });
        let request = Request::encode(Method::TOOLS_LIST, &params).unwrap();
        let answer: Value = serve(tools)
            .into_service()
            .oneshot(request)
            .await
            .unwrap()
            .decode()
            .unwrap();
        answer["tools"].as_array().unwrap().clone()
    };
    let browsers = service(config(&[&site]));
    let basic = listed(BrowserTools::new(browsers.clone())).await;
    assert_eq!(basic.len(), 11, "{basic:?}");
    let some = listed(BrowserTools::new(browsers.clone()).with([Capability::Logs])).await;
    assert_eq!(some.len(), 13);
    let all = listed(
        BrowserTools::new(browsers)
            .with(Capability::ALL)
            .with_captcha(None, Sites::none()),
    )
    .await;
    assert_eq!(all.len(), 11 + 17 + 2);
    for tool in &all {
        let hints = &tool["annotations"];
        assert!(
            hints["readOnlyHint"].is_boolean()
                && hints["openWorldHint"].is_boolean()
                && hints["title"].is_string(),
            "{tool}"
        );
        assert!(tool["description"].as_str().unwrap().len() > 20, "{tool}");
    }
}

/// A page with the markup that the vendors document, and a stand-in for their scripts. What the page makes of an answer:
/// `stands`, `leaves`, `removes` the widget, `resets` it; `silent` pages have no callback.
fn widget_page(kind: &str, mode: &str) -> String {
    let back = if mode == "silent" {
        ""
    } else {
        "data-callback=solved"
    };
    let explicit = if mode == "silent" {
        ""
    } else {
        ", callback: token => solved(token)"
    };
    let recaptcha = "6LfD3PIbAAAAAJs_eEHvoOl75_83eXSqpPSRFJ_u";
    let body = match kind {
        "v2" => format!("<form id=f><div class=g-recaptcha data-sitekey={recaptcha} {back}></div>
            <textarea name=g-recaptcha-response id=g-recaptcha-response style='display:none'></textarea></form>"),
        "v2-invisible" => format!("<button class=g-recaptcha data-sitekey={recaptcha} data-size=invisible {back}>Go</button>"),
        "v2-explicit" => format!("<div id=w></div><textarea name=g-recaptcha-response style='display:none'></textarea><script>
            window.grecaptcha = {{ render(element, options) {{ document.getElementById('w').textContent = 'rendered'; }} }};
            setTimeout(() => grecaptcha.render('w', {{ sitekey: '{recaptcha}'{explicit} }}));</script>"),
        "hcaptcha" => format!("<form><div class=h-captcha data-sitekey=10000000-ffff-ffff-ffff-000000000001 {back}></div></form>"),
        "turnstile" => format!("<div class=cf-turnstile data-sitekey=0x4AAAAAAAA1234567 data-action=login data-cdata=c1 {back}></div><input type=hidden name=cf-turnstile-response>"),
        "explicit" => format!("<div id=w></div><input type=hidden name=cf-turnstile-response><script>
            window.turnstile = {{ render(element, options) {{ document.getElementById('w').textContent = 'rendered'; }} }};
            setTimeout(() => turnstile.render('#w', {{ sitekey: '0x4AAAAAAAA7654321'{explicit} }}));</script>"),
        "v3" => "<script src='https://www.google.com/recaptcha/api.js?render=6LfD3PIbAAAAAJs_eEHvoOl75_v3key'></script><input type=hidden name=g-recaptcha-response>".to_owned(),
        "framed" => "<h1>Framed</h1><iframe src='/v2/stands'></iframe>".to_owned(),
        "shadow" => "<div id=host></div><script>host.attachShadow({ mode: 'open' }).innerHTML =
            '<form><div class=h-captcha data-sitekey=10000000-ffff-ffff-ffff-000000000001></div><textarea name=h-captcha-response></textarea></form>'</script>".to_owned(),
        "other" => "<h1>Other</h1><div class=frc-captcha></div><div class=geetest_captcha></div>".to_owned(),
        "picture" => "<form><img id=captcha-image alt=captcha width=120 height=40 src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>
            <input name=captcha_answer></form>".to_owned(),
        _ => "<p>nothing here</p>".to_owned(),
    };
    let then = match mode {
        "leaves" => "location.href = '/none/stands'",
        "removes" => {
            "document.querySelectorAll('.g-recaptcha, .h-captcha, .cf-turnstile').forEach(w => w.remove())"
        }
        "resets" => "document.querySelectorAll('[name$=-response]').forEach(f => { f.value = '' })",
        _ => "",
    };
    format!(
        "<!doctype html><title>{kind}</title><p id=out></p><script>function solved(t) {{ document.getElementById('out').textContent = 'token ' + t; {then} }}</script>{body}"
    )
}

async fn widgets() -> Site {
    use axum::{Router, extract::Path, response::Html, routing::get};
    let site = site().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app =
        Router::new().route(
            "/{kind}/{mode}",
            get(|Path((kind, mode)): Path<(String, String)>| async move {
                Html(widget_page(&kind, &mode))
            }),
        );
    tokio::spawn(async move { axum::serve(listener, app).await });
    Site {
        origin: format!("http://127.0.0.1:{port}"),
        port,
        ..site
    }
}

/// Solves everything, and writes down what it was asked and told.
#[derive(Debug, Default)]
struct Fake {
    asked: Mutex<Vec<Challenge>>,
    told: Mutex<Vec<Verdict>>,
    fails: bool,
}

#[async_trait::async_trait]
impl Solver for Fake {
    fn name(&self) -> &str {
        "fake"
    }
    fn price(&self, _: Kind) -> Option<Amount> {
        Some(Amount::micros(1000))
    }
    async fn solve(&self, challenge: &Challenge) -> Result<Solution, CaptchaError> {
        self.asked.lock().unwrap().push(challenge.clone());
        match self.fails {
            true => Err(CaptchaError::new(CaptchaErrorKind::Unsolvable, "could not")),
            false => Ok(Solution::new(
                challenge.kind(),
                "t0ken",
                "fake",
                TaskId::Number(1),
            )),
        }
    }
    async fn balance(&self) -> Result<Vec<Balance>, CaptchaError> {
        Ok(Vec::new())
    }
    async fn report(&self, _: &Solution, verdict: Verdict) -> Result<Reported, CaptchaError> {
        self.told.lock().unwrap().push(verdict);
        Ok(Reported::Recorded)
    }
}

fn with_captcha(site: &Site, solver: Option<Arc<Fake>>) -> BrowserTools {
    let sites = Sites::only([site.origin.as_str()]).unwrap();
    let captcha = solver.map(|solver| Captcha::new(solver).with_sites(sites.clone()));
    let config = config(&[site])
        .with_captcha_callbacks()
        .with_settle_timeout(Duration::from_millis(500));
    BrowserTools::new(service(config)).with_captcha(captcha, sites)
}

/// Every kind of widget, what its page makes of an answer, and what is said and reported then.
const OUTCOMES: [(&str, &str, &str, &str); 17] = [
    ("v2", "stands", "recaptcha_v2", "accepted"),
    ("v2", "leaves", "recaptcha_v2", "accepted"),
    ("v2", "removes", "recaptcha_v2", "accepted"),
    ("v2", "resets", "recaptcha_v2", "rejected"),
    ("v2", "silent", "recaptcha_v2", "unknown"),
    ("v2-invisible", "stands", "recaptcha_v2", "accepted"),
    ("v2-explicit", "stands", "recaptcha_v2", "accepted"),
    ("v2-explicit", "resets", "recaptcha_v2", "rejected"),
    ("v3", "silent", "recaptcha_v3", "unknown"),
    ("hcaptcha", "stands", "hcaptcha", "accepted"),
    ("hcaptcha", "resets", "hcaptcha", "rejected"),
    ("hcaptcha", "silent", "hcaptcha", "unknown"),
    ("turnstile", "stands", "turnstile", "accepted"),
    ("turnstile", "resets", "turnstile", "rejected"),
    ("turnstile", "silent", "turnstile", "unknown"),
    ("explicit", "stands", "turnstile", "accepted"),
    ("picture", "silent", "image", "unknown"),
];

#[tokio::test(flavor = "multi_thread")]
async fn captchas_are_detected_solved_submitted_and_checked() {
    let site = widgets().await;
    let fake = Arc::new(Fake::default());
    let tools = with_captcha(&site, Some(fake.clone()));
    let seam = serve(tools.clone()).into_service();
    let local = Principal::local();
    let id = open(&seam, &local, json!({})).await;
    let only = json!({ "session_id": id });
    for (page, mode, kind, outcome) in OUTCOMES {
        let at = format!("{page} {mode}");
        let url = site.url(&format!("/{page}/{mode}"));
        let there = json!({ "session_id": id, "url": url });
        call(&seam, &local, "browser_navigate", there).await;
        let found = call(&seam, &local, "browser_detect_captcha", only.clone()).await;
        let found = &found["structuredContent"]["captchas"];
        assert_eq!(
            (found.as_array().unwrap().len(), &found[0]["kind"]),
            (1, &json!(kind)),
            "{at}: {found}"
        );
        assert_eq!(found[0]["invisible"], page == "v2-invisible", "{at}");
        let solved = call(&seam, &local, "browser_solve_captcha", only.clone()).await;
        assert_eq!(
            solved["structuredContent"]["outcome"], outcome,
            "{at}: {solved}"
        );
        assert_eq!(solved["isError"] == true, outcome == "rejected", "{at}");
        if mode == "stands" {
            let out = json!({ "session_id": id, "action": "extract", "selector": "#out" });
            let out = call(&seam, &local, "browser_interact", out).await;
            assert_eq!(text(&out), "token t0ken", "{at}");
        }
        let told = std::mem::take(&mut *fake.told.lock().unwrap());
        let expected = match outcome {
            "accepted" => vec![Verdict::Correct],
            "rejected" => vec![Verdict::Incorrect],
            _ => Vec::new(),
        };
        assert_eq!(told, expected, "{at}");
        match fake.asked.lock().unwrap().last().unwrap().clone() {
            Challenge::Image(image) => assert!(image.image.starts_with(b"\x89PNG")),
            Challenge::Token(asked) => {
                assert_eq!(
                    (&asked.page_url, &json!(asked.site_key)),
                    (&url, &found[0]["site_key"])
                );
                if page == "turnstile" {
                    assert_eq!(
                        (asked.action.as_deref(), asked.cdata.as_deref()),
                        (Some("login"), Some("c1"))
                    );
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let there = json!({ "session_id": id, "url": site.url("/none/stands") });
    call(&seam, &local, "browser_navigate", there).await;
    let none = call(&seam, &local, "browser_detect_captcha", only.clone()).await;
    assert!(text(&none).contains("no captcha"));
    let none = call(&seam, &local, "browser_solve_captcha", only).await;
    assert_eq!(none["structuredContent"]["error"], "invalid_input");
    tools.service().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captchas_in_frames_and_shadow_roots_are_found_and_others_are_named() {
    let site = widgets().await;
    let fake = Arc::new(Fake::default());
    let tools = with_captcha(&site, Some(fake.clone()));
    let seam = serve(tools.clone()).into_service();
    let local = Principal::local();
    let id = open(&seam, &local, json!({})).await;
    let only = json!({ "session_id": id });
    for (page, kind, outcome) in [
        ("framed", "recaptcha_v2", "accepted"),
        ("shadow", "hcaptcha", "unknown"),
    ] {
        let url = site.url(&format!("/{page}/silent"));
        let there = json!({ "session_id": id, "url": url });
        call(&seam, &local, "browser_navigate", there).await;
        let found = call(&seam, &local, "browser_detect_captcha", only.clone()).await;
        let found = &found["structuredContent"]["captchas"];
        assert_eq!(found[0]["kind"], kind, "{page}: {found}");
        let solved = call(&seam, &local, "browser_solve_captcha", only.clone()).await;
        assert_eq!(
            solved["structuredContent"]["outcome"], outcome,
            "{page}: {solved}"
        );
        let Challenge::Token(asked) = fake.asked.lock().unwrap().last().unwrap().clone() else {
            panic!("{page}");
        };
        let of = if page == "framed" {
            site.url("/v2/stands")
        } else {
            url
        };
        assert_eq!(asked.page_url, of);
        // The session's own, not one that was asked for.
        assert!(asked.user_agent.unwrap().contains("HeadlessChrome/"));
    }
    let there = json!({ "session_id": id, "url": site.url("/other/silent") });
    call(&seam, &local, "browser_navigate", there).await;
    let found = call(&seam, &local, "browser_detect_captcha", only).await;
    assert_eq!(
        found["structuredContent"]["others"],
        json!(["Friendly Captcha", "GeeTest"]),
        "{found}"
    );
    tools.service().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captchas_of_other_sites_are_left_alone() {
    let site = widgets().await;
    let fake = Arc::new(Fake::default());
    let sites = Sites::only(["https://elsewhere.example"]).unwrap();
    let captcha =
        Captcha::new(fake.clone()).with_sites(Sites::only([site.origin.as_str()]).unwrap());
    let tools = BrowserTools::new(service(config(&[&site]))).with_captcha(Some(captcha), sites);
    let seam = serve(tools.clone()).into_service();
    let id = open(&seam, &Principal::local(), json!({})).await;
    call(
        &seam,
        &Principal::local(),
        "browser_navigate",
        json!({ "session_id": id, "url": site.url("/v2/stands") }),
    )
    .await;
    let refused = call(
        &seam,
        &Principal::local(),
        "browser_solve_captcha",
        json!({ "session_id": id }),
    )
    .await;
    assert_eq!(refused["structuredContent"]["error"], "denied", "{refused}");
    assert!(fake.asked.lock().unwrap().is_empty());
    tools.service().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateless_client_is_asked_by_result_when_no_service_is_there() {
    let site = widgets().await;
    let tools = with_captcha(&site, None);
    let seam = serve(tools.clone()).into_service();
    let local = Principal::local();
    let id = open(&seam, &local, json!({})).await;
    call(
        &seam,
        &local,
        "browser_navigate",
        json!({ "session_id": id, "url": site.url("/picture/silent") }),
    )
    .await;
    let asked = call(
        &seam,
        &local,
        "browser_solve_captcha",
        json!({ "session_id": id }),
    )
    .await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let question = &asked["inputRequests"]["captcha"]["params"];
    let message = question["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("browser://{id}/captcha.png"))
            && message.contains("data:image/png;base64,iVBOR"),
        "{message}"
    );
    let params = json!({ "name": "browser_solve_captcha", "arguments": { "session_id": id },
        "inputResponses": { "captcha": { "action": "accept", "content": { "answer": "k7x" } } },
        "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} } } });
    let request = Request::new(Method::TOOLS_CALL, Some(Json::encode(&params).unwrap()))
        .unwrap()
        .with_principal(local.clone());
    let solved: Value = seam
        .clone()
        .oneshot(request)
        .await
        .unwrap()
        .decode()
        .unwrap();
    assert_eq!(
        solved["structuredContent"]["outcome"], "unknown",
        "{solved}"
    );
    let value = call(
        &seam,
        &local,
        "browser_interact",
        json!({ "session_id": id, "action": "extract", "selector": "[name=captcha_answer]" }),
    )
    .await;
    assert_eq!(text(&value), "k7x");
    // A widget needs a window, and there is none.
    call(
        &seam,
        &local,
        "browser_navigate",
        json!({ "session_id": id, "url": site.url("/v2/stands") }),
    )
    .await;
    let refused = call(
        &seam,
        &local,
        "browser_solve_captcha",
        json!({ "session_id": id }),
    )
    .await;
    assert!(
        refused["isError"] == true && text(&refused).contains("headed"),
        "{refused}"
    );
    tools.service().shutdown().await;
}

/// A client of the session era whose user answers questions.
#[derive(Clone, Default)]
struct Person(Arc<Mutex<Vec<String>>>);

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_elicitation().build();
        ClientConfig::new(capabilities, Implementation::new("person", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, rmcp::ErrorData> {
        self.0.lock().unwrap().push(format!("{request:?}"));
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "answer": "q9z" })))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_asked_when_services_fail() {
    let site = widgets().await;
    let fake = Arc::new(Fake {
        fails: true,
        ..Fake::default()
    });
    let tools = with_captcha(&site, Some(fake.clone()));
    let person = Person::default();
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let served = serve(tools.clone()).into_service();
    tokio::spawn(async move {
        RmcpServer::new(served, Principal::local())
            .serve(theirs)
            .await
            .unwrap()
            .waiting()
            .await
    });
    let client = person.clone().serve(ours).await.unwrap();
    let call = |tool: &'static str, arguments: Value| {
        client.call_tool(
            CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone()),
        )
    };
    let made = call("browser_create_session", json!({})).await.unwrap();
    let id = made.structured_content.unwrap()["session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    call(
        "browser_navigate",
        json!({ "session_id": id, "url": site.url("/picture/silent") }),
    )
    .await
    .unwrap();
    let solved = call("browser_solve_captcha", json!({ "session_id": id }))
        .await
        .unwrap();
    assert_eq!(solved.structured_content.unwrap()["outcome"], "unknown");
    assert_eq!(
        fake.asked.lock().unwrap().len(),
        1,
        "the service was tried first"
    );
    assert_eq!(person.0.lock().unwrap().len(), 1);
    let value = call(
        "browser_interact",
        json!({ "session_id": id, "action": "extract", "selector": "[name=captcha_answer]" }),
    )
    .await
    .unwrap();
    assert_eq!(value.content[0].as_text().unwrap().text, "q9z");
    tools.service().shutdown().await;
}
