//! The consent pages: forged forms, other people's links, and what a page may do.

use std::sync::Arc;

use axum::Router;
use http_body_util::BodyExt as _;
use mcp_auth::{
    consent::{ConsentPages, LinkGuard},
    oauth::{Manager, OAuthClient, Relation},
};
use mcp_core::{Principal, secret::Secret};
use tower::ServiceExt as _;

use crate::{fake::Fake, http, user, vault};

struct Site {
    fake: Fake,
    manager: Manager,
    app: Router,
}

async fn site() -> Site {
    let fake = Fake::start().await;
    let base: url::Url = "http://127.0.0.1:1/oauth".parse().unwrap();
    let server = format!("{}/mcp", fake.url).parse().unwrap();
    let relation = Relation::mcp("up", server).with_client_anywhere(OAuthClient::public("c"));
    let manager = Manager::builder(base.join("/oauth/callback").unwrap(), http(), vault().await)
        .relation(relation)
        .build()
        .unwrap();
    let guard = Arc::new(LinkGuard::new());
    let pages =
        ConsentPages::new(manager.clone(), guard, base, &Secret::new("signs forms")).unwrap();
    Site {
        fake,
        manager,
        app: pages.router(),
    }
}

pub(crate) struct Page {
    pub(crate) status: u16,
    headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn cookie(&self) -> String {
        let value = self.headers["set-cookie"].to_str().unwrap();
        assert!(
            value.contains("HttpOnly") && value.contains("SameSite=Lax"),
            "{value}"
        );
        value.split(';').next().unwrap().to_owned()
    }

    fn field(&self, name: &str) -> String {
        let start = self
            .text
            .find(&format!("name=\"{name}\" value=\""))
            .unwrap();
        let rest = &self.text[start..];
        let rest = &rest[rest.find("value=\"").unwrap() + 7..];
        rest[..rest.find('"').unwrap()].to_owned()
    }

    pub(crate) fn location(&self) -> String {
        self.headers["location"].to_str().unwrap().to_owned()
    }
}

