use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::store::{
    Change, Cursor, Expected, Namespace, StateStore, StoreErrorKind, StoreKey, StorePrefix, Swap,
};

/// Checks that a store keeps the contract of [`StateStore`].
///
/// `pass_time` must let at least the given time pass for the store's clock: advance a fake one, or sleep. The
/// longest asked for is 200 ms. The store must be empty below the namespace `contract`.
///
/// # Panics
///
/// If the contract is broken.
#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
pub async fn state_store_contract<F, Fut>(store: &dyn StateStore, pass_time: F)
where
    F: Fn(Duration) -> Fut,
    Fut: Future<Output = ()>,
{
    entries_come_and_go(store).await;
    swaps_compare(store).await;
    time_runs_out(store, &pass_time).await;
    scans_find_all(store).await;
}

fn ns() -> Namespace {
    Namespace::new("contract").expect("a valid name")
}

fn key(parts: &[&str]) -> StoreKey {
    StoreKey::new(&ns(), parts).expect("a short key")
}

#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
async fn entries_come_and_go(store: &dyn StateStore) {
    let (a, ab) = (key(&["come", "a"]), key(&["come", "a", "b"]));
    assert_eq!(
        store.get(&a).await.unwrap(),
        None,
        "an unwritten key is absent"
    );
    let first = store
        .put(&a, Bytes::from_static(b"1\0\xff"), None)
        .await
        .unwrap();
    let entry = store
        .get(&a)
        .await
        .unwrap()
        .expect("a written key is there");
    assert_eq!(
        (&entry.value[..], entry.version),
        (&b"1\0\xff"[..], first),
        "what was written is read"
    );
    assert_eq!(
        store.get(&ab).await.unwrap(),
        None,
        "a longer key is another key"
    );
    let second = store.put(&a, Bytes::new(), None).await.unwrap();
    assert_ne!(first, second, "each write has its version");
    assert!(
        store.get(&a).await.unwrap().unwrap().value.is_empty(),
        "an empty value is a value"
    );
    assert!(
        store.delete(&a).await.unwrap(),
        "deleting tells there was an entry"
    );
    assert!(
        !store.delete(&a).await.unwrap(),
        "deleting tells there was none"
    );
    assert_eq!(
        store.get(&a).await.unwrap(),
        None,
        "a deleted key is absent"
    );
    let third = store
        .put(&a, Bytes::from_static(b"1\0\xff"), None)
        .await
        .unwrap();
    assert!(
        third != first && third != second,
        "versions are not used again after a delete"
    );
}

#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
async fn swaps_compare(store: &dyn StateStore) {
    let k = key(&["swap"]);
    let put = |text: &'static str| Change::Put {
        value: text.into(),
        ttl: None,
    };
    let Swap::Written(one) = store
        .compare_and_swap(&k, Expected::Absent, put("1"))
        .await
        .unwrap()
    else {
        panic!("an absent key is as expected");
    };
    match store
        .compare_and_swap(&k, Expected::Absent, put("x"))
        .await
        .unwrap()
    {
        Swap::Conflict(Some(found)) => {
            assert_eq!((&found.value[..], found.version), (&b"1"[..], one))
        }
        other => panic!("a present key is a conflict that shows it, not {other:?}"),
    }
    let Swap::Written(two) = store
        .compare_and_swap(&k, Expected::Version(one), put("2"))
        .await
        .unwrap()
    else {
        panic!("the right version is as expected");
    };
    let stale = store
        .compare_and_swap(&k, Expected::Version(one), Change::Delete)
        .await
        .unwrap();
    assert!(
        matches!(stale, Swap::Conflict(Some(found)) if found.version == two),
        "a stale version conflicts"
    );
    let gone = store
        .compare_and_swap(&k, Expected::Version(two), Change::Delete)
        .await
        .unwrap();
    assert_eq!(gone, Swap::Deleted);
    let late = store
        .compare_and_swap(&k, Expected::Version(two), put("3"))
        .await
        .unwrap();
    assert_eq!(
        late,
        Swap::Conflict(None),
        "nothing there is a conflict too"
    );
}

