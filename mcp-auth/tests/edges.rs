//! Sessions, cross-origin rules, limits on attempts.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{convert::Infallible, net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use http::{Request, Response};
use mcp_auth::{
    edge::{AttemptLimitLayer, cors},
    session::Sessions,
};
use mcp_core::{Principal, clock::FakeClock, secret::Secret, store::MemoryStore};
use tower::{Layer, ServiceExt, service_fn};

fn user(name: &str) -> Principal {
    Principal::authenticated("https://as.example", name)
}

fn sessions(clock: &FakeClock) -> Sessions {
    let store = MemoryStore::new().with_clock(Arc::new(clock.clone()));
    Sessions::new(Arc::new(store))
        .with_timeouts(Duration::from_secs(600), Duration::from_secs(3600))
        .with_wall_clock(Arc::new(clock.clone()))
}

#[tokio::test]
async fn a_session_ends_by_idleness_and_by_age() {
    let clock = FakeClock::new();
    let sessions = sessions(&clock);
    let id = sessions.open(&user("alice")).await.unwrap();
    for _ in 0..6 {
        clock.advance(Duration::from_secs(590));
        assert_eq!(sessions.find(&id).await.unwrap(), Some(user("alice")));
    }
    clock.advance(Duration::from_secs(61));
    assert_eq!(sessions.find(&id).await.unwrap(), None, "too old");
    let id = sessions.open(&user("alice")).await.unwrap();
    clock.advance(Duration::from_secs(601));
    assert_eq!(sessions.find(&id).await.unwrap(), None, "idle");
    assert!(sessions.list(&user("alice")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stolen_or_guessed_id_is_worth_nothing() {
    let clock = FakeClock::new();
    let sessions = sessions(&clock);
    let id = sessions.open(&user("alice")).await.unwrap();
    assert!(sessions.belongs(&id, &user("alice")).await.unwrap());
    assert!(!sessions.belongs(&id, &user("mallory")).await.unwrap());
    for guess in ["", "a", "../id", &id.secret()[1..]] {
        assert_eq!(sessions.find(&Secret::new(guess)).await.unwrap(), None);
    }
    let handle = sessions.list(&user("alice")).await.unwrap()[0]
        .handle
        .clone();
    assert_eq!(
        sessions.find(&Secret::new(handle.clone())).await.unwrap(),
        None,
        "a handle opens nothing"
    );
    assert!(!sessions.revoke(&user("mallory"), &handle).await.unwrap());
    assert!(sessions.revoke(&user("alice"), &handle).await.unwrap());
    assert_eq!(sessions.find(&id).await.unwrap(), None);
    assert!(sessions.open(&Principal::anonymous()).await.is_err());
}

#[tokio::test]
async fn a_session_gets_another_id_and_the_old_one_ends() {
    let clock = FakeClock::new();
    let sessions = sessions(&clock).with_rotation(Duration::from_secs(300));
    let old = sessions.open(&user("alice")).await.unwrap();
    assert!(sessions.renew(&old).await.unwrap().is_none(), "too early");
    clock.advance(Duration::from_secs(301));
    let new = sessions.renew(&old).await.unwrap().unwrap();
    assert_ne!(old, new);
    assert_eq!(sessions.find(&old).await.unwrap(), None);
    assert_eq!(sessions.find(&new).await.unwrap(), Some(user("alice")));
    sessions.open(&user("alice")).await.unwrap();
    assert_eq!(sessions.list(&user("alice")).await.unwrap().len(), 2);
    assert_eq!(sessions.revoke_all(&user("alice")).await.unwrap(), 2);
    assert!(!sessions.close(&new).await.unwrap());
}

#[tokio::test]
async fn browsers_of_named_origins_alone_may_read_answers() {
    let layer = cors(["https://app.example"]).unwrap();
    let inner = service_fn(|_: Request<String>| async {
        let mut answer = Response::new(String::new());
        answer
            .headers_mut()
            .insert("mcp-session-id", "x".parse().unwrap());
        Ok::<_, Infallible>(answer)
    });
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://evil.example", false),
        ("https://app.example.evil.example", false),
        ("http://app.example", false),
        ("null", false),
    ] {
        let request = Request::post("/mcp")
            .header("origin", origin)
            .body(String::new())
            .unwrap();
        let answer = layer.layer(inner).oneshot(request).await.unwrap();
        let echoed = answer.headers().get("access-control-allow-origin");
        assert_eq!(
            echoed.is_some_and(|value| value == origin),
            allowed,
            "{origin}"
        );
        assert!(
            !answer
                .headers()
                .contains_key("access-control-allow-credentials")
        );
        if allowed {
            let exposed = answer.headers()["access-control-expose-headers"]
                .to_str()
                .unwrap();
            assert!(exposed.contains("mcp-session-id") && exposed.contains("www-authenticate"));
        }
    }
    for bad in [
        "*",
        "https://app.example/",
        "app.example",
        "null",
        "https://",
    ] {
        assert!(cors([bad]).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn attempts_are_limited_by_address_and_by_account() {
    let header = |name: &'static str| {
        move |parts: &http::request::Parts| Some(parts.headers.get(name)?.to_str().ok()?.to_owned())
    };
    let address =
        move |parts: &http::request::Parts| header("x-address")(parts)?.parse::<IpAddr>().ok();
    let layer = AttemptLimitLayer::per_minute(NonZeroU32::new(3).unwrap(), address)
        .and_account(NonZeroU32::new(4).unwrap(), header("x-account"));
    let inner =
        service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let service = layer.layer(inner);
    let send = |address: &str, account: &str| {
        let request = Request::post("/login")
            .header("x-address", address)
            .header("x-account", account);
        let service = service.clone();
        let request = request.body(()).unwrap();
        async move {
            let answer = service.oneshot(request).await.unwrap();
            if answer.status() == 429 {
                assert!(answer.headers().contains_key("retry-after"));
            }
            answer.status().as_u16()
        }
    };
    for n in 0..3 {
        assert_eq!(send("192.0.2.1", &format!("a{n}")).await, 200);
    }
    assert_eq!(send("192.0.2.1", "b").await, 429, "the address");
    assert_eq!(
        send("::ffff:192.0.2.1", "b").await,
        429,
        "the same address in other letters"
    );
    for n in 0..4 {
        assert_eq!(send(&format!("198.51.100.{n}"), "victim").await, 200);
    }
    assert_eq!(send("198.51.100.9", "victim").await, 429, "the account");
    for n in 0..3 {
        assert_eq!(send(&format!("2001:db8::{n}"), &format!("c{n}")).await, 200);
    }
    assert_eq!(
        send("2001:db8::ffff", "c9").await,
        429,
        "the same household"
    );
    assert_eq!(send("2001:db8:1::1", "c9").await, 200);
}
