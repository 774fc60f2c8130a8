//! Tokens that are bound to a key (RFC 9449), and everything that may be wrong with a proof.

use std::{sync::Arc, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, ThumbprintHash},
};
use mcp_auth::server::{Dpop, RequestBody};
use mcp_core::{clock::FakeClock, secret::Secret, store::MemoryStore};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{
    Gate,
    issuer::{AUDIENCE, Issuer, TestKey},
    jwt,
};

const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

/// A client with a key that its token is bound to.
struct Client {
    key: TestKey,
    jwk: Jwk,
    token: String,
    clock: FakeClock,
}

struct World {
    issuer: Issuer,
    signer: TestKey,
    clock: FakeClock,
    gate: Gate,
}

async fn world(dpop: Dpop) -> World {
    let signer = TestKey::new("k1");
    let issuer = Issuer::start(&[&signer]).await;
    let clock = FakeClock::new();
    let gate = Gate::new(jwt(&issuer, &clock).dpop(dpop));
    World {
        issuer,
        signer,
        clock,
        gate,
    }
}

impl World {
    fn client(&self) -> Client {
        let key = TestKey::new("");
        let jwk = Jwk::from_encoding_key(&key.encoding, Algorithm::ES256).unwrap();
        let mut claims = self.issuer.claims("alice", self.clock.date());
        claims["cnf"] = json!({ "jkt": jwk.thumbprint(ThumbprintHash::SHA256).unwrap() });
        Client {
            token: self.signer.sign(&claims),
            key,
            jwk,
            clock: self.clock.clone(),
        }
    }

    fn unbound(&self) -> String {
        let claims = self.issuer.claims("alice", self.clock.date());
        self.signer.sign(&claims)
    }

    async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> (StatusCode, Vec<String>, Response<String>) {
        let inner = service_fn(|request: Request<RequestBody<Full<Bytes>>>| async move {
            let left = request.headers().contains_key("dpop");
            let body = request.into_body().collect().await;
            let text = match body {
                Ok(body) => format!("{left} {}", body.to_bytes().len()),
                Err(error) => error.to_string(),
            };
            Ok::<_, std::convert::Infallible>(Response::new(text))
        });
        let answer = self.gate.server.layer().layer(inner).oneshot(request);
        let (parts, body) = answer.await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let challenges = parts.headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges = challenges.map(|own| own.to_str().unwrap().to_owned());
        let (status, challenges) = (parts.status, challenges.collect());
        let text = String::from_utf8(body.to_vec()).unwrap();
        (status, challenges, Response::from_parts(parts, text))
    }

    async fn post(&self, client: &Client, proof: &str) -> (StatusCode, String) {
        let (status, challenges, _) = self.send(client.request(proof, BODY)).await;
        (status, challenges.join(", "))
    }
}

impl Client {
    fn claims(&self) -> Value {
        let now = self
            .clock
            .date()
            .duration_since(std::time::SystemTime::UNIX_EPOCH);
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        json!({
            "jti": format!("id-{id}"), "htm": "POST", "htu": AUDIENCE, "iat": now.unwrap().as_secs(),
            "ath": URL_SAFE_NO_PAD.encode(Sha256::digest(self.token.as_bytes())),
            "content_digest": format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(BODY))),
        })
    }

    fn header(&self) -> Header {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("dpop+jwt".to_owned());
        header.jwk = Some(self.jwk.clone());
        header
    }

    fn sign(&self, claims: &Value) -> String {
        self.key.sign_with(&self.header(), claims)
    }

    fn request(&self, proof: &str, body: &'static str) -> Request<Full<Bytes>> {
        Request::post("/mcp?x=1")
            .header(header::AUTHORIZATION, format!("DPoP {}", self.token))
            .header("dpop", proof)
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap()
    }
}

/// Writes a proof with a header of one's own making, signed by a key.
fn raw(header: &Value, claims: &Value, key: &EncodingKey) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

