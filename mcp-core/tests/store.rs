//! Every store keeps the same contract.
#![cfg(feature = "test-util")]

use std::sync::Arc;

use mcp_core::clock::FakeClock;
use mcp_core::store::{MemoryStore, Namespace, StateStore, StoreErrorKind, StoreKey};
use mcp_core::testing::{state_store_contract, state_store_races};

#[tokio::test]
async fn memory() {
    let clock = FakeClock::new();
    let store = MemoryStore::new().with_clock(Arc::new(clock.clone()));
    let pass = |time| {
        clock.advance(time);
        std::future::ready(())
    };
    state_store_contract(&store, pass).await;
    state_store_races(Arc::new(store)).await;
}

#[tokio::test]
async fn memory_is_bounded_and_swept() {
    let clock = FakeClock::new();
    let ttl = Some(std::time::Duration::from_secs(1));
    let ns = Namespace::new("t").unwrap();
    let key = |n: usize| StoreKey::new(&ns, [n.to_string()]).unwrap();
    let store = MemoryStore::new()
        .with_max_entries(10)
        .with_clock(Arc::new(clock.clone()));
    for n in 0..10 {
        store.put(&key(n), "x".into(), ttl).await.unwrap();
    }
    let full = store.put(&key(10), "x".into(), None).await.unwrap_err();
    assert_eq!(full.kind(), StoreErrorKind::Full);
    store
        .put(&key(3), "an old key has its place".into(), ttl)
        .await
        .unwrap();
    clock.advance(std::time::Duration::from_secs(1));
    store.put(&key(10), "x".into(), None).await.unwrap();
    assert_eq!(store.len(), 1);

    let store = MemoryStore::new().with_max_bytes(1000);
    assert!(store.put(&key(0), vec![0; 900].into(), None).await.is_err());
    store.put(&key(0), vec![0; 800].into(), None).await.unwrap();
    store.put(&key(0), vec![0; 860].into(), None).await.unwrap();
    assert!(store.put(&key(1), vec![0; 10].into(), None).await.is_err());
    store.delete(&key(0)).await.unwrap();
    store.put(&key(1), vec![0; 800].into(), None).await.unwrap();
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn redb() {
    use mcp_core::store::RedbStore;

    let clock = FakeClock::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = RedbStore::open_with_clock(&path, Arc::new(clock.clone()))
        .await
        .unwrap();
    let pass = |time| {
        clock.advance(time);
        std::future::ready(())
    };
    state_store_contract(&store, pass).await;
    state_store_races(Arc::new(store)).await;
}

#[cfg(feature = "redis")]
mod redis {
    use mcp_core::store::{RedisConfig, RedisStore};
    use mcp_core::testing::RedisServer;

    use super::*;

    #[tokio::test]
    async fn redis() {
        let server = RedisServer::start().await;
        let connection = RedisConfig::new(&server.url())
            .unwrap()
            .connect_lazily()
            .unwrap();
        let store = RedisStore::new(connection, "app:").unwrap();
        // The server counts by its own clock, which a test cannot move.
        state_store_contract(&store, tokio::time::sleep).await;
        state_store_races(Arc::new(store)).await;
    }

    #[tokio::test]
    async fn redis_gone_and_back() {
        let mut server = RedisServer::start().await;
        let connection = RedisConfig::new(&server.url())
            .unwrap()
            .connect_lazily()
            .unwrap();
        let store = RedisStore::new(connection, "").unwrap();
        let key = StoreKey::new(&Namespace::new("t").unwrap(), ["k"]).unwrap();
        store.put(&key, "v".into(), None).await.unwrap();
        server.kill().await;
        let away = store.get(&key).await.unwrap_err();
        assert_eq!(away.kind(), StoreErrorKind::Unavailable);
        server.restart().await;
        let mut result = store.get(&key).await;
        for _ in 0..100 {
            if result.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            result = store.get(&key).await;
        }
        assert_eq!(result.unwrap(), None, "it answers again, and is empty");
    }

    #[tokio::test]
    async fn foreign_values_are_corrupt() {
        let server = RedisServer::start().await;
        let connection = RedisConfig::new(&server.url())
            .unwrap()
            .connect_lazily()
            .unwrap();
        let ns = Namespace::new("t").unwrap();
        let mut manager = connection.manager();
        ::redis::cmd("LPUSH")
            .arg("t/list/")
            .arg("x")
            .query_async::<()>(&mut manager)
            .await
            .unwrap();
        ::redis::cmd("SET")
            .arg("t/short/")
            .arg("x")
            .query_async::<()>(&mut manager)
            .await
            .unwrap();
        let store = RedisStore::new(connection.clone(), "").unwrap();
        for name in ["list", "short"] {
            let error = store
                .get(&StoreKey::new(&ns, [name]).unwrap())
                .await
                .unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{name}");
        }
        assert!(RedisStore::new(connection, "a*").is_err());
        assert!(
            !format!("{:?}", RedisConfig::new("redis://:hunter2@h/").unwrap()).contains("hunter2")
        );
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use mcp_core::store::PostgresStore;
    use mcp_core::testing::PostgresServer;

    use super::*;

    #[tokio::test]
    async fn postgres() {
        let server = PostgresServer::start().await;
        let store = PostgresStore::new(&server.url()).unwrap();
        // The server counts by its own clock, which a test cannot move.
        state_store_contract(&store, tokio::time::sleep).await;
        state_store_races(Arc::new(store)).await;
    }

    #[tokio::test]
    async fn postgres_gone_and_back() {
        let mut server = PostgresServer::start().await;
        let store = PostgresStore::new(&server.url()).unwrap();
        let key = StoreKey::new(&Namespace::new("t").unwrap(), ["k"]).unwrap();
        store.put(&key, "v".into(), None).await.unwrap();
        server.kill().await;
        let away = store.get(&key).await.unwrap_err();
        assert_eq!(away.kind(), StoreErrorKind::Unavailable);
        server.restart().await;
        let mut result = store.get(&key).await;
        for _ in 0..200 {
            if result.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            result = store.get(&key).await;
        }
        assert!(
            result.unwrap().is_some(),
            "it answers again, and has kept everything"
        );
    }

    #[test]
    fn an_address_does_not_show() {
        let store = PostgresStore::new("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{store:?}").contains("hunter2"));
        let error = PostgresStore::new("postgres://u:hunter2@h:x/d").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn secrets_in_memory() {
    let store = mcp_core::secret::MemorySecretStore::new();
    mcp_core::testing::secret_store_contract(&store).await;
}
