//! What the parts cost that are on the way of every call.
#![allow(missing_docs, reason = "the macros of criterion make items without")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::{convert::Infallible, hint::black_box, io::Write as _, sync::Arc, time::SystemTime};

use axum::{Json, routing::get};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto, jwk::Jwk};
use mcp_auth::{
    audit::{FileAudit, OnFailure},
    policy::{Pattern, Rbac},
    server::{ApiKeyScheme, ApiKeys, JwtScheme, MemoryApiKeys, RequestBody, ResourceServer},
    vault::{KeyRing, ValueKey, Vault, VaultKey},
};
use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, EntryKind, Partition, Principal,
    http_client::GuardedClient,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::Namespace,
    transport::http::{HttpConfig, HttpTransport},
};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Runtime};
use tower::{Layer, Service, service_fn};

/// A resource server, and a key that it takes.
fn gate() -> (ResourceServer, Secret) {
    let keys = ApiKeys::new("gw", Secret::new("pepper"));
    let (key, record) = keys.issue("alice", ["mcp:read"], None);
    let auth = ResourceServer::builder("https://gw.example/mcp")
        .authorization_server("https://as.example")
        .scheme(ApiKeyScheme::new(
            "keys",
            keys,
            Arc::new(MemoryApiKeys::new([record])),
        ))
        .build()
        .unwrap();
    (auth, key)
}

fn resource_server(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (auth, key) = gate();
    let request = || {
        let header = format!("Bearer {}", key.secret());
        Request::post("/mcp")
            .header("authorization", header)
            .body(())
            .unwrap()
    };
    let mut bare = service_fn(nothing::<()>);
    c.bench_function("resource server/bare", |b| {
        b.to_async(&runtime).iter_batched(
            request,
            |request| bare.call(request),
            criterion::BatchSize::SmallInput,
        );
    });
    let mut layered = auth.layer().layer(service_fn(nothing::<RequestBody<()>>));
    c.bench_function("resource server/token seen before", |b| {
        b.to_async(&runtime).iter_batched(
            request,
            |request| layered.call(request),
            criterion::BatchSize::SmallInput,
        );
    });
}

/// A service that answers with nothing.
type Answered = Result<Response<String>, Infallible>;

async fn nothing<B>(request: Request<B>) -> Answered {
    black_box(&request);
    Ok(Response::new(String::new()))
}

/// An issuer on this machine, whose keys are fetched once.
async fn issuer(public: serde_json::Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/jwks") });
    let app = axum::Router::new()
        .route(
            "/jwks",
            get(move || async move { Json(json!({ "keys": [public] })) }),
        )
        .route(
            "/.well-known/oauth-authorization-server",
            get(move || async move { Json(metadata) }),
        );
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn new_token(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    let decoding = DecodingKey::from_jwk(&jwk).unwrap();
    let url = runtime.block_on(issuer(serde_json::to_value(&jwk).unwrap()));
    let resource = "https://gw.example/mcp";
    let http = Arc::new(GuardedClient::operator(&url).unwrap());
    let auth = ResourceServer::builder(resource)
        .authorization_server(&url)
        .scheme(JwtScheme::new(&url, resource, http))
        .remembered(0)
        .build()
        .unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = json!({
        "iss": url, "sub": "alice", "aud": resource, "iat": now, "exp": now + 3600, "scope": "mcp:read mcp:write",
        "client_id": "c1", "jti": "0123456789abcdef",
    });
    let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    c.bench_function("resource server/bare ES256 signature check", |b| {
        b.iter(|| {
            crypto::verify(signature, message.as_bytes(), &decoding, Algorithm::ES256).unwrap()
        });
    });
    let mut layered = auth.layer().layer(service_fn(nothing::<RequestBody<()>>));
    let header = format!("Bearer {token}");
    let request = || {
        Request::post("/mcp")
            .header("authorization", &header)
            .body(())
            .unwrap()
    };
    assert_eq!(
        runtime.block_on(layered.call(request())).unwrap().status(),
        200
    );
    c.bench_function("resource server/new ES256 token", |b| {
        b.to_async(&runtime).iter_batched(
            request,
            |request| layered.call(request),
            criterion::BatchSize::SmallInput,
        );
    });
}

/// A call of a tool, as a client of the newest revision sends it.
fn call(authorization: &str) -> Request<axum::body::Body> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    });
    let arguments = json!({ "a": "x".repeat(100) });
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "x", "arguments": arguments, "_meta": meta },
    });
    Request::post("http://127.0.0.1/mcp")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "x")
        .header("authorization", authorization)
        .body(axum::body::Body::from(body.to_string()))
        .unwrap()
}

/// Reads an answer to its end.
async fn whole<B: http_body::Body>(answer: Result<Response<B>, Infallible>) {
    let response = answer.unwrap();
    assert_eq!(response.status(), 200);
    let read = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(read.is_ok());
}

/// A call through the transport, with and without the layer before it.
fn through_the_transport(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (auth, key) = gate();
    let transport = HttpTransport::new(
        service_fn(|_: mcp_core::Request| async {
            Ok::<_, mcp_core::Error>(mcp_core::Response::empty())
        }),
        HttpConfig::default(),
    );
    let header = format!("Bearer {}", key.secret());
    let request = || call(&header);
    c.bench_function("through the transport/without the layer", |b| {
        b.to_async(&runtime).iter_batched(
            || (transport.clone(), request()),
            |(mut transport, request)| async move { whole(transport.call(request).await).await },
            criterion::BatchSize::SmallInput,
        );
    });
    let layered = auth.layer().layer(transport.clone());
    c.bench_function(
        "through the transport/with the layer, token seen before",
        |b| {
            b.to_async(&runtime).iter_batched(
                || (layered.clone(), request()),
                |(mut layered, request)| async move { whole(layered.call(request).await).await },
                criterion::BatchSize::SmallInput,
            );
        },
    );
}

