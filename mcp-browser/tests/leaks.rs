//! Nothing grows while sessions come and go. The only test of its process, whose memory it counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod support;

use std::{alloc::System, time::Duration};

use mcp_core::Principal;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{config, service, session, site};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of the heap in use.
fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What a session may leave behind, in bytes. A page that is not freed would leave 14,000.
const EACH: usize = 1024;
/// What may differ between two looks at a process at rest, in bytes.
const NOISE: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_sessions_come_and_go_and_leave_nothing() {
    let site = site().await;
    let service = service(config(&[&site]).with_warm_contexts(1));
    service.warm_up().await.unwrap();
    let mut before = (0, 0);
    for round in 0..50 {
        let session = session(&service).await;
        session
            .navigate(&site.url("/redirect?to=/frames"))
            .await
            .unwrap();
        session.snapshot(false, 0, 20_000).await.unwrap();
        session.navigate(&site.url("/console")).await.unwrap();
        service
            .close(&Principal::local(), session.id())
            .await
            .unwrap();
        if round == 19 {
            before = at_rest().await;
        }
    }
    let mut after = at_rest().await;
    // The context that is made ready meanwhile, and what the driver says last.
    for _ in 0..100 {
        if after.0 <= before.0 + 4 {
            break;
        }
        after = at_rest().await;
    }
    assert!(after.0 <= before.0 + 4, "descriptors: {before:?} {after:?}");
    assert!(
        after.1 <= before.1 + 30 * EACH + NOISE,
        "heap: {before:?} {after:?}"
    );
    assert_eq!(service.session_count(), 0);
    service.shutdown().await;
}

/// Descriptors and bytes in use, when a context is ready and nothing is under way.
async fn at_rest() -> (usize, usize) {
    tokio::time::sleep(Duration::from_millis(1000)).await;
    (descriptors(), live())
}
