//! Two users behind one gateway.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, HashSet};

use mixed_auth::{Prints, STRATEGIES, World};
use sha2::{Digest as _, Sha256};

#[tokio::test(flavor = "multi_thread")]
async fn each_is_who_they_are_everywhere_and_their_tokens_never_meet() {
    let world = World::start().await.unwrap();
    let mut shown: BTreeMap<&str, Vec<Prints>> = BTreeMap::new();
    for version in ["2026-07-28", "2025-11-25"] {
        for user in ["alice", "bob"] {
            let answers = world.ask_as(user, version).await.unwrap();
            let expected = [
                ("bypass", "nobody".to_owned()),
                ("delegate", user.to_owned()),
                ("master", format!("{user} through gw")),
                ("proxy", user.to_owned()),
            ];
            let expected = expected.map(|(name, answer)| (name.to_owned(), answer));
            assert_eq!(answers, BTreeMap::from(expected), "{version}");
            for name in STRATEGIES {
                let prints = world.upstreams[name].take_seen();
                assert_eq!(prints.is_empty(), name == "bypass", "{user} {name}");
                shown.entry(user).or_default().push(prints);
            }
        }
    }
    // No token of one user was ever shown on behalf of the other, and the gateway's own inbound tokens to nobody.
    let all = |user: &str| -> HashSet<_> { shown[user].iter().flatten().copied().collect() };
    assert!(all("alice").is_disjoint(&all("bob")));
    for user in ["alice", "bob"] {
        let inbound = world.token_of(user).await.unwrap();
        let print: [u8; 32] = Sha256::digest(inbound.secret().as_bytes()).into();
        for other in ["alice", "bob"] {
            assert!(
                !all(other).contains(&print),
                "a client's token was passed through"
            );
        }
    }
    world.stop().await;
}
