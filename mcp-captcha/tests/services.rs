//! Clients against servers that follow the services' protocols, faults included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use mcp_captcha::{
    Captcha, CaptchaErrorKind as K, Challenge, Charset, Failover, ImageChallenge, Kind, Limits,
    MinScore, Polling, Preference, Reported, RetryAdvice, Sites, Solver, Spending, TaskId,
    TaskProxy, TokenChallenge, Vendor, VendorClient, Verdict,
};
use mcp_core::{
    Amount, ErrorKind, MemoryAudit, Principal,
    store::{MemoryStore, Namespace, RedbStore},
};
use serde_json::{Value, json};
use support::{KEY, Say, Script, fixture, say, serve};

const PAGE: &str = "https://shop.example/login";
const SITEKEY: &str = "6LfD3PIbAAAAAJs_eEHvoOl75_83eXSqpPSRFJ_u";

fn token(kind: Kind) -> TokenChallenge {
    TokenChallenge::new(kind, SITEKEY, PAGE)
}

fn picture() -> ImageChallenge {
    ImageChallenge::new(b"\x89PNG\r\n\x1a\nnot much of a picture".as_slice())
}

const VENDORS: [(Vendor, &str); 3] = [
    (Vendor::TwoCaptcha, "2captcha"),
    (Vendor::AntiCaptcha, "anti-captcha"),
    (Vendor::CapSolver, "capsolver"),
];

fn happy(name: &str) -> Script {
    let f = |what: &str| say(&format!("{name}.{what}"));
    Script::default()
        .on("createTask", [f("create")])
        .on("getTaskResult", [f("processing"), f("ready-token")])
        .on("getBalance", [f("balance")])
}

#[tokio::test]
async fn each_service_solves_a_token() {
    for (vendor, name) in VENDORS {
        let (client, script) = serve(vendor, happy(name)).await;
        let solution = client
            .solve(&token(Kind::RecaptchaV2).into())
            .await
            .unwrap();
        let expected: Value =
            serde_json::from_str(&fixture(&format!("{name}.ready-token"))).unwrap();
        assert_eq!(
            solution.answer, expected["solution"]["gRecaptchaResponse"],
            "{name}"
        );
        assert_eq!(script.count("createTask"), 1);
        assert_eq!(script.count("getTaskResult"), 2);
        let asked = script.last("getTaskResult");
        assert_eq!(asked["clientKey"], KEY);
        let created: Value = serde_json::from_str(&fixture(&format!("{name}.create"))).unwrap();
        assert_eq!(
            asked["taskId"], created["taskId"],
            "{name} gets its id back in its own type"
        );
        let (micros, reported) = match vendor {
            Vendor::TwoCaptcha => (2990, true),
            Vendor::AntiCaptcha => (1500, true),
            _ => (3000, false),
        };
        assert_eq!(
            (solution.spent, solution.cost_is_reported),
            (Amount::micros(micros), reported),
            "{name}"
        );
        assert_eq!(solution.user_agent.is_some(), vendor != Vendor::TwoCaptcha);
        assert!(!format!("{client:?} {solution:?}").contains(&solution.answer));
        assert!(!format!("{client:?}").contains(KEY));
    }
}

#[tokio::test]
async fn capsolver_may_answer_a_picture_at_once_and_idle_is_not_ready() {
    let script = Script::default().on("createTask", [say("capsolver.create-ready")]);
    let (client, script) = serve(Vendor::CapSolver, script).await;
    let solution = client.solve(&picture().into()).await.unwrap();
    assert_eq!(solution.answer, "44795sds");
    assert_eq!(script.count("getTaskResult"), 0);
    let idle = Script::default()
        .on("createTask", [say("capsolver.create")])
        .on(
            "getTaskResult",
            [
                say("capsolver.idle"),
                say("capsolver.processing"),
                say("capsolver.ready-token"),
            ],
        );
    let (client, script) = serve(Vendor::CapSolver, idle).await;
    client.solve(&token(Kind::Turnstile).into()).await.unwrap();
    assert_eq!(script.count("getTaskResult"), 3);
}

