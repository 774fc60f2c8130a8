use std::sync::Arc;
use std::time::Duration;

use mcp_core::clock::FakeClock;
use mcp_core::{Error, ErrorKind, Json, Method, Request, Response};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::machine::{Machine, Permit};
use super::{Breaker, BreakerConfig, BreakerLayer, BreakerRegistry, BreakerState as S, Outcome};

fn config() -> BreakerConfig {
    let times = (Duration::from_secs(1), Duration::from_secs(8));
    BreakerConfig::new()
        .with_reset_timeout(times.0, times.1)
        .unwrap()
        .with_jitter(0.0)
        .unwrap()
}

fn ping() -> Request {
    Request::new(Method::PING, None).unwrap()
}

#[test]
fn absurd_settings_are_refused() {
    let c = BreakerConfig::new;
    assert!(c().with_consecutive_failures(Some(0)).is_err());
    for rate in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(c().with_failure_rate(rate, 1).is_err(), "{rate}");
    }
    assert!(c().with_failure_rate(0.5, 0).is_err());
    assert!(c().with_window(Duration::ZERO).is_err());
    assert!(
        c().with_reset_timeout(Duration::from_secs(2), Duration::from_secs(1))
            .is_err()
    );
    assert!(
        c().with_reset_timeout(Duration::MAX, Duration::MAX)
            .is_err()
    );
    assert!(c().with_probes(0).is_err());
    assert!(c().with_jitter(2.0).is_err());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Call,
    Finish(usize, u8),
    Drop(usize),
    Force(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u64..3000).prop_map(Step::Wait),
        6 => Just(Step::Call),
        6 => (any::<usize>(), 0u8..4).prop_map(|(n, o)| Step::Finish(n, o)),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => (0u8..30).prop_map(Step::Force),
    ]
}

proptest! {
    /// Whatever happens in whatever order: only lawful changes, each seen as it happens; never more probes than
    /// allowed; and a breaker left alone admits again.
    #[test]
    fn no_transition_is_skipped(steps in proptest::collection::vec(step(), 1..300), probes in 1u32..4) {
        let config = config().with_probes(probes).unwrap().with_failure_rate(0.5, 4).unwrap();
        let mut now = Instant::now();
        let mut machine = Machine::new(config, now);
        let mut seen = S::Closed;
        let mut open: Vec<Permit> = Vec::new();
        for step in steps {
            let transition = match step {
                Step::Wait(ms) => { now += Duration::from_millis(ms); None }
                Step::Call => {
                    let (admitted, transition) = machine.admit(now);
                    match admitted {
                        Ok(permit) => open.push(permit),
                        Err(wait) => prop_assert!(wait <= Duration::from_secs(8)),
                    }
                    transition
                }
                Step::Finish(n, o) if !open.is_empty() => {
                    let permit = open.swap_remove(n % open.len());
                    let wait = Duration::from_secs(2);
                    let outcomes = [Outcome::Success, Outcome::Failure, Outcome::Ignored, Outcome::RateLimited(Some(wait))];
                    machine.report(permit, outcomes[usize::from(o)], Duration::ZERO, now, 0.5)
                }
                Step::Drop(n) if !open.is_empty() => {
                    machine.release(open.swap_remove(n % open.len()));
                    None
                }
                Step::Force(n) if n < 3 => machine.force([None, Some(super::machine::Forced::Open), Some(super::machine::Forced::Closed)][usize::from(n)]),
                _ => None,
            };
            if let Some(t) = transition {
                prop_assert_eq!(t.from, seen);
                let lawful = matches!((t.from, t.to), (S::Closed, S::Open) | (S::Open, S::HalfOpen) | (S::HalfOpen, S::Closed | S::Open));
                prop_assert!(t.forced || lawful, "{:?}", t);
                seen = t.to;
            }
            prop_assert_eq!(machine.state(), seen);
            let current = open.iter().filter(|p| p.probe.is_some() && p.generation == machine.generation());
            prop_assert!(current.count() <= probes as usize || seen != S::HalfOpen);
        }
        machine.force(None);
        prop_assert!(machine.admit(now).0.is_ok());
    }
}

#[test]
fn resets_back_off_and_probes_close() {
    let clock = FakeClock::new();
    let config = config().with_probes(2).unwrap();
    let breaker = Breaker::with_clock("b", config, Arc::new(clock.clone()));
    let mut changes = breaker.subscribe();
    for _ in 0..5 {
        breaker.admit().unwrap().report(Outcome::Failure);
    }
    for wait in [1, 2, 4, 8, 8] {
        assert_eq!(breaker.admit().unwrap_err(), Duration::from_secs(wait));
        clock.advance(Duration::from_secs(wait));
        breaker.admit().unwrap().report(Outcome::Failure);
    }
    clock.advance(Duration::from_secs(8));
    let (one, two) = (breaker.admit().unwrap(), breaker.admit().unwrap());
    assert!(breaker.admit().is_err(), "two probes at once");
    drop(one);
    let three = breaker
        .admit()
        .expect("a dropped probe gives its place back");
    two.report(Outcome::Success);
    assert_eq!(breaker.state(), S::HalfOpen);
    three.report(Outcome::Success);
    assert_eq!(breaker.state(), S::Closed);
    let mut last = S::Closed;
    while let Ok(change) = changes.try_recv() {
        assert_eq!(change.from, last);
        last = change.to;
    }
    assert_eq!(last, S::Closed);
}

