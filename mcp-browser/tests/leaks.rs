//! What this process keeps of sessions and pages: counted on its heap, so that these tests run one after another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod support;

use std::{
    alloc::System,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mcp_browser::{BrowserErrorKind, BrowserLimits};
use mcp_core::Principal;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{Site, config, service, session, site};

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

/// One test at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn fifty_sessions_come_and_go_and_leave_nothing() {
    let _turn = TURN.lock().await;
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

/// Descriptors and bytes in use, when a context is ready and nothing is in flight.
async fn at_rest() -> (usize, usize) {
    tokio::time::sleep(Duration::from_millis(1000)).await;
    (descriptors(), live())
}

const PAGE: u64 = 500_000_000;

/// Serves a page of 500 MB, and counts what of it was taken.
async fn large_site() -> (Site, Arc<AtomicU64>) {
    let (listener, mut site) = (
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        site().await,
    );
    site.port = listener.local_addr().unwrap().port();
    site.origin = format!("http://127.0.0.1:{}", site.port);
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    let page = move |content: String| {
        let counter = Arc::clone(&counter);
        async move {
            let chunk = bytes::Bytes::from(content);
            let mut left = PAGE;
            let chunks = std::iter::from_fn(move || {
                let size = left.min(chunk.len() as u64);
                left -= size;
                counter.fetch_add(size, Ordering::Relaxed);
                (size > 0).then(|| Ok::<_, std::convert::Infallible>(chunk.slice(..size as usize)))
            });
            let body = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
            (
                [
                    ("content-type", "text/html".to_owned()),
                    ("content-length", PAGE.to_string()),
                ],
                body,
            )
        }
    };
    let texts = page.clone();
    let app = axum::Router::new()
        .route(
            "/text",
            axum::routing::get(move || {
                texts(format!(
                    "<p>{}</p>
",
                    "more and more, ".repeat(4000)
                ))
            }),
        )
        .route(
            "/elements",
            axum::routing::get(move || page("<p>x\n".repeat(10_000))),
        )
        .route("/small", axum::routing::get(|| async { "small" }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (site, taken)
}

/// The most bytes of the heap that were in use while something was done.
async fn most_while<T>(work: impl Future<Output = T>) -> (T, usize) {
    let mut most = live();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return (done, most),
            _ = ticks.tick() => most = most.max(live()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "two limits, one after the other")]
async fn a_page_of_500_mb_ends_at_a_limit_and_never_lies_in_this_process() {
    let _turn = TURN.lock().await;
    let (site, taken) = large_site().await;
    let wait = Duration::from_secs(120);
    // Cut off by what a session may receive.
    let bytes = 8 << 20;
    let cut = service(
        config(&[&site])
            .with_max_session_bytes(bytes)
            .with_timeouts(wait, wait),
    );
    let greedy = session(&cut).await;
    let before = live();
    let (error, most) = most_while(greedy.navigate(&site.url("/text"))).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("received"), "{error}");
    assert!(most < before + (16 << 20), "{before} {most}");
    assert!(greedy.received() < bytes + (8 << 20));
    let asked = taken.load(Ordering::Relaxed);
    assert!(
        (bytes..PAGE / 2).contains(&asked),
        "{asked} bytes were taken"
    );
    let error = greedy.navigate(&site.url("/small")).await.unwrap_err();
    assert!(error.to_string().contains("received"), "{error}");
    session(&cut)
        .await
        .navigate(&site.url("/small"))
        .await
        .unwrap();
    cut.shutdown().await;
    // Ended with its browser by what that may use.
    let heavy = service(
        config(&[&site])
            .with_limits(BrowserLimits::new().with_memory(700 << 20))
            .with_max_session_bytes(2 * PAGE)
            .with_timeouts(wait, wait),
    );
    let doomed = session(&heavy).await;
    let before = live();
    let (ended, most) = most_while(async {
        let error = doomed.navigate(&site.url("/elements")).await.err();
        while doomed.is_open() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        error
    })
    .await;
    assert!(most < before + (16 << 20), "{before} {most}");
    if let Some(error) = ended {
        assert_eq!(error.kind(), BrowserErrorKind::BrowserGone, "{error}");
    }
    let gone = doomed.navigate(&site.url("/small")).await.unwrap_err();
    assert!(
        matches!(
            gone.kind(),
            BrowserErrorKind::BrowserGone | BrowserErrorKind::SessionNotFound
        ),
        "{gone}"
    );
    session(&heavy)
        .await
        .navigate(&site.url("/small"))
        .await
        .unwrap();
    heavy.shutdown().await;
}
