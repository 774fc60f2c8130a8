//! Forged, stale, foreign and oversized tokens. Each is refused with its exact status, and nothing of it is repeated.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_core::{
    AuditOutcome, MemoryAudit,
    store::{MemoryStore, StateStore},
};
use serde_json::{Value, json};

use crate::{Gate, issuer::TestKey, jwt, simple, with};

async fn refused(gate: &Gate, token: &str, what: &str) {
    let answer = gate.bearer(token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
    assert!(
        answer.challenge.contains("invalid_token"),
        "{what}: {}",
        answer.challenge
    );
    let shown = format!("{} {}", answer.challenge, answer.body);
    assert!(!shown.contains(token), "{what}");
}

#[tokio::test]
async fn check_04_a_good_token_passes_and_is_taken_out() {
    let (issuer, key, clock, gate) = simple().await;
    let token = key.sign(&issuer.claims("alice", clock.date()));
    for _ in 0..2 {
        let answer = gate.bearer(&token).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(
            answer.body,
            json!({ "issuer": issuer.url, "subject": "alice", "scheme": "jwt", "credential": false })
        );
    }
}

#[tokio::test]
async fn check_05_and_06_only_tokens_for_this_server_pass() {
    let (issuer, key, clock, gate) = simple().await;
    let good = issuer.claims("alice", clock.date());
    for (what, aud) in [
        ("another server", json!("https://other.example/mcp")),
        ("a prefix", json!("https://gw.example")),
        ("with a slash", json!("https://gw.example/mcp/")),
        ("a list of others", json!(["https://other.example", "x"])),
        ("an empty list", json!([])),
        ("a number", json!(7)),
        ("nothing", Value::Null),
    ] {
        let mut claims = good.clone();
        claims["aud"] = aud;
        refused(&gate, &key.sign(&claims), what).await;
    }
    let mut several = good;
    several["aud"] = json!(["https://other.example", crate::issuer::AUDIENCE]);
    assert_eq!(
        gate.bearer(&key.sign(&several)).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn claims_that_are_missing_or_wrong_are_refused() {
    let (issuer, key, clock, gate) = simple().await;
    let good = issuer.claims("alice", clock.date());
    let now = good["iat"].as_u64().unwrap();
    for (what, member, value) in [
        ("no issuer", "iss", Value::Null),
        ("another issuer", "iss", json!("https://evil.example")),
        (
            "the issuer with a slash",
            "iss",
            json!(format!("{}/", issuer.url)),
        ),
        ("no subject", "sub", Value::Null),
        ("an empty subject", "sub", json!("")),
        ("no end", "exp", Value::Null),
        ("ended", "exp", json!(now - 31)),
        ("an end that is a text", "exp", json!("9999999999")),
        ("an endless end", "exp", json!(1e300)),
        ("a negative end", "exp", json!(-1)),
        ("not yet", "nbf", json!(now + 31)),
        ("issued tomorrow", "iat", json!(now + 86_400)),
        ("another binding", "cnf", json!({ "jkt": "x" })),
        (
            "a certificate not shown",
            "cnf",
            json!({ "x5t#S256": URL_SAFE_NO_PAD.encode([7; 32]) }),
        ),
    ] {
        let mut claims = good.clone();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(member)),
            value => claims[member] = value,
        }
        refused(&gate, &key.sign(&claims), what).await;
    }
    for (what, member, value) in [
        ("within the leeway", "exp", json!(now - 29)),
        ("nearly yet", "nbf", json!(now + 29)),
    ] {
        let mut claims = good.clone();
        claims[member] = value;
        assert_eq!(
            gate.bearer(&key.sign(&claims)).await.status,
            StatusCode::OK,
            "{what}"
        );
    }
}

#[tokio::test]
async fn forged_headers_change_nothing() {
    let (issuer, key, clock, gate) = simple().await;
    let claims = issuer.claims("alice", clock.date());
    let forger = TestKey::new("k1");
    refused(
        &gate,
        &forger.sign(&claims),
        "another key under the same id",
    )
    .await;

    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("evil".into());
    header.jku = Some("https://evil.example/jwks".into());
    refused(&gate, &forger.sign_with(&header, &claims), "jku").await;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("k1".into());
    header.jwk = serde_json::from_value(forger.public.clone()).ok();
    refused(
        &gate,
        &forger.sign_with(&header, &claims),
        "jwk in the header",
    )
    .await;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("../../etc/passwd".into());
    refused(&gate, &key.sign_with(&header, &claims), "a path for an id").await;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("k1".into());
    header.crit = Some(vec!["b64".into()]);
    refused(&gate, &key.sign_with(&header, &claims), "crit").await;
    for kind in ["dpop+jwt", "JWE", "secevent+jwt"] {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k1".into());
        header.typ = Some(kind.into());
        refused(&gate, &key.sign_with(&header, &claims), kind).await;
    }
}

#[tokio::test]
async fn none_and_shared_secrets_are_no_signatures() {
    let (issuer, key, clock, gate) = simple().await;
    let claims = issuer.claims("alice", clock.date());
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", "", "nOnE"] {
        let token = format!(
            "{}.{}.",
            part(json!({ "alg": alg, "kid": "k1" })),
            part(claims.clone())
        );
        refused(&gate, &token, alg).await;
    }
    // The public key as a shared secret: the classic confusion of key types.
    let public = EncodingKey::from_secret(key.public.to_string().as_bytes());
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".into());
    refused(
        &gate,
        &jsonwebtoken::encode(&header, &claims, &public).unwrap(),
        "HS256",
    )
    .await;
    // A good signature cut off, and one of another token.
    let token = key.sign(&claims);
    let (message, signature) = token.rsplit_once('.').unwrap();
    refused(&gate, &format!("{message}."), "no signature").await;
    let other = key.sign(&issuer.claims("mallory", clock.date()));
    let (other, _) = other.rsplit_once('.').unwrap();
    refused(&gate, &format!("{other}.{signature}"), "another signature").await;
    refused(&gate, &format!("{token}.x"), "four parts").await;
}