fn rbac(c: &mut Criterion) {
    let mut builder = Rbac::builder().assign_authenticated("reader");
    for n in 0..1000 {
        builder = builder.allow(
            "reader",
            EntryKind::Tool,
            Pattern::new(&format!("upstream{n}__read*")),
        );
    }
    let rbac = builder.build();
    let alice = Principal::authenticated("https://as.example", "alice");
    for (name, tool) in [
        ("allowed", "upstream777__read_text"),
        ("refused", "upstream777__write"),
    ] {
        c.bench_function(&format!("rbac/1000 rules, {name}"), |b| {
            b.iter(|| rbac.allows(black_box(&alice), EntryKind::Tool, black_box(tool)));
        });
    }
}

fn vault(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key = ValueKey::new(Secret::new("k".repeat(32)));
    let open = Vault::open_file(dir.path().join("vault.redb"), &key);
    let vault = runtime.block_on(open).unwrap();
    let owner = Partition::of(&Principal::local());
    let scope = SecretScope::new(Namespace::new("bench").unwrap(), owner);
    let name = |n: usize| SecretName::new(&format!("token {n}")).unwrap();
    runtime.block_on(async {
        for n in 0..10_000 {
            let secret = Secret::new("x".repeat(1000));
            vault.put(&scope, &name(n), secret).await.unwrap();
        }
    });
    c.bench_function("vault/read of 10000 records in a file", |b| {
        b.to_async(&runtime)
            .iter(|| vault.get(&scope, black_box(&SECRET)));
    });
    drop(vault);
    runtime.block_on(rotation(&dir.path().join("vault.redb"), &scope));
}

/// Prints how long a rotation of 10,000 records takes, and how long readers wait meanwhile.
async fn rotation(path: &std::path::Path, scope: &SecretScope) {
    let old = VaultKey::from_bytes("k".repeat(32).as_bytes()).unwrap();
    let new = VaultKey::from_bytes("n".repeat(32).as_bytes()).unwrap();
    let store = Arc::new(mcp_core::store::RedbStore::open(path).await.unwrap());
    let ring = KeyRing::new(new).with_old(old);
    let vault = Vault::open_with_ring(store, ring).await.unwrap();
    let before = read_while(&vault, scope, async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    });
    let (before, ()) = before.await;
    let started = tokio::time::Instant::now();
    let rotating = vault.clone();
    let (during, done) = read_while(&vault, scope, async move { rotating.rotate().await }).await;
    let out = &mut std::io::stdout();
    let done = done.unwrap();
    let took = started.elapsed();
    let _ = writeln!(
        out,
        "vault/rotation of 10000 records in a file: {done:?} in {took:?}"
    );
    for (what, mut all) in [("before", before), ("during", during)] {
        all.sort_unstable();
        let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize];
        let (median, slow, worst) = (at(0.5), at(0.99), at(1.0));
        let _ = writeln!(
            out,
            "  {} reads {what}: median {median:?}, p99 {slow:?}, longest {worst:?}",
            all.len()
        );
    }
}

/// Reads again and again until something is done.
async fn read_while<T: Send + 'static>(
    vault: &Vault,
    scope: &SecretScope,
    work: impl Future<Output = T> + Send + 'static,
) -> (Vec<std::time::Duration>, T) {
    let work = tokio::spawn(work);
    let mut all = Vec::new();
    while !work.is_finished() {
        let started = tokio::time::Instant::now();
        vault.get(scope, &SECRET).await.unwrap();
        all.push(started.elapsed());
    }
    (all, work.await.unwrap())
}

static SECRET: std::sync::LazyLock<SecretName> =
    std::sync::LazyLock::new(|| SecretName::new("token 7777").unwrap());

/// How many events are recorded in one round.
const EVENTS: u32 = 500_000;

/// Prints how many events a second are recorded, to the last of them on the disk.
fn audit(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let who = Principal::authenticated("https://as.example", "alice");
    let mut event = AuditEvent::new(
        SystemTime::now(),
        who,
        "tools/call",
        AuditOutcome::Succeeded,
    );
    event.target = Some("files__read_text".into());
    event.digest = Some([7; 32]);
    for round in 0..3 {
        let path = dir.path().join(format!("{round}.jsonl"));
        let sink = FileAudit::open(path, OnFailure::Refuse).unwrap();
        let started = tokio::time::Instant::now();
        runtime.block_on(async {
            for _ in 0..EVENTS {
                // What waits for the disk is bounded: whoever is faster than it has to wait too.
                while sink.record(&event).await.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
        });
        sink.flush();
        let rate = f64::from(EVENTS) / started.elapsed().as_secs_f64();
        let out = &mut std::io::stdout();
        let _ = writeln!(
            out,
            "audit/{EVENTS} events into a file, to the disk: {rate:.0} events/s"
        );
    }
}

criterion_group!(
    benches,
    resource_server,
    new_token,
    through_the_transport,
    rbac,
    vault,
    audit
);
criterion_main!(benches);
