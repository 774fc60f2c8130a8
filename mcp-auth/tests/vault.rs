//! The vault over real stores: contract, key loss, rotation, moved records.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{sync::Arc, time::Duration};

use mcp_auth::vault::{KeyRing, Swapped, ValueKey, Vault, VaultError, VaultKey};
use mcp_core::{
    Partition, Principal,
    clock::FakeClock,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{
        MemoryStore, Namespace, StateStore, StoreError, StoreErrorKind, StoreKey, StorePrefix,
    },
    testing::secret_store_contract,
};

fn key(byte: u8) -> VaultKey {
    VaultKey::from_bytes(&[byte; 32]).unwrap()
}

fn scope(user: &str) -> SecretScope {
    let owner = Partition::of(&Principal::authenticated("https://as.example", user));
    SecretScope::new(Namespace::new("oauth").unwrap(), owner)
}

fn name(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

async fn raw(store: &Arc<dyn StateStore>) -> Vec<(StoreKey, bytes::Bytes)> {
    let prefix = StorePrefix::new::<&str>(&Namespace::new("vault").unwrap(), []).unwrap();
    let page = store.scan(&prefix, None, 10_000).await.unwrap();
    page.entries
        .into_iter()
        .map(|(key, entry)| (key, entry.value))
        .collect()
}

#[tokio::test]
async fn it_keeps_the_contract_and_no_secret_in_the_clear() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let vault = Vault::open_with_ring(store.clone(), KeyRing::new(key(1)))
        .await
        .unwrap();
    secret_store_contract(&vault).await;
    vault
        .put(&scope("alice"), &name("t"), Secret::new("hunter2"))
        .await
        .unwrap();
    for (_, value) in raw(&store).await {
        assert!(!value.windows(7).any(|window| window == b"hunter2"));
    }
    assert!(!format!("{vault:?}").contains("hunter2"));
}

/// The same over the servers that replicas share: the contract, one of two writers, a rotation, and nothing in the clear.
async fn over(store: Arc<dyn StateStore>) {
    let vault = Vault::open_with_ring(store.clone(), KeyRing::new(key(1)))
        .await
        .unwrap();
    secret_store_contract(&vault).await;
    let replica = Vault::open_with_ring(store.clone(), KeyRing::new(key(1)))
        .await
        .unwrap();
    for n in 0..20 {
        let text = Secret::new(format!("hunter{n}"));
        vault
            .put(&scope("alice"), &name(&format!("n{n}")), text)
            .await
            .unwrap();
    }
    let (_, version) = vault
        .read(&scope("alice"), &name("n1"))
        .await
        .unwrap()
        .unwrap();
    let write = |vault: Vault, text: &'static str| async move {
        let expected = mcp_core::store::Expected::Version(version);
        let (scope, text) = (scope("alice"), Secret::new(text));
        vault
            .swap(&scope, &name("n1"), expected, Some(&text))
            .await
            .unwrap()
    };
    let (one, other) = tokio::join!(write(vault.clone(), "one"), write(replica.clone(), "other"));
    let written = [one, other]
        .into_iter()
        .filter(|own| matches!(own, Swapped::Written(_)));
    assert_eq!(written.count(), 1, "one of two writers wins");
    assert!(
        raw(&store)
            .await
            .iter()
            .all(|(_, value)| !value.windows(6).any(|own| own == b"hunter"))
    );
    ends(&vault, &replica).await;
    let ring = KeyRing::new(key(2)).with_old(key(1));
    let renewed = Vault::open_with_ring(store.clone(), ring).await.unwrap();
    let done = renewed.rotate().await.unwrap();
    assert_eq!((done.renewed, done.unreadable), (20, 0));
    let wrong = Vault::open_with_ring(store, KeyRing::new(key(1))).await;
    assert!(matches!(wrong, Err(VaultError::WrongKey)));
}

/// A record ends for everybody.
async fn ends(vault: &Vault, replica: &Vault) {
    let brief = Some(Duration::from_millis(300));
    vault
        .write(&scope("bob"), &name("brief"), &Secret::new("x"), brief)
        .await
        .unwrap();
    assert!(
        replica
            .get(&scope("bob"), &name("brief"))
            .await
            .unwrap()
            .is_some()
    );
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(
        replica
            .get(&scope("bob"), &name("brief"))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn postgresql_holds_it() {
    let server = mcp_core::testing::PostgresServer::start().await;
    over(Arc::new(
        mcp_core::store::PostgresStore::new(&server.url()).unwrap(),
    ))
    .await;
}

#[tokio::test]
async fn redis_holds_it() {
    let server = mcp_core::testing::RedisServer::start().await;
    let config = mcp_core::store::RedisConfig::new(&server.url()).unwrap();
    let connection = config.connect_lazily().unwrap();
    over(Arc::new(
        mcp_core::store::RedisStore::new(connection, "app:").unwrap(),
    ))
    .await;
}

#[tokio::test]
async fn a_file_is_for_its_owner_alone_and_its_key_is_not_lost_silently() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vault.redb");
    let right = ValueKey::new(Secret::new("r".repeat(32)));
    let wrong = ValueKey::new(Secret::new("w".repeat(32)));
    let vault = Vault::open_file(&path, &right).await.unwrap();
    vault
        .put(&scope("alice"), &name("t"), Secret::new("x"))
        .await
        .unwrap();
    drop(vault);
    let error = Vault::open_file(&path, &wrong).await.unwrap_err();
    assert!(matches!(error, VaultError::WrongKey), "{error}");
    let vault = Vault::open_file(&path, &right).await.unwrap();
    assert_eq!(
        vault.get(&scope("alice"), &name("t")).await.unwrap(),
        Some(Secret::new("x"))
    );
    drop(vault);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Vault::open_file(&path, &right).await,
            Err(VaultError::Key(_))
        ));
    }
}