async fn send(app: &Router, mut request: http::request::Builder, body: String) -> Page {
    if request
        .headers_ref()
        .is_some_and(|own| !own.contains_key("host"))
    {
        request = request.header("host", &OWN[7..]);
    }
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Page {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

pub(crate) async fn get(app: &Router, path: &str, cookie: Option<&str>) -> Page {
    let mut request = http::Request::get(path);
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    send(app, request, String::new()).await
}

async fn post(app: &Router, cookie: &str, origin: &str, body: String) -> Page {
    let request = http::Request::post("/oauth/start")
        .header("cookie", cookie)
        .header("origin", origin)
        .header("content-type", "application/x-www-form-urlencoded");
    send(app, request, body).await
}

const OWN: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn a_page_asks_and_its_form_leads_to_the_server() {
    let site = site().await;
    let ticket = site
        .manager
        .ticket(
            &Principal::local(),
            "up",
            &["a<b".into()],
            Some("evil\"app"),
        )
        .await
        .unwrap();
    let path = format!("/oauth/start?ticket={ticket}");
    let page = get(&site.app, &path, None).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("a&lt;b") && page.text.contains("evil&quot;app"));
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!page.text.contains("<script") && !policy.contains("unsafe"));
    assert_eq!(page.headers["x-frame-options"], "DENY");
    assert_eq!(page.headers["cache-control"], "no-store");
    let body = format!("ticket={ticket}&proof={}", page.field("proof"));
    let cookie = page.cookie();
    let gone = post(&site.app, &cookie, OWN, body.clone()).await;
    assert_eq!(gone.status, 303);
    assert!(
        gone.location()
            .starts_with(&format!("{}/authorize?", site.fake.url))
    );
    // The same form again: the ticket is used up.
    assert_eq!(post(&site.app, &cookie, OWN, body).await.status, 400);
    let state = crate::param(&crate::query(&gone.location()), "state").unwrap();
    let back = format!("/oauth/callback?state={state}&code=c");
    let other = get(
        &site.app,
        &back,
        Some("mcp-consent=aaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    )
    .await;
    assert_eq!(other.status, 400, "another browser");
    assert!(site.fake.asked().is_empty());
}

#[tokio::test]
async fn the_browser_that_was_sent_away_comes_back_to_success() {
    let site = site().await;
    let ticket = site
        .manager
        .ticket(&Principal::local(), "up", &[], None)
        .await
        .unwrap();
    let page = get(&site.app, &format!("/oauth/start?ticket={ticket}"), None).await;
    let body = format!("ticket={ticket}&proof={}", page.field("proof"));
    let gone = post(&site.app, &page.cookie(), OWN, body).await;
    let state = crate::param(&crate::query(&gone.location()), "state").unwrap();
    let path = format!("/oauth/callback?state={state}&code=c");
    let done = get(&site.app, &path, Some(&page.cookie())).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(site.manager.is_done(&ticket).await.unwrap());
    assert_eq!(
        get(&site.app, &path, Some(&page.cookie())).await.status,
        400,
        "replayed"
    );
}

#[tokio::test]
async fn check_49_nobody_is_sent_on_without_having_agreed_on_the_page() {
    let site = site().await;
    let ticket = site
        .manager
        .ticket(&Principal::local(), "up", &[], None)
        .await
        .unwrap();
    let page = get(&site.app, &format!("/oauth/start?ticket={ticket}"), None).await;
    let proof = page.field("proof");
    let good = format!("ticket={ticket}&proof={proof}");
    let stranger = "mcp-consent=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    for (what, cookie, origin, body) in [
        ("another browser", stranger, OWN, good.clone()),
        (
            "no proof",
            &*page.cookie(),
            OWN,
            format!("ticket={ticket}&proof="),
        ),
        (
            "a forged proof",
            &*page.cookie(),
            OWN,
            format!("ticket={ticket}&proof=AAAA"),
        ),
        (
            "a foreign page",
            &*page.cookie(),
            "https://evil.example",
            good.clone(),
        ),
        ("no cookie", "x=y", OWN, good.clone()),
    ] {
        assert_eq!(
            post(&site.app, cookie, origin, body).await.status,
            403,
            "{what}"
        );
    }
    // The proof of one ticket is not one of another.
    let other = site
        .manager
        .ticket(&Principal::local(), "up", &[], None)
        .await
        .unwrap();
    let body = format!("ticket={other}&proof={proof}");
    assert_eq!(post(&site.app, &page.cookie(), OWN, body).await.status, 403);
    assert_eq!(post(&site.app, &page.cookie(), OWN, good).await.status, 303);
}

#[tokio::test]
async fn a_link_for_somebody_who_has_logged_in_is_not_for_whoever_has_it() {
    let site = site().await;
    let ticket = site
        .manager
        .ticket(&user("alice"), "up", &[], None)
        .await
        .unwrap();
    let page = get(&site.app, &format!("/oauth/start?ticket={ticket}"), None).await;
    assert_eq!(page.status, 403);
    assert!(!page.text.contains("alice"));
    for path in [
        "/oauth/start",
        "/oauth/start?ticket=",
        "/oauth/start?ticket=..%2Fx",
        "/oauth/callback",
    ] {
        let page = get(&site.app, path, None).await;
        assert_eq!(page.status, 400, "{path}");
    }
}

#[tokio::test]
async fn an_account_is_disconnected_by_its_owner_only() {
    let site = site().await;
    let tokens = mcp_auth::oauth::TokenSet::new(Secret::new("at"));
    site.manager
        .import(&Principal::local(), "up", &site.fake.url, tokens)
        .await
        .unwrap();
    let page = get(&site.app, "/oauth/connections", None).await;
    assert_eq!(page.status, 200);
    let forged = http::Request::post("/oauth/revoke")
        .header("cookie", page.cookie())
        .header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(
        send(&site.app, forged, "relation=up&proof=AAAA".into())
            .await
            .status,
        403
    );
    let request = http::Request::post("/oauth/revoke")
        .header("cookie", page.cookie())
        .header("content-type", "application/x-www-form-urlencoded");
    let body = format!("relation=up&proof={}", page.field("proof"));
    assert_eq!(send(&site.app, request, body).await.status, 200);
    assert_eq!(
        site.manager.token(&Principal::local(), "up").await.unwrap(),
        None
    );
}

struct Away;

#[async_trait::async_trait]
impl mcp_core::AuditSink for Away {
    async fn record(&self, _: &mcp_core::AuditEvent) -> Result<(), mcp_core::Error> {
        let kind = mcp_core::ErrorKind::Unavailable;
        Err(mcp_core::Error::new(kind, "away"))
    }
}

#[tokio::test]
async fn consents_and_attempts_are_recorded_and_what_cannot_be_recorded_does_not_happen() {
    use mcp_core::{AuditOutcome, MemoryAudit};
    let site = site().await;
    let audit = Arc::new(MemoryAudit::new(std::num::NonZeroUsize::new(16).unwrap()));
    let base: url::Url = "http://127.0.0.1:1/oauth".parse().unwrap();
    let guard = Arc::new(LinkGuard::new());
    let pages = ConsentPages::new(
        site.manager.clone(),
        guard,
        base,
        &Secret::new("signs forms"),
    )
    .unwrap();
    let app = pages.clone().with_audit(audit.clone()).router();
    let ticket = async |who: &Principal| site.manager.ticket(who, "up", &[], None).await.unwrap();
    let (own, alices) = (
        ticket(&Principal::local()).await,
        ticket(&user("alice")).await,
    );
    assert_eq!(
        get(&app, &format!("/oauth/start?ticket={alices}"), None)
            .await
            .status,
        403
    );
    let page = get(&app, &format!("/oauth/start?ticket={own}"), None).await;
    let body = format!("ticket={own}&proof={}", page.field("proof"));
    let gone = post(&app, &page.cookie(), OWN, body.clone()).await;
    let state = crate::param(&crate::query(&gone.location()), "state").unwrap();
    let path = format!("/oauth/callback?state={state}&code=c0de");
    assert_eq!(get(&app, &path, Some(&page.cookie())).await.status, 200);
    assert_eq!(get(&app, &path, Some(&page.cookie())).await.status, 400);
    let events = audit.events();
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            (
                &*event.action,
                event.principal.subject(),
                event.outcome == AuditOutcome::Succeeded,
            )
        })
        .collect();
    let expected = [
        ("consent.open", "alice", false),
        ("consent.agree", "", true),
        ("consent.complete", "", true),
        ("consent.complete", "", false),
    ];
    assert_eq!(seen, expected);
    let shown = format!("{events:?}");
    assert!(
        !shown.contains("c0de") && !shown.contains(&state) && !shown.contains(&own),
        "{shown}"
    );
    // A sink that is away: nobody is sent anywhere.
    let app = pages.with_audit(Arc::new(Away)).router();
    let own = ticket(&Principal::local()).await;
    let page = get(&app, &format!("/oauth/start?ticket={own}"), None).await;
    let body = format!("ticket={own}&proof={}", page.field("proof"));
    assert_eq!(post(&app, &page.cookie(), OWN, body).await.status, 503);
}

