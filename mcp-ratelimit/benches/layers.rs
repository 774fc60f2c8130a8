//! What each layer adds to a call that goes through: subtract `bare` from the rest.
#![allow(missing_docs, reason = "the macros of criterion make items without")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use mcp_core::{
    Error, Json, Method, Principal, Request, Response, SchemaSource, Seam, Stack, ToolAnnotations,
    ToolSchemas,
};
use mcp_ratelimit::{
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    cache::CacheLayer,
    coalesce::CoalesceLayer,
    hedge::HedgeLayer,
    meter::MeterLayer,
    queue::QueueLayer,
    rate_limit::{KeyPart, Limit, Quota, RateLimitLayer},
    retry::{LoopGuardLayer, RetryLayer},
    timeout::TimeoutLayer,
    validate::ValidateLayer,
};
use tower::{Layer, service_fn};

/// A tool call of 100 bytes.
fn request() -> Request {
    let params = format!(
        r#"{{"name":"search","arguments":{{"query":"{}"}}}}"#,
        "x".repeat(58)
    );
    Request::new(Method::TOOLS_CALL, Some(Json::parse(params).unwrap()))
        .unwrap()
        .with_principal(Principal::authenticated("https://issuer.example", "alice"))
        .with_annotations(ToolAnnotations::from_json(
            &Json::parse(r#"{"readOnlyHint":true}"#).unwrap(),
        ))
}

/// A catalogue of one tool.
#[derive(Debug)]
struct Schema(Json);

impl SchemaSource for Schema {
    fn schemas(&self, _: &Request) -> Option<ToolSchemas> {
        Some(ToolSchemas::new(1, Some(self.0.clone()), None))
    }

    fn generation(&self) -> u64 {
        1
    }
}

fn inner() -> impl Seam {
    let answer =
        Response::new(Json::parse(r#"{"content":[{"type":"text","text":"ok"}]}"#).unwrap());
    service_fn(move |request: Request| {
        black_box(request);
        std::future::ready(Ok::<_, Error>(answer.clone()))
    })
}

fn limit() -> RateLimitLayer {
    let quota = Quota::per_second(100_000_000).unwrap();
    RateLimitLayer::new(Limit::new("l", quota).per([KeyPart::Principal, KeyPart::Tool]))
}

fn run(c: &mut Criterion, name: &str, mut service: impl Seam) {
    let request = request();
    c.bench_function(name, |b| {
        b.iter(|| {
            let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).now_or_never();
            ready.unwrap().unwrap();
            black_box(
                service
                    .call(request.clone())
                    .now_or_never()
                    .unwrap()
                    .unwrap(),
            )
        });
    });
}

fn with<S, L>(c: &mut Criterion, name: &str, layer: L, inner: S)
where
    L: Layer<S>,
    L::Service: Seam,
{
    run(c, name, layer.layer(inner));
}

fn layers(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let second = Duration::from_secs(1);
    let breaker = || BreakerLayer::new(Breaker::new("b", BreakerConfig::new()));
    let timeout = || TimeoutLayer::new(second * 30).with_idle(second * 10);
    run(c, "bare", inner());
    with(c, "rate_limit", limit(), inner());
    with(c, "breaker", breaker(), inner());
    with(c, "timeout", timeout(), inner());
    with(c, "retry", RetryLayer::safe_only(), inner());
    with(
        c,
        "loop_guard",
        LoopGuardLayer::new(3, second).unwrap(),
        inner(),
    );
    with(
        c,
        "bulkhead",
        QueueLayer::new("q", 8.try_into().unwrap()).with_queue(8),
        inner(),
    );
    with(c, "meter", MeterLayer::new("m"), inner());
    with(c, "coalesce", CoalesceLayer::new(), inner());
    with(c, "hedge", HedgeLayer::new(second), inner());
    let schema = r#"{"type":"object","properties":{"query":{"type":"string","maxLength":100}},"required":["query"]}"#;
    let schema = Schema(Json::parse(schema).unwrap());
    with(c, "validate", ValidateLayer::new(Arc::new(schema)), inner());
}

fn answers(c: &mut Criterion) {
    let second = Duration::from_secs(1);
    let cache = CacheLayer::new(1 << 20).with_tool("search", second * 3600);
    with(c, "cache_hit", cache, inner());
}

fn stacks(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let second = Duration::from_secs(1);
    let all = Stack::new(inner())
        .layer(MeterLayer::new("m"))
        .layer(limit())
        .layer(LoopGuardLayer::new(3, second).unwrap())
        .layer(RetryLayer::safe_only())
        .layer(BreakerLayer::new(Breaker::new("b", BreakerConfig::new())))
        .layer(QueueLayer::new("q", 8.try_into().unwrap()).with_queue(8))
        .layer(TimeoutLayer::new(second * 30).with_idle(second * 10));
    run(c, "stack", all.into_service());
}

criterion_group!(benches, layers, answers, stacks);
criterion_main!(benches);
