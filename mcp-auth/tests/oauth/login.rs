//! Logging in to the consent pages: who is let in, and whose links they may open.

use std::sync::Arc;

use axum::Router;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use mcp_auth::{
    consent::{BrowserGuard, ConsentPages, OidcGuard, Standing},
    oauth::{Manager, OAuthClient, Relation},
};
use mcp_core::{Principal, secret::Secret};
use serde_json::{Value, json};

use crate::{consent::get, fake::Fake, http, param, query, vault};

struct Issuer {
    fake: Fake,
    key: EncodingKey,
}

impl Issuer {
    async fn start() -> Self {
        let fake = Fake::start().await;
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        fake.change("jwks_uri", json!(format!("{}/jwks", fake.url)));
        fake.script.lock().unwrap().keys = json!({ "keys": [jwk] });
        Self { fake, key }
    }

    /// Has the token endpoint say who has logged in; null removes a claim.
    fn says(&self, change: &[(&str, Value)]) {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": self.fake.url, "sub": "alice", "aud": "pages", "iat": now, "exp": now + 300,
        });
        for (name, value) in change {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
                value => claims[*name] = value.clone(),
            }
        }
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.key).unwrap();
        let answer = json!({ "access_token": "at", "token_type": "Bearer", "id_token": token });
        self.fake.answer(200, answer);
    }

    async fn guard(&self) -> OidcGuard {
        let base = "http://127.0.0.1:1/oauth".parse().unwrap();
        OidcGuard::new(
            &self.fake.url,
            OAuthClient::public("pages"),
            &base,
            http(),
            vault().await,
        )
        .unwrap()
    }
}

fn cookie(text: &str) -> Secret {
    Secret::new(format!("{text:-<32}"))
}

type Answer = Vec<(String, String)>;

async fn begin(guard: &OidcGuard, own: &Secret) -> Answer {
    let url = guard.login(own, "connections").await.unwrap();
    let state = param(&query(url.as_str()), "state").unwrap();
    vec![
        ("state".to_owned(), state),
        ("code".to_owned(), "c".to_owned()),
    ]
}

#[tokio::test]
async fn whoever_logs_in_is_who_the_issuer_says_under_a_cookie_of_their_own() {
    let issuer = Issuer::start().await;
    issuer.says(&[]);
    let guard = issuer.guard().await;
    let planted = cookie("planted");
    assert!(guard.who(&planted).await.unwrap().is_none());
    let answer = begin(&guard, &planted).await;
    let (own, back) = guard.logged_in(&planted, &answer).await.unwrap();
    assert_eq!(back, "connections");
    let alice = Principal::authenticated(&issuer.fake.url, "alice");
    assert_eq!(guard.who(&own).await.unwrap(), Some(alice.clone()));
    // A cookie that was there before the login is worth nothing after it.
    assert!(guard.who(&planted).await.unwrap().is_none());
    assert!(matches!(
        guard.standing(&own, &alice).await.unwrap(),
        Standing::Same
    ));
    for other in [
        Principal::authenticated(&issuer.fake.url, "bob"),
        Principal::authenticated("https://other.example", "alice"),
        Principal::local(),
        Principal::anonymous(),
    ] {
        assert!(
            matches!(guard.standing(&own, &other).await.unwrap(), Standing::Other),
            "{other:?}"
        );
    }
    assert!(matches!(
        guard.standing(&planted, &alice).await.unwrap(),
        Standing::Unknown
    ));
    assert!(
        guard.logged_in(&planted, &answer).await.is_err(),
        "an answer is good once"
    );
}