async fn task_of(vendor: Vendor, name: &str, challenge: impl Into<Challenge>) -> Value {
    let (client, script) = serve(vendor, happy(name)).await;
    client.solve(&challenge.into()).await.unwrap();
    let sent = script.last("createTask");
    assert_eq!(sent["clientKey"], KEY);
    sent["task"].clone()
}

#[tokio::test]
async fn bodies_are_as_the_services_document_them() {
    let mut v3 = token(Kind::RecaptchaV3);
    (v3.min_score, v3.action, v3.enterprise) = (MinScore::Middle, Some("login".into()), true);
    let mut turnstile = token(Kind::Turnstile);
    (turnstile.action, turnstile.cdata, turnstile.page_data) =
        (Some("a".into()), Some("c".into()), Some("p".into()));
    let mut invisible = token(Kind::RecaptchaV2);
    (invisible.invisible, invisible.data_s) = (true, Some("s".into()));
    let mut proxied = token(Kind::RecaptchaV2);
    let mut proxy = TaskProxy::new("http", "192.0.2.7", 3128);
    proxy.login = Some(("u".into(), mcp_core::secret::Secret::new("p")));
    (proxied.enterprise, proxied.proxy) = (true, Some(proxy));
    let base = |kind: &str, more: Value| {
        let mut task = json!({ "type": kind, "websiteURL": PAGE, "websiteKey": SITEKEY });
        task.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        task
    };
    let proxy_fields = json!({ "proxyType": "http", "proxyAddress": "192.0.2.7", "proxyPort": 3128,
        "proxyLogin": "u", "proxyPassword": "p" });
    let cases: Vec<(Vendor, TokenChallenge, Value)> = vec![
        (
            Vendor::TwoCaptcha,
            v3.clone(),
            base(
                "RecaptchaV3TaskProxyless",
                json!({ "minScore": 0.7, "pageAction": "login", "isEnterprise": true }),
            ),
        ),
        (
            Vendor::AntiCaptcha,
            v3.clone(),
            base(
                "RecaptchaV3TaskProxyless",
                json!({ "minScore": 0.7, "pageAction": "login", "isEnterprise": true }),
            ),
        ),
        (
            Vendor::CapSolver,
            v3,
            base(
                "ReCaptchaV3EnterpriseTaskProxyLess",
                json!({ "pageAction": "login" }),
            ),
        ),
        (
            Vendor::TwoCaptcha,
            turnstile.clone(),
            base(
                "TurnstileTaskProxyless",
                json!({ "action": "a", "data": "c", "pagedata": "p" }),
            ),
        ),
        (
            Vendor::AntiCaptcha,
            turnstile.clone(),
            base(
                "TurnstileTaskProxyless",
                json!({ "action": "a", "cData": "c", "chlPageData": "p" }),
            ),
        ),
        (
            Vendor::CapSolver,
            turnstile,
            base(
                "AntiTurnstileTaskProxyLess",
                json!({ "metadata": { "action": "a", "cdata": "c" } }),
            ),
        ),
        (
            Vendor::TwoCaptcha,
            invisible.clone(),
            base(
                "RecaptchaV2TaskProxyless",
                json!({ "isInvisible": true, "recaptchaDataSValue": "s" }),
            ),
        ),
        (
            Vendor::CapSolver,
            invisible,
            base(
                "ReCaptchaV2TaskProxyLess",
                json!({ "isInvisible": true, "recaptchaDataSValue": "s" }),
            ),
        ),
        (
            Vendor::AntiCaptcha,
            proxied.clone(),
            base("RecaptchaV2EnterpriseTask", proxy_fields),
        ),
        (
            Vendor::CapSolver,
            proxied,
            base(
                "ReCaptchaV2EnterpriseTask",
                json!({ "proxy": "http:192.0.2.7:3128:u:p" }),
            ),
        ),
        (
            Vendor::TwoCaptcha,
            token(Kind::HCaptcha),
            base("HCaptchaTaskProxyless", json!({})),
        ),
    ];
    for (vendor, challenge, expected) in cases {
        let name = VENDORS
            .iter()
            .find(|(other, _)| *other == vendor)
            .unwrap()
            .1;
        assert_eq!(task_of(vendor, name, challenge).await, expected, "{name}");
    }
    let mut image = picture();
    (image.charset, image.max_length, image.comment) = (Charset::Digits, 6, Some("digits".into()));
    let script = Script::default()
        .on("createTask", [say("anti-captcha.create")])
        .on("getTaskResult", [say("anti-captcha.ready-image")]);
    let (client, script) = serve(Vendor::AntiCaptcha, script).await;
    assert_eq!(client.solve(&image.into()).await.unwrap().answer, "deditur");
    let task = script.last("createTask")["task"].clone();
    assert_eq!(
        (
            &task["type"],
            &task["numeric"],
            &task["maxLength"],
            &task["comment"]
        ),
        (
            &json!("ImageToTextTask"),
            &json!(1),
            &json!(6),
            &json!("digits")
        )
    );
    assert!(
        task["body"].as_str().unwrap().starts_with("iVBOR"),
        "bare base64"
    );
}