#[tokio::test]
async fn a_bound_token_passes_with_a_proof_for_each_request() {
    let world = world(Dpop::new()).await;
    let client = world.client();
    for _ in 0..3 {
        let proof = client.sign(&client.claims());
        let (status, _, answer) = world.send(client.request(&proof, BODY)).await;
        assert_eq!(status, StatusCode::OK, "{}", answer.body());
        // The body is whole, and the proof is not handed on.
        assert_eq!(answer.body(), &format!("false {}", BODY.len()));
    }
    // A client that knows RFC 9449 alone.
    let mut claims = client.claims();
    claims.as_object_mut().unwrap().remove("content_digest");
    let (status, _) = world.post(&client, &client.sign(&claims)).await;
    assert_eq!(status, StatusCode::OK);
    // Beside it bearer tokens and the scheme in other letters.
    let bearer =
        Request::post("/mcp").header("authorization", format!("Bearer {}", world.unbound()));
    let (status, ..) = world.send(bearer.body(Full::default()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_proof_is_refused() {
    let world = world(Dpop::new()).await;
    let client = world.client();
    let now = client.claims()["iat"].as_u64().unwrap();
    for (what, member, value) in [
        ("another method", "htm", json!("GET")),
        ("another address", "htu", json!("https://gw.example/other")),
        ("another origin", "htu", json!("https://evil.example/mcp")),
        ("another scheme", "htu", json!("http://gw.example/mcp")),
        ("no address", "htu", json!("nonsense")),
        (
            "another token",
            "ath",
            json!(URL_SAFE_NO_PAD.encode([1; 32])),
        ),
        ("no token", "ath", Value::Null),
        ("too old", "iat", json!(now - 301)),
        ("too new", "iat", json!(now + 301)),
        ("an endless date", "iat", json!(1e300)),
        ("no date", "iat", Value::Null),
        ("no id", "jti", Value::Null),
        ("an empty id", "jti", json!("")),
        ("a long id", "jti", json!("x".repeat(2000))),
        (
            "a digest of another kind",
            "content_digest",
            json!("sha-512=:AA==:"),
        ),
        (
            "a digest that is none",
            "content_digest",
            json!("sha-256=:AA==:"),
        ),
    ] {
        let mut claims = client.claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(member)),
            value => claims[member] = value,
        }
        let proof = client.sign(&claims);
        let (status, challenge) = world.post(&client, &proof).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}");
        assert!(challenge.starts_with("DPoP algs="), "{what}: {challenge}");
        assert!(
            challenge.contains("invalid_dpop_proof"),
            "{what}: {challenge}"
        );
        assert!(!challenge.contains(&proof), "{what}");
    }
}

#[tokio::test]
async fn dates_and_addresses_are_compared_as_what_they_mean() {
    let world = world(Dpop::new()).await;
    let client = world.client();
    let now = client.claims()["iat"].as_u64().unwrap();
    for (what, member, value) in [
        ("nearly too old", "iat", json!(now - 299)),
        (
            "the query in the address",
            "htu",
            json!(format!("{AUDIENCE}?x=1#y")),
        ),
        (
            "the address in other letters",
            "htu",
            json!("HTTPS://GW.example:443/mcp"),
        ),
    ] {
        let mut claims = client.claims();
        claims[member] = value;
        let (status, challenge) = world.post(&client, &client.sign(&claims)).await;
        assert_eq!(status, StatusCode::OK, "{what}: {challenge}");
    }
}