#[tokio::test]
async fn a_login_that_proves_nothing_lets_nobody_in() {
    let issuer = Issuer::start().await;
    for (what, change) in [
        ("meant for another client", vec![("aud", json!("other"))]),
        (
            "of another issuer",
            vec![("iss", json!("https://evil.example"))],
        ),
        ("ended", vec![("exp", json!(1))]),
        ("without an end", vec![("exp", Value::Null)]),
        ("about nobody", vec![("sub", json!(""))]),
        ("without a subject", vec![("sub", Value::Null)]),
    ] {
        issuer.says(&change);
        let guard = issuer.guard().await;
        let answer = begin(&guard, &cookie("own")).await;
        assert!(
            guard.logged_in(&cookie("own"), &answer).await.is_err(),
            "{what}"
        );
    }
    issuer.says(&[]);
    let guard = issuer.guard().await;
    let answer = begin(&guard, &cookie("own")).await;
    assert!(
        guard.logged_in(&cookie("other"), &answer).await.is_err(),
        "another browser"
    );
    let mut refused = begin(&guard, &cookie("own")).await;
    refused[1] = ("error".to_owned(), "access_denied".to_owned());
    assert!(
        guard.logged_in(&cookie("own"), &refused).await.is_err(),
        "the user refused"
    );
    assert!(
        guard.logged_in(&cookie("own"), &[]).await.is_err(),
        "no answer at all"
    );
    // Signed by somebody else.
    let answer = begin(&guard, &cookie("own")).await;
    issuer.fake.script.lock().unwrap().keys = Issuer::start()
        .await
        .fake
        .script
        .lock()
        .unwrap()
        .keys
        .clone();
    assert!(
        guard.logged_in(&cookie("own"), &answer).await.is_err(),
        "another key"
    );
}

#[tokio::test]
async fn an_issuer_that_says_nothing_lets_nobody_in() {
    for (status, body) in [
        (200, json!({ "access_token": "at", "token_type": "Bearer" })),
        (503, json!({})),
    ] {
        let issuer = Issuer::start().await;
        issuer.fake.answer(status, body);
        let guard = issuer.guard().await;
        let answer = begin(&guard, &cookie("own")).await;
        assert!(
            guard.logged_in(&cookie("own"), &answer).await.is_err(),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_link_that_another_user_opens_is_refused_and_stays_good_for_its_owner() {
    let issuer = Issuer::start().await;
    let base: url::Url = "http://127.0.0.1:1/oauth".parse().unwrap();
    let server = format!("{}/mcp", issuer.fake.url).parse().unwrap();
    let relation = Relation::mcp("up", server).with_client_anywhere(OAuthClient::public("c"));
    let manager = Manager::builder(base.join("/oauth/callback").unwrap(), http(), vault().await)
        .relation(relation)
        .build()
        .unwrap();
    let guard = Arc::new(issuer.guard().await);
    let pages =
        ConsentPages::new(manager.clone(), guard, base, &Secret::new("signs forms")).unwrap();
    let app: Router = pages.router();
    let alice = Principal::authenticated(&issuer.fake.url, "alice");
    let ticket = manager.ticket(&alice, "up", &[], None).await.unwrap();
    let link = format!("/oauth/start?ticket={ticket}");
    for (name, status) in [("bob", 403), ("alice", 200)] {
        issuer.says(&[("sub", json!(name))]);
        // Whoever has not logged in is sent to do so, and comes back to the link.
        let away = get(&app, &link, None).await;
        assert_eq!(away.status, 303);
        let state = param(&query(&away.location()), "state").unwrap();
        let path = format!("/oauth/login?state={state}&code=c");
        let back = get(&app, &path, Some(&away.cookie())).await;
        assert_eq!((back.status, back.location()), (303, link.clone()));
        let page = get(&app, &link, Some(&back.cookie())).await;
        assert_eq!(page.status, status, "{name}: {}", page.text);
        assert_eq!(
            page.text.contains("alice"),
            name == "alice",
            "bob is not told whose it is"
        );
    }
}

#[tokio::test]
async fn a_user_of_a_tenant_is_the_same_in_the_browser_and_in_the_conversation() {
    let issuer = Issuer::start().await;
    let alice = Principal::authenticated(&issuer.fake.url, "alice");
    issuer.says(&[("org", json!("blue"))]);
    let guard = issuer.guard().await.with_tenant_claim("org");
    let answer = begin(&guard, &cookie("own")).await;
    let (own, _) = guard.logged_in(&cookie("own"), &answer).await.unwrap();
    let blue = alice.clone().with_tenant("blue");
    assert_eq!(guard.who(&own).await.unwrap(), Some(blue.clone()));
    for (wanted, same) in [
        (blue, true),
        (alice.clone().with_tenant("red"), false),
        (alice, false),
    ] {
        let standing = guard.standing(&own, &wanted).await.unwrap();
        assert_eq!(matches!(standing, Standing::Same), same, "{wanted:?}");
    }
    // Whose tenant is not named is let in nowhere.
    issuer.says(&[]);
    let answer = begin(&guard, &cookie("own")).await;
    assert!(guard.logged_in(&cookie("own"), &answer).await.is_err());
}
