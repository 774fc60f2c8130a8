use crate::{
    Partition, Principal,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::Namespace,
};

/// Checks that a store keeps the contract of [`SecretStore`]: what is put is got, and no scope sees another.
///
/// # Panics
///
/// If the contract is broken.
#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
pub async fn secret_store_contract(store: &dyn SecretStore) {
    let owner = |name| Partition::of(&Principal::authenticated("contract", name));
    let scope = |space, name| SecretScope::new(Namespace::new(space).unwrap(), owner(name));
    let mine = scope("contract-a", "alice");
    let others = [scope("contract-b", "alice"), scope("contract-a", "bob")];
    let names = ["token", "a/../token", "tok"].map(|name| SecretName::new(name).unwrap());

    assert_eq!(
        store.get(&mine, &names[0]).await.unwrap(),
        None,
        "an unwritten secret is absent"
    );
    for name in &names {
        store
            .put(&mine, name, Secret::new(name.as_str()))
            .await
            .unwrap();
    }
    for name in &names {
        let found = store.get(&mine, name).await.unwrap();
        assert_eq!(
            found,
            Some(Secret::new(name.as_str())),
            "what was put is got"
        );
        for other in &others {
            assert_eq!(
                store.get(other, name).await.unwrap(),
                None,
                "no scope sees another"
            );
            assert!(
                !store.delete(other, name).await.unwrap(),
                "no scope touches another"
            );
        }
    }
    writes_replace_and_end(store, &mine, &others, &names).await;
}

#[allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]
async fn writes_replace_and_end(
    store: &dyn SecretStore,
    mine: &SecretScope,
    others: &[SecretScope],
    names: &[SecretName],
) {
    let mut sorted = names.to_vec();
    sorted.sort();
    assert_eq!(
        store.list(mine).await.unwrap(),
        sorted,
        "a list is complete and in order"
    );
    for other in others {
        assert!(
            store.list(other).await.unwrap().is_empty(),
            "no scope lists another"
        );
    }
    store
        .put(mine, &names[0], Secret::new("second"))
        .await
        .unwrap();
    let second = store.get(mine, &names[0]).await.unwrap();
    assert_eq!(second, Some(Secret::new("second")), "a second write wins");
    for name in names {
        assert!(
            store.delete(mine, name).await.unwrap(),
            "deleting tells there was a secret"
        );
        assert!(
            !store.delete(mine, name).await.unwrap(),
            "deleting tells there was none"
        );
    }
}