#[tokio::test]
async fn what_a_service_does_not_offer_costs_nothing() {
    for (vendor, name) in [
        (Vendor::CapSolver, "capsolver"),
        (Vendor::AntiCaptcha, "anti-captcha"),
    ] {
        let (client, script) = serve(vendor, happy(name)).await;
        let error = client
            .solve(&token(Kind::HCaptcha).into())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.spent()),
            (K::Unsupported, Amount::ZERO)
        );
        assert_eq!(script.count("createTask"), 0);
    }
}

#[tokio::test]
async fn unsolvable_is_charged_as_the_service_says() {
    for (vendor, name) in VENDORS {
        let script = Script::default()
            .on("createTask", [say(&format!("{name}.create"))])
            .on("getTaskResult", [say(&format!("{name}.unsolvable"))]);
        let (client, _) = serve(vendor, script).await;
        let error = client
            .solve(&token(Kind::RecaptchaV2).into())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (K::Unsolvable, RetryAdvice::Elsewhere),
            "{name}"
        );
        assert_eq!(
            error.spent() > Amount::ZERO,
            vendor == Vendor::AntiCaptcha,
            "{name}"
        );
        assert!(error.code().unwrap().starts_with("ERROR_"));
    }
}

#[tokio::test]
async fn a_broken_connection_never_buys_twice() {
    let script = Script::default().on("createTask", [Say::Hang(Duration::from_secs(5))]);
    let (client, script) = serve(Vendor::TwoCaptcha, script).await;
    let error = client
        .solve(&token(Kind::Turnstile).into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::Timeout);
    assert_eq!(
        error.spent(),
        client.price(Kind::Turnstile).unwrap(),
        "it may have been charged"
    );
    assert_eq!(script.count("createTask"), 1);
    // A server that is not there has taken nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = support::client(Vendor::TwoCaptcha, &gone)
        .solve(&token(Kind::Turnstile).into())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.spent()),
        (K::Unreachable, Amount::ZERO)
    );
}

#[tokio::test]
async fn html_and_nonsense_are_said_to_be_so() {
    let nonsense = [
        (Say::Html(200), "web page"),
        (Say::Html(503), "out of order"),
        (Say::Json("OK|2122988149".into()), "not JSON"),
        (Say::Json("{}".into()), "errorId"),
        (Say::Json(r#"{"errorId":0}"#.into()), "no id"),
        (Say::Json(" ".repeat(300_000)), "too long"),
    ];
    for (answer, expected) in nonsense {
        let (client, script) = serve(
            Vendor::TwoCaptcha,
            Script::default().on("createTask", [answer]),
        )
        .await;
        let error = client
            .solve(&token(Kind::Turnstile).into())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), K::BadAnswer, "{error}");
        assert!(error.to_string().contains(expected), "{error} / {expected}");
        assert!(!format!("{error:?}").contains(KEY));
        assert_eq!(script.count("createTask"), 1);
    }
    let unknown = Say::Status(400, r#"{"errorId":1,"errorCode":"ERROR_BRAND_NEW"}"#.into());
    let (client, _) = serve(
        Vendor::CapSolver,
        Script::default().on("createTask", [unknown]),
    )
    .await;
    let error = client
        .solve(&token(Kind::Turnstile).into())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (K::UnknownCode, Some("ERROR_BRAND_NEW"))
    );
    let empty = Say::Json(
        r#"{"errorId":0,"status":"ready","solution":{"token":" "},"cost":"0.002"}"#.into(),
    );
    let script = Script::default()
        .on("createTask", [say("2captcha.create")])
        .on("getTaskResult", [empty]);
    let error = serve(Vendor::TwoCaptcha, script)
        .await
        .0
        .solve(&token(Kind::Turnstile).into())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.spent()),
        (K::BadAnswer, Amount::micros(2000))
    );
}