#[tokio::test]
async fn no_page_leads_to_where_a_query_says() {
    let site = site().await;
    for evil in [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "%2F%2Fevil.example",
        "javascript:alert(1)",
    ] {
        for path in [
            format!("/oauth/start?provider={evil}"),
            format!("/oauth/start?ticket={evil}"),
            format!("/oauth/login?back={evil}&state=x"),
            format!("/oauth/callback?redirect_uri={evil}&state=x&code=c"),
            format!("/oauth/connections?next={evil}"),
        ] {
            let page = get(&site.app, &path, None).await;
            assert!(page.headers.get("location").is_none(), "{path}");
            assert!(
                !page.text.contains("evil") && !page.text.contains("javascript"),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn whoever_waits_is_told_at_once_that_the_user_has_refused() {
    use std::time::Duration;
    let site = site().await;
    for (answer, given) in [("error=access_denied", false), ("code=c", true)] {
        let ticket = site
            .manager
            .ticket(&Principal::local(), "up", &[], None)
            .await
            .unwrap();
        let waiting = {
            let (manager, ticket) = (site.manager.clone(), ticket.clone());
            tokio::spawn(async move {
                manager
                    .wait(&ticket, Duration::from_secs(60))
                    .await
                    .unwrap()
            })
        };
        let page = get(&site.app, &format!("/oauth/start?ticket={ticket}"), None).await;
        let body = format!("ticket={ticket}&proof={}", page.field("proof"));
        let gone = post(&site.app, &page.cookie(), OWN, body).await;
        let state = crate::param(&crate::query(&gone.location()), "state").unwrap();
        let path = format!("/oauth/callback?state={state}&{answer}");
        get(&site.app, &path, Some(&page.cookie())).await;
        let told = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert_eq!(told.expect("nobody waits for a minute").unwrap(), given);
        assert_eq!(site.manager.is_done(&ticket).await.unwrap(), given);
    }
}

#[tokio::test]
async fn a_page_shows_the_permissions_that_will_be_asked_for() {
    let fake = Fake::start().await;
    let base: url::Url = "http://127.0.0.1:1/oauth".parse().unwrap();
    let server: url::Url = format!("{}/mcp", fake.url).parse().unwrap();
    let relation = |name: &str| {
        Relation::mcp(name, server.clone()).with_client_anywhere(OAuthClient::public("c"))
    };
    let manager = Manager::builder(base.join("/oauth/callback").unwrap(), http(), vault().await)
        .relation(relation("named").with_scopes(["files:read"]))
        .relation(relation("open"))
        .build()
        .unwrap();
    let guard = Arc::new(LinkGuard::new());
    let app = ConsentPages::new(manager.clone(), guard, base, &Secret::new("signs forms"))
        .unwrap()
        .router();
    for (name, scopes, shown) in [
        ("named", vec![], "<li>files:read</li>"),
        (
            "named",
            vec!["files:write".to_owned()],
            "<li>files:write</li>",
        ),
        ("open", vec![], "You will be told there"),
    ] {
        let ticket = manager
            .ticket(&Principal::local(), name, &scopes, None)
            .await
            .unwrap();
        let page = get(&app, &format!("/oauth/start?ticket={ticket}"), None).await;
        assert!(page.text.contains(shown), "{name}: {}", page.text);
    }
}

#[tokio::test]
async fn pages_answer_only_at_their_own_host() {
    let site = site().await;
    let at = |path: &str, host: &str| http::Request::get(path).header("host", host.to_owned());
    for (host, status) in [
        ("127.0.0.1:1", 200),
        ("evil.example", 421),
        ("evil.example:1", 421),
        ("127.0.0.1", 421),
        ("127.0.0.1:1@evil.example", 421),
        ("", 421),
    ] {
        let page = send(&site.app, at("/oauth/connections", host), String::new()).await;
        assert_eq!(page.status, status, "{host}");
        assert!(status == 200 || !page.headers.contains_key("set-cookie"));
    }
    let twice = at("/oauth/connections", "127.0.0.1:1").header("host", "evil.example");
    assert_eq!(send(&site.app, twice, String::new()).await.status, 421);
}

#[tokio::test]
async fn browsers_send_the_origin_of_our_forms_and_no_referrer_elsewhere() {
    let site = site().await;
    for path in ["/oauth/connections", "/oauth/start?ticket=none"] {
        let page = get(&site.app, path, None).await;
        // With `no-referrer` a browser sends `Origin: null`, which is refused over plain http.
        assert_eq!(page.headers["referrer-policy"], "same-origin", "{path}");
    }
}

#[tokio::test]
async fn a_form_without_an_origin_is_taken_only_where_the_browser_says_it_is_our_own() {
    let site = site().await;
    for (origin, fetched, status) in [
        ("null", None, 403),
        ("null", Some("cross-site"), 403),
        ("null", Some("same-site"), 403),
        ("null", Some("none"), 403),
        (OWN, Some("cross-site"), 403),
        ("null", Some("same-origin"), 303),
        (OWN, None, 303),
    ] {
        let who = Principal::local();
        let ticket = site.manager.ticket(&who, "up", &[], None).await.unwrap();
        let page = get(&site.app, &format!("/oauth/start?ticket={ticket}"), None).await;
        let body = format!("ticket={ticket}&proof={}", page.field("proof"));
        let mut form = http::Request::post("/oauth/start")
            .header("cookie", page.cookie())
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(fetched) = fetched {
            form = form.header("sec-fetch-site", fetched);
        }
        let answer = send(&site.app, form, body).await;
        assert_eq!(answer.status, status, "{origin} {fetched:?}");
    }
}

#[tokio::test]
async fn links_of_one_user_take_no_room_from_tokens_and_from_others() {
    let store = mcp_core::store::MemoryStore::new().with_max_entries(60);
    let fake = Fake::start().await;
    let server = format!("{}/mcp", fake.url).parse().unwrap();
    let relation = Relation::mcp("up", server).with_client_anywhere(OAuthClient::public("c"));
    let vault = crate::vault_over(Arc::new(store.clone())).await;
    let manager = Manager::builder(crate::CALLBACK.parse().unwrap(), http(), vault)
        .relation(relation)
        .build()
        .unwrap();
    let ticket = async |who: &str| manager.ticket(&user(who), "up", &[], None).await.unwrap();
    let bobs = ticket("bob").await;
    let mut alices = Vec::new();
    for _ in 0..100 {
        alices.push(ticket("alice").await);
    }
    assert!(store.len() < 30, "{}", store.len());
    // The newest links work, and so does that of another.
    assert!(manager.begin(&alices[99], None).await.is_ok());
    assert!(manager.begin(&alices[0], None).await.is_err());
    let gone = manager.begin(&bobs, None).await.unwrap();
    let state = crate::param(&crate::query(gone.as_str()), "state").unwrap();
    let answer = [("state".into(), state), ("code".into(), "c".into())];
    manager.finish(&answer, None).await.unwrap();
    assert!(manager.token(&user("bob"), "up").await.unwrap().is_some());
}

#[tokio::test]
async fn one_address_may_ask_for_so_many_pages_a_minute() {
    let site = site().await;
    let ask = async |last: u8| {
        let mut request = http::Request::get("/oauth/connections").header("host", &OWN[7..]);
        let address = std::net::SocketAddr::from(([192, 0, 2, last], 1));
        request = request.extension(axum::extract::ConnectInfo(address));
        send(&site.app, request, String::new()).await
    };
    let mut refused = None;
    for _ in 0..2000 {
        let page = ask(1).await;
        if page.status == 429 {
            refused = Some(page);
            break;
        }
    }
    let refused = refused.expect("an address is refused before long");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(ask(2).await.status, 200, "another address");
}
