//! Keys that rotate, are slow, huge or away.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::StatusCode;

use crate::{issuer::TestKey, simple};

#[tokio::test]
async fn a_new_key_is_found_and_an_old_one_forgotten() {
    let (issuer, first, clock, gate) = simple().await;
    let old = first.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&old).await.status, StatusCode::OK);
    let second = TestKey::new("k2");
    issuer.publish(&[&second]);
    clock.advance(Duration::from_secs(31));
    let new = second.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&new).await.status, StatusCode::OK);
    // The verdict about the old token was remembered; it ends with its key.
    assert_eq!(gate.bearer(&old).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch_in_thirty_seconds() {
    let (issuer, key, clock, gate) = simple().await;
    let good = key.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&good).await.status, StatusCode::OK);
    let gate = Arc::new(gate);
    for round in 1..=3 {
        clock.advance(Duration::from_secs(30));
        let flood = (0..200).map(|index| {
            let forger = TestKey::new(&format!("f{index}"));
            let token = forger.sign(&issuer.claims("mallory", clock.date()));
            let gate = Arc::clone(&gate);
            async move { gate.bearer(&token).await.status }
        });
        let statuses = join_all(flood).await;
        assert!(
            statuses
                .iter()
                .all(|status| *status == StatusCode::UNAUTHORIZED)
        );
        assert_eq!(issuer.fetches(), 1 + round);
        assert_eq!(gate.bearer(&good).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_refuse_with_503_and_not_with_401() {
    let (issuer, key, clock, gate) = simple().await;
    let token = key.sign(&issuer.claims("alice", clock.date()));
    *issuer.shared.status.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    let answer = gate.bearer(&token).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
    *issuer.shared.status.lock().unwrap() = StatusCode::OK;
    clock.advance(Duration::from_secs(6));
    assert_eq!(gate.bearer(&token).await.status, StatusCode::OK);
    // From here on the keys at hand do, however the issuer fares.
    *issuer.shared.status.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    clock.advance(Duration::from_secs(23 * 3600));
    let later = key.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&later).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(2 * 3600));
    let late = key.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(
        gate.bearer(&late).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn a_slow_or_huge_document_is_not_waited_for() {
    let (issuer, key, clock, gate) = simple().await;
    let token = key.sign(&issuer.claims("alice", clock.date()));
    *issuer.shared.delay.lock().unwrap() = Duration::from_secs(30);
    let started = tokio::time::Instant::now();
    assert_eq!(
        gate.bearer(&token).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(started.elapsed() < Duration::from_secs(5));
    *issuer.shared.delay.lock().unwrap() = Duration::ZERO;
    *issuer.shared.padding.lock().unwrap() = 300 << 10;
    clock.advance(Duration::from_secs(6));
    assert_eq!(
        gate.bearer(&token).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn shared_secrets_and_encryption_keys_are_not_taken_for_signing_keys() {
    let (issuer, key, clock, gate) = simple().await;
    let token = key.sign(&issuer.claims("alice", clock.date()));
    let mut encryption = key.public.clone();
    encryption["use"] = "enc".into();
    let mut other = key.public.clone();
    other["alg"] = "RS256".into();
    let secret = serde_json::json!({ "kty": "oct", "kid": "k1", "k": "c2VjcmV0" });
    for wrong in [encryption, other, secret] {
        *issuer.shared.keys.lock().unwrap() = vec![wrong];
        clock.advance(Duration::from_secs(31));
        assert_eq!(gate.bearer(&token).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn keys_of_one_id_and_of_two_types_stand_side_by_side() {
    // RFC 7517, section 4.5.
    let (issuer, key, clock, gate) = simple().await;
    let mut other = key.public.clone();
    other["kty"] = "OKP".into();
    other["crv"] = "Ed25519".into();
    other["x"] = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".into();
    for member in ["y", "alg"] {
        other.as_object_mut().unwrap().remove(member);
    }
    for order in [[&key.public, &other], [&other, &key.public]] {
        *issuer.shared.keys.lock().unwrap() = order.map(serde_json::Value::clone).into();
        clock.advance(Duration::from_secs(400));
        let token = key.sign(&issuer.claims("alice", clock.date()));
        assert_eq!(gate.bearer(&token).await.status, StatusCode::OK);
    }
}