#[tokio::test]
async fn a_state_that_is_in_no_document_ends_the_wait() {
    let failed = Say::Json(r#"{"errorId":0,"status":"failed"}"#.into());
    let script = Script::default()
        .on("createTask", [say("capsolver.create")])
        .on("getTaskResult", [failed]);
    let (client, script) = serve(Vendor::CapSolver, script).await;
    let solved = client.solve(&token(Kind::Turnstile).into()).await;
    assert_eq!(solved.unwrap_err().kind(), K::UnknownCode);
    assert_eq!(script.count("getTaskResult"), 1, "it is asked once");
}

#[tokio::test]
async fn a_query_that_fails_on_the_way_is_asked_again_and_counts() {
    let script = Script::default()
        .on("createTask", [say("2captcha.create")])
        .on(
            "getTaskResult",
            [
                Say::Html(502),
                Say::Json("?".into()),
                say("2captcha.ready-token"),
            ],
        );
    let (client, script) = serve(Vendor::TwoCaptcha, script).await;
    client.solve(&token(Kind::Turnstile).into()).await.unwrap();
    assert_eq!(script.count("getTaskResult"), 3);
}

#[tokio::test]
async fn a_service_that_never_solves_is_given_up() {
    let script = Script::default()
        .on("createTask", [say("2captcha.create")])
        .on("getTaskResult", [say("2captcha.processing")]);
    let (client, script) = serve(Vendor::TwoCaptcha, script).await;
    let error = client
        .solve(&token(Kind::Turnstile).into())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), script.count("getTaskResult")),
        (K::Timeout, 20)
    );
    assert_eq!(error.spent(), client.price(Kind::Turnstile).unwrap());
}

#[tokio::test]
async fn a_refused_key_is_not_sent_again_for_a_while() {
    let (client, script) = serve(
        Vendor::AntiCaptcha,
        Script::default().on("createTask", [say("key")]),
    )
    .await;
    for _ in 0..5 {
        let error = client
            .solve(&token(Kind::Turnstile).into())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (K::KeyRefused, RetryAdvice::Elsewhere)
        );
    }
    assert_eq!(
        script.count("createTask"),
        1,
        "services ban who repeats a request that fails"
    );
}

#[tokio::test]
async fn balance_is_asked_once_in_half_a_minute_and_may_be_a_text() {
    for ((vendor, name), micros) in VENDORS
        .into_iter()
        .zip([1_234_500, 12_345_600, 1_007_100_000])
    {
        let (client, script) = serve(vendor, happy(name)).await;
        for _ in 0..3 {
            let balance = client.balance().await.unwrap();
            assert_eq!(
                (balance[0].service.as_str(), balance[0].amount),
                (name, Amount::micros(micros))
            );
        }
        assert_eq!(script.count("getBalance"), 1);
    }
}

