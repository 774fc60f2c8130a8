//! Two users behind one gateway.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mcp_auth::Challenge;
use mcp_core::http_client::{GuardedClient, HttpClient as _};
use mixed_auth::{STRATEGIES, World, print};
use serde_json::Value;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_token_is_led_to_the_authorization_server() {
    let world = World::start().await.unwrap();
    let client = GuardedClient::builder().insecure_allow_loopback().build();
    let client = client.unwrap();
    let get = async |url: &str| {
        let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
        let (parts, body) = client.send(request).await.unwrap().into_parts();
        let body = body.collect(1 << 16).await.unwrap();
        (parts, serde_json::from_slice(&body).unwrap_or(Value::Null))
    };
    let (refused, _) = get(world.url().as_str()).await;
    assert_eq!(refused.status, 401);
    let challenge = &Challenge::of_headers(&refused.headers)[0];
    let document = challenge.resource_metadata().unwrap();
    let (parts, document) = get(document.as_str()).await;
    assert_eq!(parts.status, 200);
    assert_eq!(document["resource"], world.url().as_str());
    let issuer = document["authorization_servers"][0].as_str().unwrap();
    let path = "/.well-known/openid-configuration";
    let (parts, metadata) = get(&format!("{issuer}{path}")).await;
    assert_eq!(
        (parts.status.as_u16(), &metadata["issuer"]),
        (200, &issuer.into())
    );
    world.stop().await;
}
