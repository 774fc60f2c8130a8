//! The whole recommended stack allocates nothing for a call that goes through.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::alloc::System;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use mcp_core::{Error, Json, Method, Principal, Request, Response};
use mcp_ratelimit::preset::{Preset, ProviderConfig};
use mcp_ratelimit::rate_limit::{KeyPart, Limit, Limiter, Quota};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tower::{Layer, Service, service_fn};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tests in one process share the allocator: one at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
static ANSWERED: AtomicU64 = AtomicU64::new(0);

fn call(user: &str) -> Request {
    let params =
        Json::parse(r#"{"name":"search","arguments":{"query":"something to look for"}}"#).unwrap();
    Request::new(Method::TOOLS_CALL, Some(params))
        .unwrap()
        .with_principal(Principal::authenticated("i", user))
}

#[tokio::test]
async fn the_stack_allocates_nothing_of_its_own() {
    let _turn = TURN.lock().await;
    let answer = Response::new(Json::parse(r#"{"content":[]}"#).unwrap());
    let inner = service_fn(move |_: Request| {
        ANSWERED.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Error>(answer.clone()))
    });
    let config: ProviderConfig =
        serde_json::from_str(r#"{"requests_per_minute":4000000,"burst":1000000}"#).unwrap();
    let mut service = Preset::new("p", &config).unwrap().layer(inner);
    let request = call("a");
    let mut make = || {
        let ready = std::future::poll_fn(|cx| Service::<Request>::poll_ready(&mut service, cx))
            .now_or_never();
        ready.unwrap().unwrap();
        service
            .call(request.clone())
            .now_or_never()
            .unwrap()
            .unwrap()
    };
    for _ in 0..100 {
        make();
    }
    // The harness's own threads share the allocator and may disturb a batch; a cost per call shows in every batch.
    let fewest = (0..10).map(|_| {
        let before = COUNTING.stats();
        for _ in 0..1_000 {
            make();
        }
        let after = COUNTING.stats();
        (after.allocations - before.allocations) + (after.reallocations - before.reallocations)
    });
    assert_eq!(fewest.min(), Some(0));
    assert_eq!(ANSWERED.load(Ordering::Relaxed), 10_100);
}

#[tokio::test]
async fn a_million_keys_fit_and_go() {
    let _turn = TURN.lock().await;
    let clock = mcp_core::clock::FakeClock::new();
    let limit = Limit::new("l", Quota::per_second(1).unwrap())
        .per([KeyPart::Principal])
        .with_max_keys(2_000_000);
    let limiter = Limiter::new([limit], std::sync::Arc::new(clock.clone()));
    let held = || {
        let stats = COUNTING.stats();
        stats.bytes_allocated - stats.bytes_deallocated
    };
    let before = held();
    let mut request = call("a");
    for user in 0..1_000_000u32 {
        request = request.with_principal(Principal::authenticated("i", &user.to_string()));
        limiter.check(&request).unwrap();
    }
    let full = held() - before;
    assert_eq!(limiter.keys(), 1_000_000);
    clock.advance(std::time::Duration::from_secs(60));
    limiter.sweep();
    let swept = held().saturating_sub(before);
    println!(
        "1,000,000 keys: {} MiB, after a sweep {} KiB",
        full >> 20,
        swept >> 10
    );
    assert!(full < 150 << 20, "{full}");
    assert!(limiter.keys() == 0 && swept < 1 << 20, "{swept}");
}