#[tokio::test]
async fn reports_go_where_the_service_takes_them() {
    let cases = [
        (
            Vendor::TwoCaptcha,
            "2captcha",
            Kind::Turnstile,
            Verdict::Incorrect,
            Some("reportIncorrect"),
        ),
        (
            Vendor::TwoCaptcha,
            "2captcha",
            Kind::RecaptchaV2,
            Verdict::Correct,
            Some("reportCorrect"),
        ),
        (
            Vendor::AntiCaptcha,
            "anti-captcha",
            Kind::RecaptchaV3,
            Verdict::Incorrect,
            Some("reportIncorrectRecaptcha"),
        ),
        (
            Vendor::AntiCaptcha,
            "anti-captcha",
            Kind::RecaptchaV2,
            Verdict::Correct,
            Some("reportCorrectRecaptcha"),
        ),
        (
            Vendor::AntiCaptcha,
            "anti-captcha",
            Kind::Turnstile,
            Verdict::Incorrect,
            None,
        ),
        (
            Vendor::CapSolver,
            "capsolver",
            Kind::Turnstile,
            Verdict::Incorrect,
            Some("feedbackTask"),
        ),
    ];
    for (vendor, name, kind, verdict, method) in cases {
        let mut script = happy(name);
        if let Some(method) = method {
            script = script.on(method, [say(&format!("{name}.report"))]);
        }
        let (client, script) = serve(vendor, script).await;
        let solution = client.solve(&token(kind).into()).await.unwrap();
        let reported = client.report(&solution, verdict).await.unwrap();
        match method {
            None => assert_eq!(reported, Reported::NotOffered),
            Some(method) => {
                assert_eq!(reported, Reported::Recorded);
                let sent = script.last(method);
                assert_eq!(
                    sent["taskId"],
                    serde_json::to_value(&solution.task).unwrap()
                );
                assert_eq!(sent["clientKey"], KEY);
                if vendor == Vendor::CapSolver {
                    assert_eq!(sent["result"], json!({ "invalid": true }));
                }
            }
        }
    }
    let script = happy("2captcha").on("reportIncorrect", [say("2captcha.not-recorded")]);
    let (client, _) = serve(Vendor::TwoCaptcha, script).await;
    let solution = client.solve(&token(Kind::Turnstile).into()).await.unwrap();
    assert_eq!(
        client
            .report(&solution, Verdict::Incorrect)
            .await
            .unwrap_err()
            .kind(),
        K::NotRecorded
    );
}

/// Answers at once whatever it is asked, in the time of a paused clock.
#[derive(Debug, Default)]
struct Timed {
    queries: std::sync::Mutex<Vec<tokio::time::Instant>>,
}

#[async_trait::async_trait]
impl mcp_core::http_client::HttpClient for Timed {
    async fn send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<mcp_core::http_client::ResponseBody>, mcp_core::http_client::HttpError>
    {
        let mut queries = self.queries.lock().unwrap();
        queries.push(tokio::time::Instant::now());
        let text = match request.uri().path() {
            "/createTask" => fixture("capsolver.create"),
            _ => fixture("capsolver.processing"),
        };
        Ok(http::Response::new(bytes::Bytes::from(text).into()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_stated_intervals_are_kept() {
    for (vendor, first, every, most, limit) in [
        (Vendor::TwoCaptcha, 5, 5, 60, 300),
        (Vendor::AntiCaptcha, 5, 5, 60, 300),
        (Vendor::CapSolver, 3, 3, 120, 120),
    ] {
        let http = Arc::new(Timed::default());
        let client = VendorClient::new(vendor, http.clone(), mcp_core::secret::Secret::new(KEY));
        let error = client
            .solve(&token(Kind::Turnstile).into())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), K::Timeout);
        let times = http.queries.lock().unwrap().clone();
        assert!(
            times.len() - 1 <= most,
            "{vendor:?} was asked {} times",
            times.len() - 1
        );
        assert!(times[1] - times[0] >= Duration::from_secs(first));
        for pair in times[1..].windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_secs(every));
        }
        assert!(*times.last().unwrap() - times[0] <= Duration::from_secs(limit));
        let faster = Polling::new(
            Duration::from_secs(1),
            Duration::from_secs(1),
            10,
            Duration::from_secs(60),
        )
        .unwrap();
        assert!(
            client.with_polling(faster).is_err(),
            "not at the vendor's own address"
        );
    }
}

#[tokio::test]
async fn a_thousand_solves_at_once_share_one_pool() {
    let (client, script) = serve(
        Vendor::CapSolver,
        happy("capsolver").on("getTaskResult", [say("capsolver.ready-token")]),
    )
    .await;
    let ms = Duration::from_millis;
    let client = client
        .with_polling(Polling::new(ms(20), ms(50), 20, ms(60_000)).unwrap())
        .unwrap();
    let solves = (0..1000).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.solve(&token(Kind::Turnstile).into()).await })
    });
    for solve in solves.collect::<Vec<_>>() {
        solve.await.unwrap().unwrap();
    }
    assert_eq!(
        (script.count("createTask"), script.count("getTaskResult")),
        (1000, 1000)
    );
    // 64 requests at once; a connection may be made while another becomes free.
    let connections = script.connections.load(Ordering::Relaxed);
    assert!(connections <= 128, "{connections} connections");
}