#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
async fn time_runs_out<F, Fut>(store: &dyn StateStore, pass_time: &F)
where
    F: Fn(Duration) -> Fut,
    Fut: Future<Output = ()>,
{
    let (short, long) = (key(&["ttl", "short"]), key(&["ttl", "long"]));
    let ttl = Some(Duration::from_millis(100));
    store.put(&short, "s".into(), ttl).await.unwrap();
    store
        .put(&long, "l".into(), Some(Duration::MAX))
        .await
        .unwrap();
    let version = store
        .get(&short)
        .await
        .unwrap()
        .expect("alive before its time")
        .version;
    pass_time(Duration::from_millis(200)).await;
    assert_eq!(
        store.get(&short).await.unwrap(),
        None,
        "dead after its time"
    );
    assert!(
        store.get(&long).await.unwrap().is_some(),
        "the longest time is not over"
    );
    let page = store
        .scan(&StorePrefix::new(&ns(), ["ttl"]).unwrap(), None, 10)
        .await
        .unwrap();
    assert!(
        page.entries.iter().all(|(found, _)| *found == long),
        "a scan leaves out what is over"
    );
    let change = Change::Put {
        value: "again".into(),
        ttl,
    };
    let stale = store
        .compare_and_swap(&short, Expected::Version(version), change.clone())
        .await
        .unwrap();
    assert_eq!(stale, Swap::Conflict(None), "a dead entry has no version");
    let fresh = store
        .compare_and_swap(&short, Expected::Absent, change)
        .await
        .unwrap();
    assert!(matches!(fresh, Swap::Written(_)), "a dead entry is absent");
    writes_end_times(store, &short, pass_time).await;
}

#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
async fn writes_end_times<F, Fut>(store: &dyn StateStore, short: &StoreKey, pass_time: &F)
where
    F: Fn(Duration) -> Fut,
    Fut: Future<Output = ()>,
{
    store.put(short, "kept".into(), None).await.unwrap();
    pass_time(Duration::from_millis(200)).await;
    assert!(
        store.get(short).await.unwrap().is_some(),
        "a write without a time ends the old one"
    );
    let zero = store
        .put(short, "z".into(), Some(Duration::ZERO))
        .await
        .unwrap_err();
    assert_eq!(
        zero.kind(),
        StoreErrorKind::Invalid,
        "a time of zero is refused"
    );
}

#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
async fn scans_find_all(store: &dyn StateStore) {
    let mut expected = BTreeMap::new();
    for number in 0..100 {
        let name = format!("{number}*/[%");
        store
            .put(&key(&["scan", &name]), Bytes::from(name.clone()), None)
            .await
            .unwrap();
        expected.insert(key(&["scan", &name]), Bytes::from(name));
    }
    store
        .put(&key(&["scanner", "no"]), "outside".into(), None)
        .await
        .unwrap();
    let prefix = StorePrefix::new(&ns(), ["scan"]).unwrap();
    let mut found = BTreeMap::new();
    let mut cursor: Option<Cursor> = None;
    for _ in 0..1000 {
        let page = store.scan(&prefix, cursor, 7).await.unwrap();
        found.extend(
            page.entries
                .into_iter()
                .map(|(key, entry)| (key, entry.value)),
        );
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(cursor, None, "a scan comes to an end");
    assert_eq!(
        found, expected,
        "a scan finds what is below the prefix and nothing else"
    );
}

/// Checks that compare-and-swap loses no update when eight tasks count to 400 together.
///
/// # Panics
///
/// If an update is lost or the store fails.
#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
pub async fn state_store_races(store: Arc<dyn StateStore>) {
    let k = key(&["race"]);
    let tasks = (0..8).map(|_| {
        let (store, k) = (Arc::clone(&store), k.clone());
        tokio::spawn(async move {
            for _ in 0..50 {
                while !count_up(&*store, &k).await {}
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(
        store.get(&k).await.unwrap().unwrap().value,
        "400",
        "an update was lost"
    );
}

#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
async fn count_up(store: &dyn StateStore, k: &StoreKey) -> bool {
    let found = store.get(k).await.unwrap();
    let count = found.as_ref().map_or(0, |entry| {
        str::from_utf8(&entry.value)
            .unwrap()
            .parse::<u32>()
            .unwrap()
    });
    let change = Change::Put {
        value: (count + 1).to_string().into(),
        ttl: None,
    };
    let swap = store
        .compare_and_swap(k, found.as_ref().into(), change)
        .await
        .unwrap();
    matches!(swap, Swap::Written(_))
}
