use std::sync::{Arc, Mutex};
use std::time::Duration;

use mcp_core::{Error, ErrorKind, Method, Request, Response, Seam};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

use super::{Preset, ProviderConfig};
use crate::queue::QueueLayer;
use crate::rate_limit::{Limit, Quota, RateLimitLayer};
use crate::retry::RetryLayer;
use crate::timeout::TimeoutLayer;

const SECOND: Duration = Duration::from_secs(1);

fn list() -> Request {
    Request::new(Method::TOOLS_LIST, None).unwrap()
}

#[test]
fn configurations_are_checked_and_name_the_setting() {
    let read = |text: &str| serde_json::from_str::<ProviderConfig>(text);
    assert!(read("{}").is_ok_and(|config| Preset::new("p", &config).is_ok()));
    assert!(
        read(r#"{"requests_per_minut":1}"#)
            .unwrap_err()
            .to_string()
            .contains("requests_per_minut")
    );
    assert!(read(r#"{"retry_strategy":"often"}"#).is_err());
    for text in [
        r#"{"requests_per_minute":0}"#,
        r#"{"burst":0}"#,
        r#"{"concurrency":0}"#,
        r#"{"failure_threshold":0}"#,
        r#"{"reset_timeout":"0s"}"#,
        r#"{"timeout":"0s"}"#,
        r#"{"idle_timeout":"0s"}"#,
        r#"{"retry_first":"0s"}"#,
        r#"{"retry_longest":"1ms"}"#,
        r#"{"loop_failures":0}"#,
        r#"{"probes":0}"#,
    ] {
        let errors = Preset::new("p", &read(text).unwrap()).unwrap_err();
        let keys: Vec<_> = errors.iter().map(|error| error.key().to_owned()).collect();
        let expected = match text {
            r#"{"retry_first":"0s"}"# => "retry_longest",
            text => text.split('"').nth(1).unwrap(),
        };
        assert_eq!(keys, [expected], "{errors}");
    }
    let bad = ProviderConfig::default()
        .with_burst(0)
        .with_timeout(Duration::ZERO)
        .with_failure_threshold(0)
        .with_probes(0);
    let errors = Preset::new("p", &bad).unwrap_err();
    let keys: Vec<_> = errors.iter().map(|error| error.key().to_owned()).collect();
    assert_eq!(keys, ["burst", "failure_threshold", "probes", "timeout"]);
}

#[test]
fn a_configuration_is_read_as_it_is_written_and_durations_have_units() {
    let config = ProviderConfig::default()
        .with_limit_wait(Duration::from_millis(1500))
        .with_max_retries(0);
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""limit_wait":"1s 500ms""#), "{text}");
    let read = serde_json::from_str::<ProviderConfig>(&text).unwrap();
    assert_eq!(read, config);
    let bare = serde_json::from_str::<ProviderConfig>(r#"{"timeout":5}"#);
    assert!(bare.is_err());
}

/// A provider that fails every call and writes down when it was called.
fn strict(calls: &Arc<Mutex<Vec<Instant>>>) -> impl Seam + use<> {
    let calls = Arc::clone(calls);
    service_fn(move |_: Request| {
        calls.lock().unwrap().push(Instant::now());
        async { Err::<Response, _>(Error::new(ErrorKind::Unavailable, "down")) }
    })
}

/// Limits inside of retries keep the provider's quota; outside of them they do not, since it counts tries.
#[tokio::test(start_paused = true)]
async fn a_limit_outside_of_retries_breaks_the_providers_quota() {
    let quota = Quota::new(10, SECOND * 60).unwrap();
    let limit = || RateLimitLayer::new(Limit::new("l", quota));
    let retry = || RetryLayer::safe_only().with_budget(10.0, 1000).unwrap();
    let (right, wrong) = (Arc::default(), Arc::default());
    let good = retry().layer(limit().layer(strict(&right)));
    let bad = limit().layer(retry().layer(strict(&wrong)));
    for _ in 0..20 {
        let _ = tokio::time::timeout(SECOND * 2, good.clone().oneshot(list())).await;
        let _ = tokio::time::timeout(SECOND * 2, bad.clone().oneshot(list())).await;
    }
    let in_a_minute = |calls: &Arc<Mutex<Vec<Instant>>>| {
        let calls = calls.lock().unwrap();
        calls
            .iter()
            .filter(|at| **at < calls[0] + SECOND * 6)
            .count()
    };
    assert!(in_a_minute(&right) <= 11, "{}", in_a_minute(&right));
    assert!(
        in_a_minute(&wrong) > 11 || wrong.lock().unwrap().len() > 20,
        "{}",
        wrong.lock().unwrap().len()
    );
}

/// A timeout inside of the queue ends slow calls; outside of it, it ends calls that had no chance to begin.
#[tokio::test(start_paused = true)]
async fn a_timeout_outside_of_the_queue_ends_calls_that_never_began() {
    let slow = || {
        service_fn(|_: Request| async {
            sleep(SECOND).await;
            Ok::<_, Error>(Response::empty())
        })
    };
    let queue = || {
        QueueLayer::one_at_a_time("q")
            .with_queue(10)
            .with_deadline(SECOND * 60)
    };
    let timeout = TimeoutLayer::new(SECOND * 2);
    let answered = |service: mcp_core::BoxSeam| async move {
        let calls: Vec<_> = (0..8)
            .map(|_| tokio::spawn(service.clone().oneshot(list())))
            .collect();
        let mut answered = 0;
        for call in calls {
            answered += usize::from(call.await.unwrap().is_ok());
        }
        answered
    };
    let right = queue().layer(timeout.layer(slow()));
    let wrong = timeout.layer(queue().layer(slow()));
    assert_eq!(answered(mcp_core::BoxSeam::new(right)).await, 8);
    assert!(answered(mcp_core::BoxSeam::new(wrong)).await <= 2);
}