fn captcha(client: impl Solver, spending: Spending) -> Captcha {
    Captcha::new(Arc::new(client))
        .with_sites(Sites::only(["https://shop.example"]).unwrap())
        .with_spending(spending)
}

fn namespace() -> Namespace {
    Namespace::new("captcha").unwrap()
}

#[tokio::test]
async fn limits_refuse_before_anything_is_sent_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.redb");
    let (alice, bob) = (
        Principal::authenticated("i", "alice"),
        Principal::authenticated("i", "bob"),
    );
    let limits = |store| {
        Spending::new(store, namespace())
            .with_principal_limits(Limits::new().with_day(Amount::micros(6_000)))
            .with_limits(Limits::new().with_total(Amount::micros(9_000)))
    };
    let (client, script) = serve(Vendor::TwoCaptcha, happy("2captcha")).await;
    let challenge: Challenge = token(Kind::RecaptchaV2).into();
    {
        let store = Arc::new(RedbStore::open(&file).await.unwrap());
        let captcha = captcha(client.clone(), limits(store));
        captcha.solve(&alice, &challenge).await.unwrap();
        captcha.solve(&alice, &challenge).await.unwrap();
        let spent = captcha
            .spending()
            .unwrap()
            .of(alice.partition())
            .await
            .unwrap();
        assert_eq!(
            (spent.total, spent.solves),
            (Amount::micros(5_980), 2),
            "what the service reported"
        );
    }
    let store = Arc::new(RedbStore::open(&file).await.unwrap());
    let captcha = captcha(client, limits(store));
    let error = captcha.solve(&alice, &challenge).await.unwrap_err();
    assert_eq!(error.kind(), K::BudgetExhausted);
    assert!(error.to_string().contains("this caller"), "{error}");
    captcha.solve(&bob, &challenge).await.unwrap();
    let error = captcha.solve(&bob, &challenge).await.unwrap_err();
    assert!(error.to_string().contains("all callers"), "{error}");
    assert_eq!(script.count("createTask"), 3);
    let all = captcha.spending().unwrap().all().await.unwrap();
    assert_eq!(all.total, Amount::micros(3 * 2_990));
}