#[test]
fn a_hung_probe_does_not_wedge_it() {
    let clock = FakeClock::new();
    let breaker = Breaker::with_clock("b", config(), Arc::new(clock.clone()));
    breaker.open_for(Duration::from_secs(1));
    clock.advance(Duration::from_secs(1));
    let hung = breaker.admit().unwrap();
    assert!(breaker.admit().is_err());
    clock.advance(Duration::from_secs(60));
    breaker
        .admit()
        .expect("the lease is over")
        .report(Outcome::Success);
    assert_eq!(breaker.state(), S::Closed);
    hung.report(Outcome::Failure);
    assert_eq!(
        breaker.state(),
        S::Closed,
        "a report from another time says nothing"
    );
}

#[test]
fn slow_calls_and_rates_open_it() {
    let clock = FakeClock::new();
    let config = config()
        .with_consecutive_failures(None)
        .unwrap()
        .with_failure_rate(0.5, 4)
        .unwrap();
    let slow = config
        .clone()
        .with_slow_calls(Duration::from_secs(1), 0.5)
        .unwrap();
    let breaker = Breaker::with_clock("b", slow, Arc::new(clock.clone()));
    for pause in [0, 0, 1, 1] {
        let call = breaker.admit().unwrap();
        clock.advance(Duration::from_secs(pause));
        call.report(Outcome::Success);
    }
    assert_eq!(breaker.state(), S::Open);

    let breaker = Breaker::with_clock("b", config, Arc::new(clock.clone()));
    for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success] {
        breaker.admit().unwrap().report(outcome);
    }
    assert_eq!(breaker.state(), S::Closed, "too few calls to tell");
    clock.advance(Duration::from_secs(61));
    for _ in 0..3 {
        breaker.admit().unwrap().report(Outcome::Failure);
    }
    assert_eq!(
        breaker.state(),
        S::Closed,
        "the first ones are too long ago"
    );
    breaker.admit().unwrap().report(Outcome::Failure);
    assert_eq!(breaker.state(), S::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_opens_until_its_time_and_a_tool_error_does_not_count() {
    let service = service_fn(|request: Request| async move {
        match request.tool() {
            Some("limited") => Err(Error::new(ErrorKind::RateLimited, "slow down")
                .with_retry_after(Duration::from_secs(3))),
            Some("wrong") => Err(Error::new(ErrorKind::InvalidParams, "no")),
            _ => Ok(Response::new(Json::parse(r#"{"isError":true}"#).unwrap())),
        }
    });
    let tool = |name: &str| {
        Request::new(
            Method::TOOLS_CALL,
            Some(Json::parse(format!(r#"{{"name":"{name}"}}"#)).unwrap()),
        )
        .unwrap()
    };
    let breaker = Breaker::new("b", config().with_consecutive_failures(Some(1)).unwrap());
    let guarded = BreakerLayer::new(breaker.clone()).layer(service);
    for name in ["x", "wrong", "x"] {
        let _ = guarded.clone().oneshot(tool(name)).await;
    }
    assert_eq!(breaker.state(), S::Closed);
    let _ = guarded.clone().oneshot(tool("limited")).await;
    let error = guarded.clone().oneshot(tool("x")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::CircuitOpen, Some(Duration::from_secs(3)))
    );
    tokio::time::advance(Duration::from_secs(3)).await;
    guarded.oneshot(tool("x")).await.unwrap();

    let strict = BreakerLayer::new(breaker.clone())
        .with_tool_errors()
        .layer(service);
    strict.clone().oneshot(tool("x")).await.unwrap();
    let fallback = service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) });
    let saved = BreakerLayer::new(breaker.clone())
        .with_fallback(fallback)
        .layer(service);
    assert_eq!(
        saved
            .oneshot(tool("limited"))
            .await
            .unwrap()
            .result()
            .as_str(),
        "{}"
    );
    breaker.force_closed();
    assert!(strict.oneshot(tool("x")).await.is_ok());
}

#[tokio::test]
async fn each_name_has_its_own_and_a_panic_is_a_failure() {
    let registry = BreakerRegistry::new(config().with_consecutive_failures(Some(1)).unwrap());
    let layer = BreakerLayer::keyed(registry.clone(), |request| {
        request.tool().map(str::to_owned)
    });
    let service = layer.layer(service_fn(|request: Request| async move {
        assert_ne!(request.tool(), Some("panics"), "on purpose");
        Ok::<_, Error>(Response::empty())
    }));
    let tool = |name: &str| {
        Request::new(
            Method::TOOLS_CALL,
            Some(Json::parse(format!(r#"{{"name":"{name}"}}"#)).unwrap()),
        )
        .unwrap()
    };
    let panicked = tokio::spawn(service.clone().oneshot(tool("panics"))).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!(registry.get("panics").state(), S::Open);
    service.clone().oneshot(tool("fine")).await.unwrap();
    service.clone().oneshot(ping()).await.unwrap();
    let names: Vec<_> = registry
        .list()
        .iter()
        .map(|b| b.name().to_owned())
        .collect();
    assert_eq!(names, ["fine", "panics"]);
    registry.get("fine").force_open();
    let mut service = service;
    assert_eq!(
        service
            .ready()
            .await
            .unwrap()
            .call(tool("fine"))
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::CircuitOpen
    );
}