#[tokio::test]
async fn a_record_whose_key_is_gone_is_not_overwritten() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let both = KeyRing::new(key(1));
    let vault = Vault::open_with_ring(store.clone(), both).await.unwrap();
    vault
        .put(&scope("alice"), &name("t"), Secret::new("x"))
        .await
        .unwrap();
    // The record that shows the key is replaced, as by a half-done restore; the others still need the old one.
    let other = Vault::open_with_ring(Arc::new(MemoryStore::default()), KeyRing::new(key(2)))
        .await
        .unwrap();
    let prefix = StorePrefix::new::<&str>(&Namespace::new("vault-check").unwrap(), []).unwrap();
    let page = other.store().scan(&prefix, None, 1).await.unwrap();
    let (check, entry) = &page.entries[0];
    store.put(check, entry.value.clone(), None).await.unwrap();
    let vault = Vault::open_with_ring(store.clone(), KeyRing::new(key(2)))
        .await
        .unwrap();
    let error = vault
        .put(&scope("alice"), &name("t"), Secret::new("y"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    // Without that record the vault does not take the store for an empty one.
    store.delete(check).await.unwrap();
    let error = Vault::open_with_ring(store, KeyRing::new(key(2)))
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::WrongKey));
}

#[tokio::test]
async fn a_vault_does_not_print_what_its_store_holds() {
    let vault = Vault::open_with_ring(Arc::new(MemoryStore::default()), KeyRing::new(key(1)))
        .await
        .unwrap();
    let (scope, name) = (scope("alice"), name("github-token"));
    vault.put(&scope, &name, Secret::new("x")).await.unwrap();
    assert!(format!("{:?}", vault.store()).len() > 40);
    let printed = format!("{vault:?}");
    assert!(
        !printed.contains("github-token") && !printed.contains("MemoryStore"),
        "{printed}"
    );
}

#[tokio::test]
async fn swapped_records_do_not_open() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let vault = Vault::open_with_ring(store.clone(), KeyRing::new(key(1)))
        .await
        .unwrap();
    for user in ["alice", "bob"] {
        vault
            .put(&scope(user), &name("t"), Secret::new(user))
            .await
            .unwrap();
    }
    let all = raw(&store).await;
    store.put(&all[0].0, all[1].1.clone(), None).await.unwrap();
    store.put(&all[1].0, all[0].1.clone(), None).await.unwrap();
    for user in ["alice", "bob"] {
        let error = vault.get(&scope(user), &name("t")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{user}");
    }
}

#[tokio::test]
async fn a_rotation_may_be_interrupted_and_readers_do_not_wait() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let old = Vault::open_with_ring(store.clone(), KeyRing::new(key(1)))
        .await
        .unwrap();
    for n in 0..500 {
        old.put(
            &scope("alice"),
            &name(&format!("n{n}")),
            Secret::new(format!("s{n}")),
        )
        .await
        .unwrap();
    }
    let ring = KeyRing::new(key(2)).with_old(key(1));
    let vault = Vault::open_with_ring(store.clone(), ring).await.unwrap();
    let running = tokio::spawn({
        let vault = vault.clone();
        async move { vault.rotate().await }
    });
    // Interrupted anywhere, every record still opens.
    tokio::task::yield_now().await;
    running.abort();
    let _ = running.await;
    for n in 0..500 {
        let found = vault
            .get(&scope("alice"), &name(&format!("n{n}")))
            .await
            .unwrap();
        assert_eq!(found, Some(Secret::new(format!("s{n}"))));
    }
    let done = vault.rotate().await.unwrap();
    assert_eq!((done.renewed + done.current, done.unreadable), (500, 0));
    let again = vault.rotate().await.unwrap();
    assert_eq!((again.renewed, again.current), (0, 500));
    // The old key is no longer needed.
    let new = Vault::open_with_ring(store.clone(), KeyRing::new(key(2)))
        .await
        .unwrap();
    assert!(
        new.get(&scope("alice"), &name("n7"))
            .await
            .unwrap()
            .is_some()
    );
    assert!(matches!(
        Vault::open_with_ring(store, KeyRing::new(key(1))).await,
        Err(VaultError::WrongKey)
    ));
}