#[tokio::test]
async fn a_rate_and_a_site_are_refused_and_audited() {
    let audit = Arc::new(MemoryAudit::new(std::num::NonZeroUsize::new(16).unwrap()));
    let (client, script) = serve(Vendor::TwoCaptcha, happy("2captcha")).await;
    let spending = Spending::new(Arc::new(MemoryStore::new()), namespace())
        .with_principal_limits(Limits::new().with_rate(1, Duration::from_secs(60)));
    let captcha = captcha(client, spending).with_audit(audit.clone());
    let local = Principal::local();
    captcha
        .solve(&local, &token(Kind::Turnstile).into())
        .await
        .unwrap();
    let error = captcha
        .solve(&local, &token(Kind::Turnstile).into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), K::RateLimited);
    assert!(matches!(error.retry(), RetryAdvice::After(wait) if wait <= Duration::from_secs(60)));
    let elsewhere = TokenChallenge::new(Kind::Turnstile, SITEKEY, "https://other.example/");
    let error = captcha.solve(&local, &elsewhere.into()).await.unwrap_err();
    assert_eq!(error.kind(), K::SiteNotAllowed);
    assert_eq!(script.count("createTask"), 1);
    let outcomes: Vec<String> = audit
        .events()
        .iter()
        .map(|event| format!("{:?} {:?}", event.outcome, event.target))
        .collect();
    assert_eq!(outcomes.len(), 3);
    assert!(
        outcomes[0].starts_with("Succeeded")
            && outcomes[0].contains("turnstile https://shop.example"),
        "{outcomes:?}"
    );
    assert!(
        outcomes[1].contains("rate_limited") && outcomes[2].contains("site_not_allowed"),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn concurrent_solves_never_overspend() {
    let (client, script) = serve(
        Vendor::TwoCaptcha,
        happy("2captcha").on("getTaskResult", [say("2captcha.ready-token")]),
    )
    .await;
    let spending = Spending::new(Arc::new(MemoryStore::new()), namespace())
        .with_limits(Limits::new().with_total(Amount::micros(3_000 * 10)));
    let captcha = captcha(client, spending);
    let solves: Vec<_> = (0..40)
        .map(|index| {
            let captcha = captcha.clone();
            let principal = Principal::authenticated("i", &format!("user{index}"));
            tokio::spawn(async move {
                captcha
                    .solve(&principal, &token(Kind::RecaptchaV2).into())
                    .await
                    .is_ok()
            })
        })
        .collect();
    let mut solved = 0;
    for solve in solves {
        solved += usize::from(solve.await.unwrap());
    }
    assert_eq!((solved, script.count("createTask")), (10, 10));
}

#[tokio::test]
async fn a_dropped_solve_is_booked_in_full_and_a_failed_one_as_it_cost() {
    let clock = mcp_core::clock::FakeClock::new();
    let slow = Script::default()
        .on("createTask", [say("2captcha.create")])
        .on("getTaskResult", [say("2captcha.processing")]);
    let (client, _) = serve(Vendor::TwoCaptcha, slow).await;
    let spending = Spending::new(Arc::new(MemoryStore::new()), namespace())
        .with_clock(Arc::new(clock.clone()));
    let captcha = captcha(client, spending);
    let local = Principal::local();
    let challenge = token(Kind::RecaptchaV2).into();
    let dropped =
        tokio::time::timeout(Duration::from_millis(50), captcha.solve(&local, &challenge)).await;
    assert!(dropped.is_err());
    let spent = || async {
        captcha
            .spending()
            .unwrap()
            .of(local.partition())
            .await
            .unwrap()
            .total
    };
    assert_eq!(spent().await, Amount::ZERO);
    clock.advance(Duration::from_secs(601));
    assert_eq!(spent().await, Amount::micros(3_000));
}

#[tokio::test]
async fn a_refused_account_goes_to_the_next_service_and_a_shared_budget_is_asked() {
    let no_slot = Script::default().on("createTask", [say("key")]);
    let (first, first_script) = serve(Vendor::AntiCaptcha, no_slot).await;
    let (second, _) = serve(Vendor::CapSolver, happy("capsolver")).await;
    let failover =
        Failover::new(vec![Arc::new(first), Arc::new(second)], Preference::Order).unwrap();
    let budget = Arc::new(mcp_core::MemoryBudget::new(Amount::micros(5_000)));
    let captcha = Captcha::new(Arc::new(failover))
        .with_sites(Sites::only(["https://shop.example"]).unwrap())
        .with_budget(budget);
    let challenge = token(Kind::RecaptchaV2).into();
    let local = Principal::local();
    let solution = captcha.solve(&local, &challenge).await.unwrap();
    assert_eq!(
        (solution.service.as_str(), solution.spent),
        ("capsolver", Amount::micros(3_000))
    );
    assert!(matches!(solution.task, TaskId::Text(_)));
    assert_eq!(first_script.count("createTask"), 1);
    let error = captcha.solve(&local, &challenge).await.unwrap_err();
    assert_eq!(
        error.kind(),
        K::BudgetExhausted,
        "two more solves may cost 5000"
    );
    let source = std::error::Error::source(&error)
        .unwrap()
        .downcast_ref::<mcp_core::Error>()
        .unwrap();
    assert_eq!(source.kind(), ErrorKind::BudgetExhausted);
}

#[tokio::test]
async fn a_base_address_is_checked() {
    let http = Arc::new(Timed::default());
    let client = VendorClient::new(Vendor::TwoCaptcha, http, mcp_core::secret::Secret::new(KEY));
    for bad in ["", "api.2captcha.com", "ftp://x/", "https://x/?key=1"] {
        assert!(client.clone().with_base_url(bad).is_err(), "{bad}");
    }
    assert!(
        support::client(Vendor::TwoCaptcha, "http://127.0.0.1:1/")
            .price(Kind::Image)
            .is_some()
    );
}
