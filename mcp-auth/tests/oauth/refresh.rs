//! Refreshing: once, ahead of the end, by one of many.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use mcp_auth::oauth::{Manager, OAuthClient, Provider, Relation, TokenSet};
use mcp_core::{
    clock::FakeClock,
    secret::Secret,
    store::{MemoryStore, StateStore},
};
use serde_json::json;

use crate::{CALLBACK, fake::Fake, http, user, vault_over};

async fn replica(fake: &Fake, store: &Arc<dyn StateStore>, clock: &FakeClock) -> Manager {
    let provider = Provider::oidc(&fake.url);
    let relation = Relation::provider("up", provider, OAuthClient::public("c"));
    replica_of(relation, store, clock).await
}

async fn with_resource(fake: &Fake, store: &Arc<dyn StateStore>, clock: &FakeClock) -> Manager {
    let provider = Provider::oidc(&fake.url);
    let relation = Relation::provider("up", provider, OAuthClient::public("c"))
        .with_resource("https://api.example");
    replica_of(relation, store, clock).await
}

async fn replica_of(relation: Relation, store: &Arc<dyn StateStore>, clock: &FakeClock) -> Manager {
    Manager::builder(
        CALLBACK.parse().unwrap(),
        http(),
        vault_over(store.clone()).await,
    )
    .relation(relation)
    .wall_clock(Arc::new(clock.clone()))
    .build()
    .unwrap()
}

async fn import(
    manager: &Manager,
    fake: &Fake,
    name: &str,
    refresh: &str,
    clock: &FakeClock,
    life: u64,
) {
    let tokens = TokenSet::new(Secret::new("at-old"))
        .with_refresh(Secret::new(refresh))
        .with_end(clock.date() + Duration::from_secs(life));
    manager
        .import(&user(name), "up", &fake.url, tokens)
        .await
        .unwrap();
}

#[tokio::test]
async fn two_replicas_refresh_once() {
    let fake = Fake::start().await;
    fake.script.lock().unwrap().rotating = Some(1);
    fake.script.lock().unwrap().delay = Duration::from_millis(150);
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let clock = FakeClock::new();
    let replicas = [
        replica(&fake, &store, &clock).await,
        replica(&fake, &store, &clock).await,
    ];
    import(&replicas[0], &fake, "alice", "rt-1", &clock, 100).await;
    for replica in &replicas {
        assert_eq!(
            replica.token(&user("alice"), "up").await.unwrap(),
            Some(Secret::new("at-old"))
        );
    }
    clock.advance(Duration::from_secs(101));
    let calls = (0..40).map(|n| {
        let replica = replicas[n % 2].clone();
        async move { replica.token(&user("alice"), "up").await.unwrap() }
    });
    let tokens = join_all(calls).await;
    assert!(
        tokens
            .iter()
            .all(|token| *token == Some(Secret::new("at-2"))),
        "{tokens:?}"
    );
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_token_that_still_works_is_used_while_it_is_replaced() {
    let fake = Fake::start().await;
    fake.script.lock().unwrap().rotating = Some(1);
    fake.script.lock().unwrap().delay = Duration::from_millis(300);
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let clock = FakeClock::new();
    let manager = replica(&fake, &store, &clock).await;
    import(&manager, &fake, "alice", "rt-1", &clock, 1000).await;
    clock.advance(Duration::from_secs(975));
    let started = tokio::time::Instant::now();
    for _ in 0..20 {
        let token = manager.token(&user("alice"), "up").await.unwrap();
        assert_eq!(token, Some(Secret::new("at-old")));
    }
    assert!(
        started.elapsed() < Duration::from_millis(250),
        "nobody waited for the exchange"
    );
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(
        manager.token(&user("alice"), "up").await.unwrap(),
        Some(Secret::new("at-2"))
    );
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_thousand_users_with_expiring_tokens_cause_one_refresh_each() {
    let fake = Fake::start().await;
    let answer = json!({ "access_token": "at-new", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "r" });
    fake.answer(200, answer);
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let clock = FakeClock::new();
    let manager = replica(&fake, &store, &clock).await;
    for n in 0..1000 {
        import(
            &manager,
            &fake,
            &format!("u{n}"),
            &format!("r{n}"),
            &clock,
            1000,
        )
        .await;
    }
    clock.advance(Duration::from_secs(975));
    for _ in 0..3 {
        let calls = (0..1000).map(|n| {
            let manager = manager.clone();
            async move { manager.token(&user(&format!("u{n}")), "up").await.unwrap() }
        });
        for token in join_all(calls).await {
            assert!(token.is_some());
        }
    }
    for _ in 0..200 {
        if fake.asked().len() >= 1000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.asked().len(), 1000);
    let token = manager.token(&user("u7"), "up").await.unwrap();
    assert_eq!(token, Some(Secret::new("at-new")));
}

#[tokio::test]
async fn a_refused_refresh_token_asks_for_consent_and_an_outage_does_not() {
    let fake = Fake::start().await;
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let clock = FakeClock::new();
    let manager = replica(&fake, &store, &clock).await;
    import(&manager, &fake, "alice", "rt", &clock, 100).await;
    clock.advance(Duration::from_secs(95));
    fake.answer(503, json!({}));
    // The old token works to its end.
    assert_eq!(
        manager.token(&user("alice"), "up").await.unwrap(),
        Some(Secret::new("at-old"))
    );
    clock.advance(Duration::from_secs(10));
    let error = manager.token(&user("alice"), "up").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(manager.has_authorized(&user("alice"), "up").await.unwrap());
    fake.answer(
        400,
        json!({ "error": "invalid_grant", "error_description": "secret stuff rt" }),
    );
    assert_eq!(manager.token(&user("alice"), "up").await.unwrap(), None);
    assert!(!manager.has_authorized(&user("alice"), "up").await.unwrap());
}

#[tokio::test]
async fn a_refresh_is_made_without_the_resource_where_the_server_refuses_it() {
    for code in ["invalid_target", "invalid_request"] {
        let fake = Fake::start().await;
        let fresh = json!({ "access_token": "at-new", "token_type": "Bearer", "expires_in": 100 });
        fake.script.lock().unwrap().answers = vec![
            (400, json!({ "error": code })),
            (200, fresh.clone()),
            (200, fresh),
        ];
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let clock = FakeClock::new();
        let manager = with_resource(&fake, &store, &clock).await;
        import(&manager, &fake, "alice", "rt-1", &clock, 100).await;
        for _ in 0..2 {
            clock.advance(Duration::from_secs(101));
            let token = manager.token(&user("alice"), "up").await.unwrap();
            assert_eq!(token, Some(Secret::new("at-new")));
        }
        let asked = fake.asked();
        let named: Vec<_> = asked
            .iter()
            .map(|own| own.form.contains_key("resource"))
            .collect();
        assert_eq!(
            named,
            [true, false, false],
            "{code}: refused once, and remembered"
        );
    }
}

#[tokio::test]
async fn a_refresh_token_that_is_invalid_by_another_name_has_the_user_asked() {
    let fake = Fake::start().await;
    fake.answer(400, json!({ "error": "invalid_refresh_token" }));
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let clock = FakeClock::new();
    let manager = replica(&fake, &store, &clock).await;
    import(&manager, &fake, "alice", "rt-1", &clock, 100).await;
    clock.advance(Duration::from_secs(101));
    assert_eq!(manager.token(&user("alice"), "up").await.unwrap(), None);
}