#[tokio::test]
async fn a_record_ends_and_a_rotation_does_not_make_it_endless() {
    let clock = FakeClock::new();
    let store: Arc<dyn StateStore> =
        Arc::new(MemoryStore::new().with_clock(Arc::new(clock.clone())));
    let open = |ring| {
        let (store, clock) = (store.clone(), clock.clone());
        async move {
            let vault = Vault::open_with_ring(store, ring).await.unwrap();
            vault.with_wall_clock(Arc::new(clock))
        }
    };
    let vault = open(KeyRing::new(key(1))).await;
    let ttl = Some(Duration::from_secs(60));
    vault
        .write(&scope("a"), &name("t"), &Secret::new("x"), ttl)
        .await
        .unwrap();
    clock.advance(Duration::from_secs(30));
    let vault = open(KeyRing::new(key(2)).with_old(key(1))).await;
    assert_eq!(vault.rotate().await.unwrap().renewed, 1);
    clock.advance(Duration::from_secs(29));
    assert!(vault.get(&scope("a"), &name("t")).await.unwrap().is_some());
    clock.advance(Duration::from_secs(2));
    assert!(vault.get(&scope("a"), &name("t")).await.unwrap().is_none());
    assert!(raw(&store).await.is_empty(), "the store has swept it");
}

#[tokio::test]
async fn a_record_that_is_cut_short_is_written_over() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let vault = Vault::open_with_ring(store.clone(), KeyRing::new(key(1)))
        .await
        .unwrap();
    let (scope, name) = (scope("alice"), name("t"));
    for left in [0, 1, 40, 88] {
        vault.put(&scope, &name, Secret::new("x")).await.unwrap();
        let (place, record) = raw(&store).await.remove(0);
        store.put(&place, record.slice(..left), None).await.unwrap();
        let error = vault.get(&scope, &name).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{left}");
        vault.put(&scope, &name, Secret::new("y")).await.unwrap();
        assert_eq!(
            vault.get(&scope, &name).await.unwrap(),
            Some(Secret::new("y"))
        );
    }
    // A record of a later format is not one that is cut.
    let (place, record) = raw(&store).await.remove(0);
    let mut later = record.to_vec();
    later[0] = 9;
    store.put(&place, later.into(), None).await.unwrap();
    assert!(vault.put(&scope, &name, Secret::new("z")).await.is_err());
}

/// Has another replica write a record just before the first compare-and-swap.
#[derive(Debug)]
struct Racing {
    store: Arc<dyn StateStore>,
    other: std::sync::Mutex<Option<Vault>>,
}

#[async_trait::async_trait]
impl StateStore for Racing {
    async fn get(&self, key: &StoreKey) -> Result<Option<mcp_core::store::Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        value: bytes::Bytes,
        ttl: Option<Duration>,
    ) -> Result<mcp_core::store::Version, StoreError> {
        self.store.put(key, value, ttl).await
    }

    async fn delete(&self, key: &StoreKey) -> Result<bool, StoreError> {
        self.store.delete(key).await
    }

    async fn compare_and_swap(
        &self,
        key: &StoreKey,
        expected: mcp_core::store::Expected,
        change: mcp_core::store::Change,
    ) -> Result<mcp_core::store::Swap, StoreError> {
        let other = self.other.lock().unwrap().take();
        if let Some(other) = other {
            let (scope, name) = (scope("alice"), name("t"));
            other.put(&scope, &name, Secret::new("newer")).await?;
        }
        self.store.compare_and_swap(key, expected, change).await
    }

    async fn scan(
        &self,
        prefix: &StorePrefix,
        cursor: Option<mcp_core::store::Cursor>,
        limit: usize,
    ) -> Result<mcp_core::store::Page, StoreError> {
        self.store.scan(prefix, cursor, limit).await
    }
}

#[tokio::test]
async fn a_rotation_renews_what_a_replica_with_the_old_key_writes_meanwhile() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let old = Vault::open_with_ring(store.clone(), KeyRing::new(key(1)))
        .await
        .unwrap();
    let (scope, name) = (scope("alice"), name("t"));
    old.put(&scope, &name, Secret::new("x")).await.unwrap();
    let racing = Racing {
        store: store.clone(),
        other: std::sync::Mutex::new(Some(old)),
    };
    let ring = KeyRing::new(key(2)).with_old(key(1));
    let vault = Vault::open_with_ring(Arc::new(racing), ring).await.unwrap();
    let done = vault.rotate().await.unwrap();
    assert_eq!((done.renewed, done.current, done.unreadable), (1, 0, 0));
    let new = Vault::open_with_ring(store, KeyRing::new(key(2)))
        .await
        .unwrap();
    let found = new.get(&scope, &name).await.unwrap();
    assert_eq!(found, Some(Secret::new("newer")));
}
