//! Over HTTP: who may call, whose session is whose, how often, how much, what is left alone, what is recorded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking and tell stories"
)]

mod support;

use http::StatusCode;
use mcp_core::secret::Secret;
use serde_json::json;
use support::{World, driver, shop};

const CREATE: &str = "browser_create_session";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_there_is_a_challenge_and_nothing_else() {
    let world = World::start(driver(), |_| {}).await;
    let refused = world.call(None, CREATE, json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let challenge = refused.header("www-authenticate");
    let document = world
        .url
        .replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    assert!(
        challenge.starts_with("Bearer ") && challenge.contains(&document),
        "{challenge}"
    );
    let described = world.get(&document).await;
    assert_eq!(
        (described.status, &described.body["resource"]),
        (StatusCode::OK, &json!(world.url))
    );
    let good = world.key("alice").await;
    let mut close = good.clone();
    let last = close.pop().unwrap();
    close.push(if last == 'a' { 'b' } else { 'a' });
    for wrong in [
        "x",
        &close,
        "bgw_00000000_0000000000000000000000000000000000000000000",
    ] {
        let refused = world.call(Some(wrong), CREATE, json!({})).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        let challenge = refused.header("www-authenticate");
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
    let made = world.call(Some(&good), CREATE, json!({})).await;
    assert!(!made.session().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_one_key_is_not_that_of_another() {
    let shop = shop().await;
    let world = World::start(driver(), |settings| {
        settings.origins = vec![shop.clone()];
        settings.private_origins = vec![shop.clone()];
    })
    .await;
    let (alice, bob) = (world.key("alice").await, world.key("bob").await);
    let session = world.call(Some(&alice), CREATE, json!({})).await.session();
    let open = json!({ "session_id": session, "url": shop });
    let page = world
        .call(Some(&alice), "browser_navigate", open.clone())
        .await;
    assert!(page.text().contains("Tea shop"), "{page:?}");
    for (tool, arguments) in [
        ("browser_navigate", open),
        ("browser_snapshot", json!({ "session_id": session })),
        ("browser_close_session", json!({ "session_id": session })),
    ] {
        let answer = world.call(Some(&bob), tool, arguments).await;
        assert_eq!(
            answer.tool_error(),
            "session_not_found",
            "{tool}: {answer:?}"
        );
    }
    // Another key of the same user's is as good.
    let second = world.key("alice").await;
    let seen = world
        .call(
            Some(&second),
            "browser_snapshot",
            json!({ "session_id": session }),
        )
        .await;
    assert!(seen.text().contains("Tea shop"), "{seen:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_and_budget_refuse_each_user_apart() {
    let world = World::start(driver(), |settings| {
        settings.per_minute = 3;
        settings.sessions_per_day = 2;
    })
    .await;
    let (alice, bob) = (world.key("alice").await, world.key("bob").await);
    for _ in 0..2 {
        assert!(
            !world
                .call(Some(&alice), CREATE, json!({}))
                .await
                .session()
                .is_empty()
        );
    }
    let spent = world.call(Some(&alice), CREATE, json!({})).await;
    let message = spent.body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("budget"), "{spent:?}");
    // The fourth call of this tool within the minute.
    let often = world.call(Some(&alice), CREATE, json!({})).await;
    assert_eq!(often.status, StatusCode::TOO_MANY_REQUESTS, "{often:?}");
    assert!(
        (1..=60).contains(&often.header("retry-after").parse::<u32>().unwrap()),
        "{often:?}"
    );
    assert_ne!(often.body["error"]["code"], spent.body["error"]["code"]);
    let other = world.call(Some(&bob), CREATE, json!({})).await;
    assert!(!other.session().is_empty(), "another user is not concerned");
    world.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_does_not_start_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("chromium");
    std::os::unix::fs::symlink("/bin/false", &program).unwrap();
    let world = World::start(driver().with_browser(&program), |settings| {
        settings.browser_each = true;
    })
    .await;
    let key = world.key("alice").await;
    let mut opened = None;
    for attempt in 0..10 {
        let answer = world.call(Some(&key), CREATE, json!({})).await;
        if answer.tool_error() != "start_failed" {
            opened = Some((attempt, answer));
            break;
        }
    }
    let (attempts, answer) = opened.expect("the breaker opens");
    assert_eq!(attempts, 5, "after five failures in a row");
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_typed_from_the_vault_and_everything_is_recorded_without_them() {
    let shop = shop().await;
    let world = World::start(driver(), |settings| {
        settings.origins = vec![shop.clone()];
        settings.private_origins = vec![shop.clone()];
        settings.secrets = vec![("shop-password".into(), shop.clone())];
    })
    .await;
    let value = "correct horse battery";
    world
        .state
        .put_secret("alice", "shop-password", Secret::new(value))
        .await
        .unwrap();
    let (alice, bob) = (world.key("alice").await, world.key("bob").await);
    world.call(Some("bgw_wrong"), CREATE, json!({})).await;
    for (key, found) in [(&alice, true), (&bob, false)] {
        let session = world.call(Some(key), CREATE, json!({})).await.session();
        let call = |tool: &'static str, mut arguments: serde_json::Value| {
            arguments["session_id"] = json!(session);
            world.call(Some(key), tool, arguments)
        };
        call("browser_navigate", json!({ "url": shop })).await;
        let typed = call(
            "browser_interact",
            json!({ "action": "fill", "selector": "#pass", "secret": "shop-password" }),
        )
        .await;
        assert_eq!(typed.tool_error().is_empty(), found, "{typed:?}");
        let sent = call(
            "browser_interact",
            json!({ "action": "click", "selector": "text=Order" }),
        )
        .await;
        let letters = if found { "21 letters" } else { "0 letters" };
        assert!(sent.text().contains(letters), "{sent:?}");
    }
    let file = world.state.audit_file();
    world.state.flush_audit();
    let record = std::fs::read_to_string(&file).unwrap();
    mcp_auth::audit::verify(record.as_bytes()).expect("the chain is whole");
    for part in [
        "denied",
        "tools/call",
        "browser.fill_secret",
        "browser.navigate",
        "alice",
        "bob",
    ] {
        assert!(record.contains(part), "{part} is not in {record}");
    }
    for secret in [value, &alice, &bob] {
        assert!(!record.contains(secret));
    }
    world.stop().await;
}
