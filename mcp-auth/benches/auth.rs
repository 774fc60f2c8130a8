//! What the parts cost that are on the way of every call.
#![allow(missing_docs, reason = "the macros of criterion make items without")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::{convert::Infallible, hint::black_box, sync::Arc, time::SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Request, Response};
use mcp_auth::{
    audit::{FileAudit, OnFailure},
    policy::{Pattern, Rbac},
    server::{ApiKeyScheme, ApiKeys, MemoryApiKeys, ResourceServer},
    vault::{ValueKey, Vault},
};
use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, EntryKind, Partition, Principal,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::Namespace,
};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};

fn resource_server(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
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
    let inner = service_fn(|request: Request<()>| async move {
        black_box(&request);
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let request = || {
        let header = format!("Bearer {}", key.secret());
        Request::post("/mcp")
            .header("authorization", header)
            .body(())
            .unwrap()
    };
    let mut bare = inner;
    c.bench_function("resource server/bare", |b| {
        b.to_async(&runtime).iter_batched(
            request,
            |request| bare.call(request),
            criterion::BatchSize::SmallInput,
        );
    });
    let mut layered = auth.layer().layer(inner);
    c.bench_function("resource server/token seen before", |b| {
        b.to_async(&runtime).iter_batched(
            request,
            |request| layered.call(request),
            criterion::BatchSize::SmallInput,
        );
    });
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
}

static SECRET: std::sync::LazyLock<SecretName> =
    std::sync::LazyLock::new(|| SecretName::new("token 7777").unwrap());

fn audit(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let sink = FileAudit::open(dir.path().join("audit.jsonl"), OnFailure::Continue).unwrap();
    let who = Principal::authenticated("https://as.example", "alice");
    let mut event = AuditEvent::new(
        SystemTime::now(),
        who,
        "tools/call",
        AuditOutcome::Succeeded,
    );
    event.target = Some("files__read_text".into());
    event.digest = Some([7; 32]);
    let mut group = c.benchmark_group("audit");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 events into a file, to the disk", |b| {
        b.to_async(&runtime).iter(|| async {
            for _ in 0..1000 {
                sink.record(&event).await.unwrap();
            }
        });
    });
    sink.flush();
    assert_eq!(sink.dropped(), 0, "the figure counts what was written only");
    group.finish();
}

criterion_group!(benches, resource_server, rbac, vault, audit);
criterion_main!(benches);
