//! Two users behind one gateway.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mixed_auth::{STRATEGIES, World, print};

const USERS: [&str; 2] = ["alice", "bob"];

#[tokio::test(flavor = "multi_thread")]
async fn each_is_who_they_are_everywhere_and_their_tokens_never_meet() {
    let world = World::start().await.unwrap();
    for version in ["2026-07-28", "2025-11-25"] {
        for user in USERS {
            let answers = world.ask_as(user, version).await.unwrap();
            let expected = [
                ("bypass", "nobody".to_owned()),
                ("delegate", user.to_owned()),
                ("master", format!("{user} through gw")),
                ("proxy", user.to_owned()),
            ];
            let expected = expected.map(|(name, answer)| (name.to_owned(), answer));
            assert_eq!(answers, BTreeMap::from(expected), "{version}");
        }
    }
    let mut inbound = HashSet::new();
    for user in USERS {
        inbound.insert(print(world.token_of(user).await.unwrap().secret()));
    }
    // A gateway lists, listens and ends sessions beside calls, at times of its own. Each token that a server was shown
    // was given out for one user, whom the token is about.
    let given = world.given();
    for name in STRATEGIES {
        let shown = world.upstreams[name].shown();
        assert_eq!(shown.is_empty(), name == "bypass", "{name}");
        for own in &shown {
            let whom = given.get(&own.print).cloned().unwrap_or_default();
            assert_eq!(whom, BTreeSet::from([own.whose.clone()]), "{name} {own:?}");
            assert!(USERS.contains(&&*own.whose), "{name} {own:?}");
            assert!(
                !inbound.contains(&own.print),
                "passed through: {name} {own:?}"
            );
        }
        if name != "bypass" {
            let users: BTreeSet<_> = shown.iter().map(|own| &*own.whose).collect();
            assert_eq!(users, BTreeSet::from(USERS), "{name}");
        }
    }
    world.stop().await;
}