#[tokio::test]
async fn an_oversized_token_is_refused_before_it_is_read() {
    let (_, _, _, gate) = simple().await;
    refused(&gate, &"a".repeat(16 * 1024 + 1), "16 KiB and a byte").await;
    let deep = URL_SAFE_NO_PAD.encode(format!("{}{}", "[".repeat(5000), "]".repeat(5000)));
    refused(&gate, &format!("{deep}.{deep}.x"), "deeply nested").await;
}

#[tokio::test]
async fn a_remembered_verdict_ends_with_the_token() {
    let (issuer, key, clock, gate) = simple().await;
    let token = key.sign(&issuer.claims("alice", clock.date()));
    assert_eq!(gate.bearer(&token).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(3600 + 29));
    assert_eq!(gate.bearer(&token).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(2));
    refused(&gate, &token, "expired").await;
}

#[tokio::test]
async fn a_revoked_token_is_refused_though_it_was_remembered() {
    let (issuer, key, clock, gate) = simple().await;
    let alice = key.sign(&issuer.claims("alice", clock.date()));
    let bob = key.sign(&issuer.claims("bob", clock.date()));
    for token in [&alice, &bob] {
        assert_eq!(gate.bearer(token).await.status, StatusCode::OK);
    }
    gate.server.revoke("id-alice", Duration::from_secs(3600));
    refused(&gate, &alice, "revoked by its id").await;
    assert_eq!(gate.bearer(&bob).await.status, StatusCode::OK);
    let bob_himself = mcp_core::Principal::authenticated(&issuer.url, "bob");
    gate.server
        .revoke_all(&bob_himself, Duration::from_secs(3600));
    refused(&gate, &bob, "revoked with its owner").await;
    clock.advance(Duration::from_secs(1));
    let later = key.sign(&issuer.claims("bob", clock.date()));
    assert_eq!(gate.bearer(&later).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_one_process_revokes_the_others_refuse_before_long() {
    let (issuer, key, clock, here) = simple().await;
    let there = Gate::new(jwt(&issuer, &clock));
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let (pace, day) = (Duration::from_millis(20), Duration::from_secs(86_400));
    let shared = here
        .server
        .share_revocations(store.clone(), pace)
        .await
        .unwrap();
    let _reading = there
        .server
        .share_revocations(store.clone(), pace)
        .await
        .unwrap();
    let tokens = ["alice", "bob", "carol"].map(|name| key.sign(&issuer.claims(name, clock.date())));
    for token in &tokens {
        assert_eq!(there.bearer(token).await.status, StatusCode::OK);
    }
    shared.revoke("id-alice", day).await.unwrap();
    let bob = mcp_core::Principal::authenticated(&issuer.url, "bob");
    shared.revoke_all(&bob, day).await.unwrap();
    for (token, what) in tokens.iter().zip(["by its id", "with its owner"]) {
        refused(&here, token, what).await;
        for _ in 0..200 {
            if there.bearer(token).await.status != StatusCode::OK {
                break;
            }
            tokio::time::sleep(pace).await;
        }
        refused(&there, token, what).await;
    }
    assert_eq!(there.bearer(&tokens[2]).await.status, StatusCode::OK);
    // A process that starts later knows it from the start, and what is issued afterwards passes.
    let later = Gate::new(jwt(&issuer, &clock));
    let _reading = later.server.share_revocations(store, day).await.unwrap();
    refused(&later, &tokens[1], "with its owner").await;
    clock.advance(Duration::from_secs(1));
    let fresh = key.sign(&issuer.claims("bob", clock.date()));
    assert_eq!(later.bearer(&fresh).await.status, StatusCode::OK);
}

#[tokio::test]
async fn check_14_a_token_in_the_address_is_refused() {
    let (issuer, key, clock, gate) = simple().await;
    let token = key.sign(&issuer.claims("alice", clock.date()));
    let mut request = with("authorization", &format!("Bearer {token}"));
    *request.uri_mut() = format!("/mcp?access_token={token}").parse().unwrap();
    assert_eq!(gate.send(request).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn refusals_and_first_acceptances_are_recorded_without_the_token() {
    let (issuer, key, clock, _) = simple().await;
    let audit = Arc::new(MemoryAudit::new(NonZeroUsize::new(16).unwrap()));
    let gate = Gate::new(jwt(&issuer, &clock).audit(audit.clone()));
    let token = key.sign(&issuer.claims("alice", clock.date()));
    gate.bearer(&token).await;
    gate.bearer(&token).await;
    gate.bearer("forged").await;
    let events = audit.events();
    let outcomes: Vec<_> = events.iter().map(|event| &event.outcome).collect();
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert_eq!(*outcomes[0], AuditOutcome::Succeeded);
    assert!(matches!(outcomes[1], AuditOutcome::Denied(_)));
    assert!(!format!("{events:?}").contains("forged"));
}
