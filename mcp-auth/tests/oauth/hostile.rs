//! Authorization servers and answers that are not to be trusted.

use mcp_auth::{
    discovery::DiscoveryError,
    oauth::{Manager, OAuthClient, OAuthError, Relation},
};
use mcp_core::secret::Secret;
use serde_json::{Value, json};

use crate::{fake::Fake, http, manager, param, query, user, vault};

async fn setup() -> (Fake, Manager) {
    let fake = Fake::start().await;
    let server = format!("{}/mcp", fake.url).parse().unwrap();
    let client = OAuthClient::with_secret("c1", Secret::new("s1"));
    let relation = Relation::mcp("up", server).with_client(&fake.url, client);
    let manager = manager().await.relation(relation).build().unwrap();
    (fake, manager)
}

async fn begin(manager: &Manager) -> Result<Vec<(String, String)>, OAuthError> {
    let ticket = manager.ticket(&user("alice"), "up", &[], None).await?;
    Ok(query(manager.begin(&ticket, None).await?.as_str()))
}

fn answer(state: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all = vec![("state".to_owned(), state.to_owned())];
    all.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    all
}

#[tokio::test]
async fn check_31_a_server_that_does_not_announce_s256_is_refused() {
    for methods in [Value::Null, json!([]), json!(["plain"])] {
        let (fake, manager) = setup().await;
        fake.change("code_challenge_methods_supported", methods);
        let refused = begin(&manager).await;
        assert!(matches!(refused, Err(OAuthError::NoPkce(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn check_20_metadata_of_another_issuer_is_not_used() {
    let (fake, manager) = setup().await;
    fake.change("issuer", json!("https://as.example"));
    let refused = begin(&manager).await;
    assert!(
        matches!(
            refused,
            Err(OAuthError::Discovery(DiscoveryError::Mismatch { .. }))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn check_37_and_38_endpoints_that_are_not_https_are_refused() {
    for (member, url) in [
        ("token_endpoint", "http://as.example/token"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "http://as.example/authorize"),
        ("registration_endpoint", "file:///etc/passwd"),
    ] {
        let (fake, manager) = setup().await;
        fake.change(member, json!(url));
        let refused = begin(&manager).await;
        assert!(
            matches!(
                refused,
                Err(OAuthError::Discovery(DiscoveryError::Insecure(_)))
            ),
            "{member} {url}: {refused:?}"
        );
    }
    for redirect in [
        "http://gw.example/cb",
        "ftp://gw.example",
        "https://gw.example/cb#x",
    ] {
        let builder = Manager::builder(redirect.parse().unwrap(), http(), vault().await);
        assert!(builder.build().is_err(), "{redirect}");
    }
}

#[tokio::test]
async fn check_36_a_state_is_good_for_one_answer_and_unknown_ones_for_none() {
    let (fake, manager) = setup().await;
    let state = param(&begin(&manager).await.unwrap(), "state").unwrap();
    for unknown in ["", "x", "../../ticket", &"a".repeat(1000)] {
        let refused = manager
            .finish(&answer(unknown, &[("code", "c")]), None)
            .await;
        assert!(
            matches!(refused, Err(OAuthError::UnknownState)),
            "{unknown}"
        );
    }
    let twice = [answer(&state, &[]), answer(&state, &[("code", "c")])].concat();
    assert!(matches!(
        manager.finish(&twice, None).await,
        Err(OAuthError::UnknownState)
    ));
    manager
        .finish(&answer(&state, &[("code", "c")]), None)
        .await
        .unwrap();
    let replayed = manager
        .finish(&answer(&state, &[("code", "c")]), None)
        .await;
    assert!(matches!(replayed, Err(OAuthError::UnknownState)));
    assert_eq!(fake.asked().len(), 1, "the code was redeemed once");
}

#[tokio::test]
async fn check_30_the_verifier_goes_with_the_code_and_matches_its_challenge() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use sha2::{Digest as _, Sha256};
    let (fake, manager) = setup().await;
    let sent = begin(&manager).await.unwrap();
    let state = param(&sent, "state").unwrap();
    manager
        .finish(&answer(&state, &[("code", "c")]), None)
        .await
        .unwrap();
    let asked = &fake.asked()[0];
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(&asked.form["code_verifier"]));
    assert_eq!(param(&sent, "code_challenge"), Some(digest));
    assert!(asked.form["code_verifier"].len() >= 43);
    // Rows 32, 26 and 39: the resource again, the operator's client, and no secret in the form.
    assert_eq!(asked.form["resource"], format!("{}/mcp", fake.url));
    assert!(asked.authorization.as_ref().unwrap().starts_with("Basic "));
    assert!(!asked.form.contains_key("client_secret"));
}

#[tokio::test]
async fn check_34_and_35_answers_of_other_issuers_are_refused_errors_included() {
    for (announced, iss, fits) in [
        (false, None, true),
        (true, None, false),
        (true, Some(""), false),
        (false, Some("https://evil.example"), false),
        (true, Some("SAME/"), false),
        (true, Some("SAME"), true),
        (false, Some("SAME"), true),
    ] {
        for kind in ["code", "error"] {
            let (fake, manager) = setup().await;
            if announced {
                let member = "authorization_response_iss_parameter_supported";
                fake.change(member, json!(true));
            }
            let state = param(&begin(&manager).await.unwrap(), "state").unwrap();
            let iss = iss.map(|iss| iss.replace("SAME", &fake.url));
            let mut more = vec![(kind, "access_denied")];
            if let Some(iss) = &iss {
                more.push(("iss", iss));
            }
            let outcome = manager.finish(&answer(&state, &more), None).await;
            match (fits, kind) {
                (false, _) => assert!(
                    matches!(outcome, Err(OAuthError::MixedUp)),
                    "{iss:?} {outcome:?}"
                ),
                (true, "code") => assert!(outcome.is_ok(), "{iss:?} {outcome:?}"),
                (true, _) => assert!(matches!(outcome, Err(OAuthError::NotGiven { .. }))),
            }
            assert_eq!(fake.asked().len(), usize::from(fits && kind == "code"));
        }
    }
}

#[tokio::test]
async fn the_text_of_an_answer_is_not_repeated() {
    let (_, manager) = setup().await;
    let state = param(&begin(&manager).await.unwrap(), "state").unwrap();
    let more = [
        ("error", "<script>access_denied"),
        ("error_description", "call 555-EVIL"),
    ];
    let error = manager
        .finish(&answer(&state, &more), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(!error.contains('<') && !error.contains("EVIL"), "{error}");
}

#[tokio::test]
async fn an_answer_counts_in_the_browser_that_was_sent_away_only() {
    let (fake, manager) = setup().await;
    let own = Secret::new("cookie of the victim's browser");
    let other = Secret::new("cookie of another");
    for (cookie, fits) in [(Some(&other), false), (None, false), (Some(&own), true)] {
        let ticket = manager
            .ticket(&user("alice"), "up", &[], None)
            .await
            .unwrap();
        let url = manager.begin(&ticket, Some(&own)).await.unwrap();
        let state = param(&query(url.as_str()), "state").unwrap();
        let outcome = manager
            .finish(&answer(&state, &[("code", "c")]), cookie)
            .await;
        assert_eq!(outcome.is_ok(), fits);
    }
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn check_21_and_40_a_client_and_a_token_are_for_one_issuer() {
    let (fake, _) = setup().await;
    let server = format!("{}/mcp", fake.url).parse().unwrap();
    let elsewhere = OAuthClient::with_secret("c1", Secret::new("s1"));
    let relation = Relation::mcp("up", server).with_client("https://other.example", elsewhere);
    let manager = manager().await.relation(relation).build().unwrap();
    let refused = begin(&manager).await;
    assert!(
        matches!(refused, Err(OAuthError::NoClient(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn check_41_and_44_scopes_are_chosen_in_order() {
    let (fake, manager) = setup().await;
    fake.script.lock().unwrap().cache_control = Some("no-store");
    let sent = begin(&manager).await.unwrap();
    assert_eq!(
        param(&sent, "scope").as_deref(),
        Some("mcp:read"),
        "what the resource lists"
    );
    fake.change("scopes_supported", json!(["mcp:read", "offline_access"]));
    let sent = begin(&manager).await.unwrap();
    assert_eq!(
        param(&sent, "scope").as_deref(),
        Some("mcp:read offline_access")
    );
    let ticket = manager
        .ticket(&user("alice"), "up", &["mcp:write".to_owned()], None)
        .await
        .unwrap();
    let url = manager.begin(&ticket, None).await.unwrap();
    let scope = param(&query(url.as_str()), "scope");
    assert_eq!(
        scope.as_deref(),
        Some("mcp:write offline_access"),
        "what was asked for"
    );
}

#[tokio::test]
async fn addresses_inside_are_not_reached_by_what_a_server_names() {
    use mcp_core::http_client::GuardedClient;
    use std::sync::Arc;
    // The operator allowed this origin and nothing else on this machine.
    let (fake, _) = setup().await;
    let inside = Fake::start().await;
    for issuer in [
        inside.url.clone(),
        inside.url.replace("127.0.0.1", "localhost"),
        inside.url.replace("127.0.0.1", "2130706433"),
        inside.url.replace("127.0.0.1", "0x7f.1"),
        inside.url.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
        inside
            .url
            .replace("http://127.0.0.1", "https://169.254.169.254"),
        inside.url.replace("http://127.0.0.1", "https://[::1]"),
        "https://10.0.0.1".to_owned(),
        "http://as.example".to_owned(),
    ] {
        let http = Arc::new(GuardedClient::operator(&fake.url).unwrap());
        let server = format!("{}/mcp", fake.url).parse().unwrap();
        let relation = Relation::mcp("up", server).with_client(&issuer, OAuthClient::public("c"));
        let manager = Manager::builder(
            crate::CALLBACK.parse().unwrap(),
            http.clone(),
            vault().await,
        )
        .relation(relation)
        .build()
        .unwrap();
        let client: Arc<dyn mcp_core::http_client::HttpClient> = http;
        let refused = mcp_auth::discovery::discover(&client, &issuer).await;
        assert!(refused.is_err(), "{issuer}");
        drop(manager);
    }
    assert!(inside.script.lock().unwrap().other.is_empty());
}

#[tokio::test]
async fn anonymous_callers_cannot_authorise() {
    let (fake, manager) = setup().await;
    let refused = manager
        .ticket(&mcp_core::Principal::anonymous(), "up", &[], None)
        .await;
    assert!(matches!(refused, Err(OAuthError::Unusable(_))));
    // Nor can anybody store tokens for all of them.
    let tokens = mcp_auth::oauth::TokenSet::new(Secret::new("at"));
    let nobody = mcp_core::Principal::anonymous();
    let refused = manager.import(&nobody, "up", &fake.url, tokens).await;
    assert!(matches!(refused, Err(OAuthError::Unusable(_))));
    assert_eq!(manager.token(&nobody, "up").await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_after_ten_minutes_is_too_late() {
    use mcp_core::{clock::FakeClock, store::MemoryStore};
    use std::{sync::Arc, time::Duration};
    let fake = Fake::start().await;
    let clock = Arc::new(FakeClock::new());
    let store = crate::vault_over(Arc::new(MemoryStore::default())).await;
    let server = format!("{}/mcp", fake.url).parse().unwrap();
    let relation = Relation::mcp("up", server).with_client(&fake.url, OAuthClient::public("c"));
    let vault = store.with_wall_clock(clock.clone());
    let manager = Manager::builder(crate::CALLBACK.parse().unwrap(), http(), vault)
        .relation(relation)
        .wall_clock(clock.clone())
        .build()
        .unwrap();
    for (seconds, fits) in [(599, true), (601, false)] {
        let state = param(&begin(&manager).await.unwrap(), "state").unwrap();
        clock.advance(Duration::from_secs(seconds));
        let done = manager
            .finish(&answer(&state, &[("code", "c")]), None)
            .await;
        assert_eq!(done.is_ok(), fits, "{seconds} s");
    }
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn metadata_are_kept_for_as_long_as_they_say() {
    for (says, fetches) in [
        (None, 1),
        (Some("public, max-age=3600"), 1),
        (Some("max-age=0"), 3),
        (Some("no-store"), 3),
    ] {
        let (fake, manager) = setup().await;
        fake.script.lock().unwrap().cache_control = says;
        for _ in 0..3 {
            begin(&manager).await.unwrap();
        }
        assert_eq!(fake.script.lock().unwrap().fetches, fetches, "{says:?}");
    }
}

#[tokio::test]
async fn a_server_that_writes_its_metadata_and_answers_loosely_is_understood() {
    let (fake, manager) = setup().await;
    // No endpoint is written as an empty text by some.
    fake.change("registration_endpoint", json!(""));
    fake.answer(
        200,
        json!({ "access_token": "at", "token_type": "Bearer", "scope": ["a", "b"] }),
    );
    let sent = begin(&manager).await.unwrap();
    let state = param(&sent, "state").unwrap();
    let answer = [("state".into(), state), ("code".into(), "c".into())];
    manager.finish(&answer, None).await.unwrap();
    let token = manager.token(&user("alice"), "up").await.unwrap();
    assert_eq!(token, Some(Secret::new("at")));
}