#[tokio::test]
async fn forged_proofs_are_refused() {
    let world = world(Dpop::new()).await;
    let client = world.client();
    let other = world.client();
    let header = serde_json::to_value(client.header()).unwrap();
    let with = |member: &str, value: Value| {
        let mut header = header.clone();
        header[member] = value;
        raw(&header, &client.claims(), &client.key.encoding)
    };
    let mut private = header["jwk"].clone();
    private["d"] = "AA".into();
    let symmetric = json!({ "kty": "oct", "k": "AAAA" });
    let own = client.sign(&client.claims());
    let mut cut = own.clone();
    cut.truncate(own.len() - 4);
    for (what, proof) in [
        ("another type", with("typ", json!("JWT"))),
        ("no algorithm", with("alg", json!("none"))),
        ("a shared secret", with("alg", json!("HS256"))),
        ("an algorithm of another key", with("alg", json!("RS256"))),
        ("an extension", with("crit", json!(["exp"]))),
        ("a private key", with("jwk", private)),
        ("a symmetric key", with("jwk", symmetric)),
        ("no key", with("jwk", Value::Null)),
        (
            "the key of another in the header",
            with("jwk", serde_json::to_value(&other.jwk).unwrap()),
        ),
        ("signed by another", other.sign(&client.claims())),
        ("a signature that is cut", cut),
        ("a token", client.token.clone()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("too long", format!("{own}{}", "A".repeat(9000))),
    ] {
        let (status, challenge) = world.post(&client, &proof).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}");
        assert!(
            challenge.contains("invalid_dpop_proof"),
            "{what}: {challenge}"
        );
    }
    // Two proofs are none.
    let mut request = client.request(&own, BODY);
    let again = client.sign(&client.claims()).parse().unwrap();
    request.headers_mut().append("dpop", again);
    assert_eq!(world.send(request).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_proof_counts_once_also_over_replicas() {
    let store = Arc::new(MemoryStore::default());
    let first = world(Dpop::new().with_store(store.clone())).await;
    let client = first.client();
    let builder = jwt(&first.issuer, &first.clock).dpop(Dpop::new().with_store(store));
    let second = World {
        issuer: first.issuer.clone(),
        signer: first.signer.clone(),
        clock: first.clock.clone(),
        gate: Gate::new(builder),
    };
    let proof = client.sign(&client.claims());
    assert_eq!(first.post(&client, &proof).await.0, StatusCode::OK);
    for replica in [&first, &second] {
        let (status, challenge) = replica.post(&client, &proof).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(challenge.contains("used before"), "{challenge}");
    }
    // Of many at once one passes.
    let proof = client.sign(&client.claims());
    let all = (0..20).map(|_| first.post(&client, &proof));
    let all = futures_util::future::join_all(all).await;
    assert_eq!(
        all.iter().filter(|(status, _)| status.is_success()).count(),
        1
    );
}

#[tokio::test]
async fn a_body_that_the_proof_is_not_about_is_not_acted_on() {
    let world = world(Dpop::new()).await;
    let client = world.client();
    let proof = client.sign(&client.claims());
    let other = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    let (status, challenges, answer) = world.send(client.request(&proof, other)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        challenges[0].contains("invalid_dpop_proof"),
        "{challenges:?}"
    );
    assert!(
        answer.body().contains("the body is not the one"),
        "{}",
        answer.body()
    );
    let strict = self::world(Dpop::new().with_content_digest_required()).await;
    let client = strict.client();
    let mut claims = client.claims();
    claims.as_object_mut().unwrap().remove("content_digest");
    let (status, challenge) = strict.post(&client, &client.sign(&claims)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains("no content_digest"), "{challenge}");
}

#[tokio::test]
async fn a_token_passes_in_the_way_that_it_was_issued_for_and_in_no_other() {
    let world = world(Dpop::new()).await;
    let client = world.client();
    // As a bearer's, before it was ever seen and when it is known.
    for _ in 0..2 {
        let answer = world.gate.bearer(&client.token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge.starts_with("DPoP"), "{}", answer.challenge);
        let proof = client.sign(&client.claims());
        assert_eq!(world.post(&client, &proof).await.0, StatusCode::OK);
    }
    // An unbound one with a proof.
    let unbound = Client {
        token: world.unbound(),
        key: client.key.clone(),
        jwk: client.jwk.clone(),
        clock: world.clock.clone(),
    };
    let (status, challenge) = world.post(&unbound, &unbound.sign(&unbound.claims())).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains("not bound to a key"), "{challenge}");
    // The token of another with one's own key.
    let thief = Client {
        token: world.client().token,
        ..unbound
    };
    let (status, challenge) = world.post(&thief, &thief.sign(&thief.claims())).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains("another key"), "{challenge}");
    let strict = self::world(Dpop::new().required()).await;
    let answer = strict.gate.bearer(&strict.unbound()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge.starts_with("DPoP"), "{}", answer.challenge);
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_then_it_counts_and_not_the_date() {
    let dpop = Dpop::new().with_nonces(Secret::new("0123456789abcdef0123456789abcdef"));
    let world = world(dpop).await;
    let client = world.client();
    let proof = client.sign(&client.claims());
    let (status, challenges, answer) = world.send(client.request(&proof, BODY)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenges[0].contains("use_dpop_nonce"), "{challenges:?}");
    let nonce = answer.headers()["dpop-nonce"].to_str().unwrap().to_owned();
    let mut claims = client.claims();
    claims["nonce"] = nonce.clone().into();
    claims["iat"] = json!(1);
    let (status, _, answer) = world
        .send(client.request(&client.sign(&claims), BODY))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer.headers()["dpop-nonce"], nonce.as_str());
    world.clock.advance(Duration::from_secs(301));
    let mut claims = client.claims();
    claims["nonce"] = nonce.into();
    let (status, challenge) = world.post(&client, &client.sign(&claims)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains("use_dpop_nonce"), "{challenge}");
}

#[tokio::test]
async fn what_is_taken_is_announced() {
    for (dpop, required) in [(Dpop::new(), false), (Dpop::new().required(), true)] {
        let world = world(dpop).await;
        let document = world.gate.server.resource().document().unwrap().clone();
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["dpop_bound_access_tokens_required"], required);
        let algorithms = document["dpop_signing_alg_values_supported"]
            .as_array()
            .unwrap();
        assert!(algorithms.contains(&json!("ES256")), "{algorithms:?}");
        let request = Request::post("/mcp").body(Full::default()).unwrap();
        let (status, challenges, _) = world.send(request).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let schemes: Vec<_> = challenges.iter().map(|own| &own[..4]).collect();
        let expected: &[&str] = if required {
            &["DPoP"]
        } else {
            &["Bear", "DPoP"]
        };
        assert_eq!(schemes, expected);
        assert!(
            challenges
                .iter()
                .all(|own| own.contains("resource_metadata"))
        );
    }
    // Without it the scheme is not known.
    let (issuer, key, clock, gate) = crate::simple().await;
    let token = key.sign(&issuer.claims("alice", clock.date()));
    let request = crate::with("authorization", &format!("DPoP {token}"));
    assert_eq!(gate.send(request).await.status, StatusCode::UNAUTHORIZED);
}
