use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_core::{Deadline, Error, ErrorKind, Method, Principal, Request, Response};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

use super::{Adaptive, Priority, QueueLayer};

const SECOND: Duration = Duration::from_secs(1);

fn by(user: &str) -> Request {
    Request::new(Method::PING, None)
        .unwrap()
        .with_principal(Principal::authenticated("i", user))
}

type Log = Arc<Mutex<Vec<String>>>;

/// Takes a second for each call and writes down whose it was.
fn slow(log: &Log) -> impl mcp_core::Seam {
    let log = Arc::clone(log);
    service_fn(move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            sleep(SECOND).await;
            log.lock()
                .unwrap()
                .push(request.principal().subject().to_owned());
            Ok::<_, Error>(Response::empty())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn principals_take_turns_and_everybody_is_answered() {
    let log = Log::default();
    let layer = QueueLayer::one_at_a_time("q")
        .with_queue(6)
        .with_deadline(SECOND * 60);
    let service = layer.layer(slow(&log));
    let mut calls = Vec::new();
    for user in ["a", "a", "a", "a", "b", "c", "b", "a"] {
        calls.push(tokio::spawn(service.clone().oneshot(by(user))));
        tokio::task::yield_now().await;
    }
    assert_eq!((layer.status().in_flight, layer.status().queued), (1, 6));
    let mut refused = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Overloaded);
            refused += 1;
        }
    }
    assert_eq!(refused, 1, "the queue is bounded");
    assert_eq!(*log.lock().unwrap(), ["a", "a", "b", "c", "a", "b", "a"]);
    assert_eq!((layer.status().in_flight, layer.status().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waits_end_and_drops_make_room() {
    let log = Log::default();
    let layer = QueueLayer::one_at_a_time("q")
        .with_queue(10)
        .with_deadline(SECOND / 2);
    let service = layer.layer(slow(&log));
    let first = tokio::spawn(service.clone().oneshot(by("a")));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let late = service.clone().oneshot(by("b")).await.unwrap_err();
    assert!(late.message().contains("waited 500 ms"), "{late}");
    assert_eq!(start.elapsed(), SECOND / 2);
    let hasty = by("b").with_deadline(Deadline::after(SECOND / 10));
    service.clone().oneshot(hasty).await.unwrap_err();
    let waiting = tokio::spawn(service.clone().oneshot(by("c")));
    tokio::task::yield_now().await;
    assert_eq!(layer.status().queued, 1);
    waiting.abort();
    tokio::task::yield_now().await;
    assert_eq!(layer.status().queued, 0, "a dropped call leaves the queue");
    first.abort();
    tokio::task::yield_now().await;
    assert_eq!(
        layer.status().in_flight,
        0,
        "a dropped call gives its place back"
    );
    service.oneshot(by("d")).await.unwrap();
}

#[tokio::test]
async fn a_panic_gives_the_place_back_and_a_granted_drop_passes_it_on() {
    let layer = QueueLayer::one_at_a_time("q").with_queue(10);
    let panics = layer.layer(service_fn(|_: Request| async {
        assert!(std::hint::black_box(false), "on purpose");
        Ok::<_, Error>(Response::empty())
    }));
    assert!(tokio::spawn(panics.oneshot(by("a"))).await.is_err());
    assert_eq!(layer.status().in_flight, 0);

    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let service = layer.layer(service_fn(move |_: Request| {
        let gate = Arc::clone(&waits);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, Error>(Response::empty())
        }
    }));
    let mut first = tokio_test::task::spawn(service.clone().oneshot(by("a")));
    let mut second = tokio_test::task::spawn(service.clone().oneshot(by("b")));
    let mut third = tokio_test::task::spawn(service.oneshot(by("c")));
    assert!(first.poll().is_pending() && second.poll().is_pending() && third.poll().is_pending());
    gate.add_permits(2);
    assert!(first.poll().is_ready());
    assert!(second.is_woken() && !third.is_woken());
    drop(second);
    assert!(third.is_woken(), "the place is passed on");
    assert!(third.poll().is_ready());
}

#[tokio::test(start_paused = true)]
async fn urgent_calls_go_first_and_the_limit_adapts() {
    let log = Log::default();
    let layer = QueueLayer::one_at_a_time("q")
        .with_queue(100)
        .with_deadline(SECOND * 99)
        .with_priority(|request| {
            if request.principal().subject() == "vip" {
                Priority::High
            } else {
                Priority::Low
            }
        });
    let service = layer.layer(slow(&log));
    let calls: Vec<_> = ["x", "x", "x", "vip", "vip"]
        .map(|user| tokio::spawn(service.clone().oneshot(by(user))))
        .into();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(*log.lock().unwrap(), ["x", "vip", "vip", "x", "x"]);

    let adaptive = QueueLayer::adaptive("q", Adaptive::new(2, 50, SECOND * 2).unwrap())
        .with_queue(1000)
        .with_deadline(SECOND * 999);
    let service = adaptive.layer(slow(&log));
    let calls: Vec<_> = (0..200)
        .map(|_| tokio::spawn(service.clone().oneshot(by("x"))))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(adaptive.status().limit > 10, "{:?}", adaptive.status());
    assert!(Adaptive::new(2, 1, SECOND).is_err());
}
