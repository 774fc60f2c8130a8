//! What all stores have in common.

use mcp_core::{
    Partition, Principal,
    secret::{Secret, SecretScope},
    store::{Namespace, StoreErrorKind},
    testing::secret_store_contract,
};

use crate::{ALL, name, shared};

#[tokio::test(start_paused = true)]
async fn all_stores_keep_the_contract() {
    for (_, stand) in ALL {
        secret_store_contract(&*stand().store).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_of_any_kind_are_kept_apart_and_listed_over_many_pages() {
    for (service, stand) in ALL {
        let store = stand().store;
        let names = [
            "a", "A", "a-", "a--b", "a/b", "a%2fb", "a=2fb", "..", ".", "ä", "a b", "a-2d", "a_b",
            "A-b", "-", "--",
        ]
        .map(name);
        for own in &names {
            let secret = Secret::new(format!("of {own}"));
            store.put(&shared(), own, secret).await.unwrap();
        }
        let long = "0123456789abcdef".repeat(4);
        store
            .put(&shared(), &name(&long), Secret::new("x"))
            .await
            .unwrap();
        for own in &names {
            let found = store.get(&shared(), own).await.unwrap();
            let expected = Some(Secret::new(format!("of {own}")));
            assert_eq!(found, expected, "{service} {own}");
        }
        let mut all = names.to_vec();
        all.push(name(&long));
        all.sort_unstable();
        assert_eq!(store.list(&shared()).await.unwrap(), all, "{service}");
        for own in &names {
            assert!(
                store.delete(&shared(), own).await.unwrap(),
                "{service} {own}"
            );
        }
        assert_eq!(
            store.list(&shared()).await.unwrap(),
            [name(&long)],
            "{service}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn values_of_any_kind_come_back() {
    for (service, stand) in ALL {
        let store = stand().store;
        for text in [" ", "ä\n\"\\\u{0}", &"x".repeat(20_000), "{\"a\":1}"] {
            store
                .put(&shared(), &name("t"), Secret::new(text))
                .await
                .unwrap();
            let found = store.get(&shared(), &name("t")).await.unwrap();
            assert_eq!(found, Some(Secret::new(text)), "{service}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_prefix_is_another_place() {
    for (service, stand) in ALL {
        let own = stand();
        own.store
            .put(&shared(), &name("t"), Secret::new("x"))
            .await
            .unwrap();
        assert_eq!(
            own.other.get(&shared(), &name("t")).await.unwrap(),
            None,
            "{service}"
        );
        assert!(
            own.other.list(&shared()).await.unwrap().is_empty(),
            "{service}"
        );
        own.other
            .put(&shared(), &name("t"), Secret::new("y"))
            .await
            .unwrap();
        let found = own.store.get(&shared(), &name("t")).await.unwrap();
        assert_eq!(found, Some(Secret::new("x")), "{service}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_is_written_again_at_once() {
    for (service, stand) in ALL {
        let store = stand().store;
        for round in ["one", "two", "three"] {
            store
                .put(&shared(), &name("t"), Secret::new(round))
                .await
                .unwrap();
            let found = store.get(&shared(), &name("t")).await.unwrap();
            assert_eq!(found, Some(Secret::new(round)), "{service}");
            assert!(
                store.delete(&shared(), &name("t")).await.unwrap(),
                "{service}"
            );
            assert_eq!(
                store.get(&shared(), &name("t")).await.unwrap(),
                None,
                "{service}"
            );
            assert!(
                !store.delete(&shared(), &name("t")).await.unwrap(),
                "{service}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_too_long_is_refused_before_anything_is_sent() {
    for (service, stand) in ALL {
        let own = stand();
        let longest = name(&"ä".repeat(128));
        let scope = SecretScope::new(
            Namespace::new("oauth").unwrap(),
            Partition::of(&Principal::local()),
        );
        match own.store.put(&scope, &longest, Secret::new("x")).await {
            Ok(()) => assert_eq!(
                own.store.list(&scope).await.unwrap(),
                [longest],
                "{service}"
            ),
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Invalid, "{service}");
                assert_eq!(own.net.count(own.origin), 0, "{service}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn writers_of_one_name_do_not_fail() {
    for (service, stand) in ALL {
        let own = stand();
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..8 {
            let store = own.store.clone();
            writers.spawn(async move {
                let secret = Secret::new(n.to_string());
                store.put(&shared(), &name("t"), secret).await
            });
        }
        while let Some(written) = writers.join_next().await {
            written.unwrap().unwrap();
        }
        assert_eq!(
            own.store.list(&shared()).await.unwrap(),
            [name("t")],
            "{service}"
        );
    }
}
