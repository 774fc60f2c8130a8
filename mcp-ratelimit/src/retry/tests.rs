use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_core::{
    Deadline, Error, ErrorKind, Json, Method, Notification, Notifier, Principal, Request, Response,
    ToolAnnotations,
};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

use super::{Attempt, Attempts, Backoff, Growth, Jitter, LoopGuardLayer, Repeat, RetryLayer};

fn tool(name: &str, args: u32) -> Request {
    let params = Json::parse(format!(
        r#"{{"name":"{name}","arguments":{args},"_meta":{{"k":"{args}"}}}}"#
    ))
    .unwrap();
    Request::new(Method::TOOLS_CALL, Some(params)).unwrap()
}

fn hints(text: &str) -> ToolAnnotations {
    ToolAnnotations::from_json(&Json::parse(text.to_owned()).unwrap())
}

/// Fails with `kind` so many times, then answers. Returns the result and how often it was called.
async fn run(
    layer: &RetryLayer,
    request: Request,
    kind: ErrorKind,
    failures: u32,
) -> (Result<Response, Error>, u32) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = layer.layer(service_fn(move |request: Request| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        let attempt = request
            .extensions()
            .get::<Attempt>()
            .map_or(1, |attempt| attempt.number());
        assert_eq!(attempt, call + 1);
        async move {
            match call < failures {
                true => Err(Error::new(kind, "as told")),
                false => Ok(Response::empty()),
            }
        }
    }));
    let result = service.oneshot(request).await;
    (result, calls.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn only_what_is_safe_and_may_pass_is_repeated() {
    let layer = RetryLayer::safe_only()
        .with_budget(10.0, 100)
        .unwrap()
        .with_idempotency_key("key");
    let list = || Request::new(Method::TOOLS_LIST, None).unwrap();
    let mut keyed = tool("t", 1);
    keyed.set_meta("key", Some(Json::string("1")));
    let notification = Request::notification(Method::CANCELLED, None).unwrap();
    use ErrorKind as K;
    for (request, kind, calls) in [
        (list(), K::Unavailable, 3),
        (list(), K::RateLimited, 3),
        (list(), K::InvalidParams, 1),
        (list(), K::Cancelled, 1),
        (tool("t", 1), K::Unavailable, 1),
        (tool("t", 1), K::NotSent, 3),
        (keyed, K::Unavailable, 3),
        (notification, K::NotSent, 1),
        (
            tool("t", 1).with_annotations(hints(r#"{"readOnlyHint":true}"#)),
            K::Timeout,
            3,
        ),
        (
            tool("t", 1).with_annotations(hints(r#"{"idempotentHint":true}"#)),
            K::Timeout,
            3,
        ),
        (
            tool("t", 1).with_annotations(hints(r#"{"destructiveHint":false}"#)),
            K::Timeout,
            1,
        ),
    ] {
        let (result, made) = run(&layer, request.clone(), kind, 9).await;
        let error = result.unwrap_err();
        assert_eq!((made, error.kind()), (calls, kind), "{request:?}");
        assert_eq!(Attempts::of(&error).map_or(1, Attempts::count), calls);
    }
    assert!(run(&layer, list(), K::Unavailable, 2).await.0.is_ok());
    assert_eq!(
        run(&layer.clone().with_retries(0), list(), K::Unavailable, 2)
            .await
            .1,
        1
    );
    let bold = layer.with_safety(|_| Repeat::Safe);
    assert_eq!(run(&bold, tool("t", 1), K::Unavailable, 1).await.1, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_progress_was_seen_is_not_repeated() {
    let (notifier, mut stream) = Notifier::channel(8.try_into().unwrap());
    let service = RetryLayer::safe_only().layer(service_fn(|request: Request| async move {
        request
            .notifier()
            .notify(Notification::new(Method::PROGRESS, None))
            .await?;
        Err::<Response, _>(Error::new(ErrorKind::Unavailable, "gone"))
    }));
    let request = Request::new(Method::TOOLS_LIST, None)
        .unwrap()
        .with_notifier(notifier);
    assert!(service.oneshot(request).await.is_err());
    assert!(stream.recv().await.is_some());
    assert!(stream.recv().await.is_none(), "progress came once");
}

#[tokio::test(start_paused = true)]
async fn waits_are_kept_and_deadlines_too() {
    let list = || Request::new(Method::TOOLS_LIST, None).unwrap();
    let limited = |after: u64| {
        service_fn(move |_: Request| async move {
            Err::<Response, _>(
                Error::new(ErrorKind::RateLimited, "no")
                    .with_retry_after(Duration::from_secs(after)),
            )
        })
    };
    for (after, deadline, seconds) in [(7, 100, 14), (7, 10, 7), (60, 100, 0), (7, 7, 0)] {
        let start = Instant::now();
        let request = list().with_deadline(Deadline::after(Duration::from_secs(deadline)));
        let layer = RetryLayer::safe_only();
        layer
            .layer(limited(after))
            .oneshot(request)
            .await
            .unwrap_err();
        assert_eq!(start.elapsed().as_secs(), seconds, "{after} {deadline}");
    }
    let start = Instant::now();
    let layer = RetryLayer::safe_only()
        .with_attempt_timeout(Duration::from_secs(2))
        .with_total(Duration::from_secs(3));
    let hangs = service_fn(|_: Request| std::future::pending::<Result<Response, Error>>());
    let error = layer.layer(hangs).oneshot(list()).await.unwrap_err();
    assert_eq!(
        (error.kind(), start.elapsed().as_secs()),
        (ErrorKind::Timeout, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_an_outage() {
    let layer = RetryLayer::safe_only()
        .with_budget(0.1, 0)
        .unwrap()
        .with_retries(5);
    let list = || Request::new(Method::TOOLS_LIST, None).unwrap();
    for _ in 0..50 {
        run(&layer, list(), ErrorKind::Unavailable, 0)
            .await
            .0
            .unwrap();
    }
    let mut repeated = 0;
    for _ in 0..50 {
        repeated += run(&layer, list(), ErrorKind::Unavailable, 99).await.1 - 1;
    }
    assert!((1..=5).contains(&repeated), "{repeated}");
    assert!(RetryLayer::safe_only().with_budget(-1.0, 0).is_err());
}

proptest! {
    #[test]
    fn backoff_stays_in_its_bounds(n in 0u32..100, first in 1u64..5000, more in 0u64..100_000, chance in 0.0f64..1.0, prev in 0u64..100_000) {
        let (first, most) = (Duration::from_millis(first), Duration::from_millis(first + more));
        for growth in [Growth::Fixed, Growth::Linear, Growth::Exponential, Growth::Fibonacci, Growth::Decorrelated] {
            let none = Backoff::new(growth, first, most).unwrap().with_jitter(Jitter::None);
            let delay = none.delay(n, Duration::from_millis(prev), chance);
            prop_assert!(delay >= first && delay <= most);
            let full = none.with_jitter(Jitter::Full).delay(n, Duration::from_millis(prev), chance);
            prop_assert!(full <= most);
            if growth != Growth::Decorrelated {
                prop_assert!(none.delay(n + 1, Duration::ZERO, 0.0) >= none.delay(n, Duration::ZERO, 0.0));
                let half = none.with_jitter(Jitter::Half).delay(n, Duration::ZERO, chance);
                prop_assert!(half >= delay / 2 - Duration::from_nanos(1) && half <= delay);
            }
        }
    }
}

#[test]
fn growth_is_as_named() {
    let waits = |growth| {
        let backoff = Backoff::new(growth, Duration::from_secs(1), Duration::from_secs(9))
            .unwrap()
            .with_jitter(Jitter::None);
        (1..=7)
            .map(|n| backoff.delay(n, Duration::ZERO, 0.9).as_secs())
            .collect::<Vec<_>>()
    };
    assert_eq!(waits(Growth::Fixed), [1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(waits(Growth::Linear), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(waits(Growth::Exponential), [1, 2, 4, 8, 9, 9, 9]);
    assert_eq!(waits(Growth::Fibonacci), [1, 1, 2, 3, 5, 8, 9]);
    assert!(Backoff::new(Growth::Fixed, Duration::ZERO, Duration::MAX).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_same_call_in_vain_is_stopped_and_explained() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let layer = LoopGuardLayer::new(3, Duration::from_secs(60)).unwrap();
    let service = layer.layer(service_fn(move |request: Request| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match request.tool() {
                Some("bad") => Err(Error::new(ErrorKind::InvalidParams, "no such file")),
                Some("down") => Err(Error::new(ErrorKind::Unavailable, "gone")),
                _ => Ok(Response::empty()),
            }
        }
    }));
    let alice = Principal::authenticated("i", "alice");
    let call = |name: &str, args| {
        service
            .clone()
            .oneshot(tool(name, args).with_principal(alice.clone()))
    };
    for _ in 0..3 {
        assert_eq!(
            call("bad", 1).await.unwrap_err().kind(),
            ErrorKind::InvalidParams
        );
        call("down", 1).await.unwrap_err();
    }
    let stopped = call("bad", 1).await.unwrap_err();
    assert!(
        stopped.message().contains("failed 3 times") && stopped.message().contains("no such file"),
        "{stopped}"
    );
    assert_eq!(
        call("bad", 2).await.unwrap_err().kind(),
        ErrorKind::InvalidParams,
        "other arguments"
    );
    assert_eq!(
        call("down", 1).await.unwrap_err().kind(),
        ErrorKind::Unavailable,
        "it may pass"
    );
    let bob = service
        .clone()
        .oneshot(tool("bad", 1).with_principal(Principal::authenticated("i", "bob")))
        .await;
    assert_eq!(
        bob.unwrap_err().kind(),
        ErrorKind::InvalidParams,
        "somebody else"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 9);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(
        call("bad", 1).await.unwrap_err().kind(),
        ErrorKind::InvalidParams,
        "after the pause"
    );
    assert!(LoopGuardLayer::new(0, Duration::from_secs(1)).is_err());
}

proptest! {
    /// Whatever a call is and however it fails: it is sent twice only if it is safe to repeat, or if no one has seen
    /// it.
    #[test]
    fn never_repeats_an_unsafe_call(
        method in 0usize..5, read_only: Option<bool>, idempotent: Option<bool>, destructive: Option<bool>,
        kind in 0usize..8, failures in 0u32..4, notification: bool,
    ) {
        let name = ["tools/call", "tools/list", "resources/read", "logging/setLevel", "vendor/thing"][method];
        let params = Json::parse(r#"{"name":"t","uri":"u"}"#).unwrap();
        let request = match notification {
            true => Request::notification(Method::new(name), Some(params)),
            false => Request::new(Method::new(name), Some(params)),
        };
        let mut hints = ToolAnnotations::default();
        (hints.read_only, hints.idempotent, hints.destructive) = (read_only, idempotent, destructive);
        let request = request.unwrap().with_annotations(hints);
        use ErrorKind as K;
        let kind = [K::Unavailable, K::NotSent, K::Timeout, K::RateLimited, K::InvalidParams, K::Overloaded, K::CircuitOpen, K::Internal][kind];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let layer = RetryLayer::safe_only().with_budget(10.0, 1000).unwrap();
        let (_, calls) = runtime.block_on(run(&layer, request, kind, failures));
        let hinted = name == "tools/call" && (read_only == Some(true) || idempotent == Some(true));
        let safe = matches!(name, "tools/list" | "resources/read") || hinted;
        prop_assert!(calls == 1 || (!notification && (safe || kind == K::NotSent)), "{calls}");
    }
}
