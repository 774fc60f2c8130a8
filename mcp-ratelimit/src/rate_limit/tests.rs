use std::sync::Arc;
use std::time::Duration;

use mcp_core::clock::FakeClock;
use mcp_core::{Error, ErrorClass, ErrorKind, Json, Method, Principal, Request, Response};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use super::{
    Applies, HttpRateLimitLayer, KeyPart, Limit, Limiter, Overflow, Quota, RateLimitLayer, Refusal,
};

fn call(user: &str, tool: &str) -> Request {
    let params = Json::parse(format!(r#"{{"name":"{tool}"}}"#)).unwrap();
    Request::new(Method::TOOLS_CALL, Some(params))
        .unwrap()
        .with_principal(Principal::authenticated("iss", user))
}

fn limiter(limits: Vec<Limit>) -> (Limiter<Request>, FakeClock) {
    let clock = FakeClock::new();
    (Limiter::new(limits, Arc::new(clock.clone())), clock)
}

#[test]
fn absurd_quotas_are_refused() {
    assert!(Quota::per_second(0).is_err());
    assert!(Quota::new(1, Duration::ZERO).is_err());
    assert!(Quota::new(u32::MAX, Duration::from_secs(1)).is_err());
    assert!(Quota::new(1, Duration::MAX).is_err());
    assert!(Quota::per_second(1).unwrap().with_burst(0).is_err());
    assert!(Quota::per_hour(1).unwrap().with_burst(u32::MAX).is_err());
    let share = Quota::per_second(10).unwrap().share(20.try_into().unwrap());
    assert_eq!(
        (share.burst().get(), share.interval()),
        (1, Duration::from_secs(2))
    );
}

#[test]
fn keys_are_apart_and_endless_names_cost_nothing() {
    let quota = Quota::per_minute(1).unwrap();
    let (limiter, _) = limiter(vec![
        Limit::new("t", quota).per([KeyPart::Principal, KeyPart::Tool]),
    ]);
    assert!(limiter.check(&call("a", "x")).is_ok());
    assert!(limiter.check(&call("a", "x")).is_err());
    assert!(limiter.check(&call("a", "y")).is_ok());
    assert!(limiter.check(&call("b", "x")).is_ok());
    assert!(
        limiter
            .check(&call("b", &"\\u0000".repeat(100_000)))
            .is_ok()
    );
    let list = Request::new(Method::TOOLS_LIST, None).unwrap();
    assert!(limiter.check(&list).unwrap().is_none(), "not a tool call");
    assert_eq!(limiter.keys(), 4);
}

#[test]
fn memory_is_bounded_and_shrinks() {
    let limit = |max| {
        Limit::new("n", Quota::per_second(1).unwrap())
            .per([KeyPart::Principal])
            .with_max_keys(max)
    };
    let (limiter, clock) = limiter(vec![limit(640)]);
    let allowed = (0..10_000)
        .filter(|n| limiter.check(&call(&n.to_string(), "t")).is_ok())
        .count();
    assert!(limiter.keys() <= 640 + 64, "{}", limiter.keys());
    assert!(
        allowed <= 640 + 64,
        "those without room share a quota: {allowed}"
    );
    clock.advance(Duration::from_secs(5));
    limiter.sweep();
    assert_eq!(limiter.keys(), 0);
}

#[test]
fn costs_and_exemptions() {
    let quota = Quota::per_second(10).unwrap();
    let limit =
        Limit::new("cost", quota).with_cost(|r: &Request| r.tool().map_or(0, |t| t.len() as u32));
    let (limiter, _) = limiter(vec![limit]);
    assert!(
        limiter
            .check(&Request::new(Method::PING, None).unwrap())
            .unwrap()
            .is_none()
    );
    assert_eq!(
        limiter
            .check(&call("a", "four"))
            .unwrap()
            .unwrap()
            .remaining,
        6
    );
    let never = limiter.check(&call("a", "elevenchars")).unwrap_err();
    assert_eq!(never.wait(), None);
    let error = Error::from(&*never);
    assert_eq!(
        (error.class(), error.retry_after()),
        (ErrorClass::Permanent, None)
    );
    let refusal = limiter.check(&call("a", "sevenxx")).unwrap_err();
    assert_eq!(refusal.wait(), Some(Duration::from_millis(100)));
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let quota = Quota::per_minute(2).unwrap().with_burst(1).unwrap();
    let (limiter, _) = limiter(vec![Limit::new("say \"when\"", quota)]);
    limiter.check(&call("a", "t")).unwrap();
    let error = Error::from(&*limiter.check(&call("a", "t")).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    assert!(
        error.message().contains("try again in 30 s"),
        "{}",
        error.message()
    );
    let rpc = error.to_rpc(mcp_core::Era::Stateless);
    assert_eq!(
        rpc.member("data")
            .unwrap()
            .member("retryAfterMs")
            .unwrap()
            .as_str(),
        "30000"
    );
    let headers = error.headers();
    assert_eq!(headers["retry-after"], "30");
    assert_eq!(headers["ratelimit-policy"], "\"say when\";q=2;w=60");
    assert_eq!(headers["ratelimit"], "\"say when\";r=0;t=30");
}

proptest! {
    /// In no stretch of time are more calls allowed than the burst and what has come back, and a call at the
    /// promised time is allowed, one nanosecond before is not.
    #[test]
    fn never_above_quota_and_allowed_at_the_promised_time(
        count in 1u32..20, window_ms in 1u64..5000, burst in 1u32..10,
        steps in proptest::collection::vec((0u64..2000, 1u32..4), 1..80),
    ) {
        let quota = Quota::new(count, Duration::from_millis(window_ms)).unwrap().with_burst(burst).unwrap();
        let limit = Limit::new("p", quota).with_cost(|r: &Request| r.tool().map_or(0, |t| t.len() as u32));
        let (limiter, clock) = limiter(vec![limit]);
        let start = clock.instant();
        let mut taken: Vec<(Duration, u32)> = Vec::new();
        for (pause, cost) in steps {
            clock.advance(Duration::from_millis(pause));
            let request = call("a", &"x".repeat(cost as usize));
            match limiter.check(&request) {
                Ok(_) => taken.push((clock.instant() - start, cost)),
                Err(refusal) if cost > burst => prop_assert_eq!(refusal.wait(), None),
                Err(refusal) => {
                    let wait = refusal.wait().unwrap();
                    prop_assert!(!wait.is_zero());
                    clock.advance(wait - Duration::from_nanos(1));
                    prop_assert!(limiter.check(&request).is_err());
                    clock.advance(Duration::from_nanos(1));
                    prop_assert!(limiter.check(&request).is_ok());
                    taken.push((clock.instant() - start, cost));
                }
            }
        }
        for (index, (from, _)) in taken.iter().enumerate() {
            let mut sum = 0u64;
            for (at, cost) in &taken[index..] {
                sum += u64::from(*cost);
                let back = (*at - *from).as_nanos() / quota.interval().as_nanos();
                prop_assert!(u128::from(sum) <= u128::from(burst) + back + 1);
            }
        }
    }

    /// With several limits, a refusal takes nothing from any of them, and its time is the longest one.
    #[test]
    fn several_limits_refuse_as_one(pauses in proptest::collection::vec(0u64..3000, 1..60)) {
        let slow = Limit::new("slow", Quota::new(3, Duration::from_secs(10)).unwrap());
        let fast = Limit::new("fast", Quota::per_second(2).unwrap()).per([KeyPart::Tool]);
        let (limiter, clock) = limiter(vec![fast, slow]);
        for (n, pause) in pauses.into_iter().enumerate() {
            clock.advance(Duration::from_millis(pause));
            let request = call("a", if n % 2 == 0 { "x" } else { "y" });
            if let Err(refusal) = limiter.check(&request) {
                let again = limiter.check(&request).unwrap_err();
                prop_assert_eq!(&again, &refusal);
                clock.advance(refusal.wait().unwrap());
                prop_assert!(limiter.check(&request).is_ok());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_their_turn_within_bounds() {
    let limit = Limit::new("w", Quota::per_second(1).unwrap());
    let layer = RateLimitLayer::new(limit).with_overflow(Overflow::Wait {
        up_to: Duration::from_millis(1500),
        waiting: 2,
    });
    let service = layer.layer(service_fn(|_: Request| async {
        Ok::<_, Error>(Response::empty())
    }));
    let start = tokio::time::Instant::now();
    let calls: Vec<_> = (0..4)
        .map(|_| tokio::spawn(service.clone().oneshot(call("a", "t"))))
        .collect();
    let mut results = Vec::new();
    for call in calls {
        results.push((call.await.unwrap().is_ok(), start.elapsed().as_millis()));
    }
    assert_eq!(
        results.iter().filter(|(ok, _)| *ok).count(),
        2,
        "{results:?}"
    );
    assert!(
        start.elapsed() <= Duration::from_millis(1600),
        "{results:?}"
    );

    tokio::time::advance(Duration::from_secs(10)).await;
    service.clone().oneshot(call("a", "t")).await.unwrap();
    let dropped = tokio::time::timeout(
        Duration::from_millis(10),
        service.clone().oneshot(call("a", "t")),
    );
    assert!(dropped.await.is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    service
        .oneshot(call("a", "t"))
        .await
        .expect("a dropped wait was not charged");
}

#[tokio::test]
async fn plain_http_is_limited_too() {
    let limit = Limit::new("ip", Quota::per_hour(1).unwrap()).per_fn(
        |parts: &http::request::Parts, key| match parts.headers.get("x-client") {
            Some(client) => {
                key.bytes(client.as_bytes());
                Applies::Yes
            }
            None => Applies::No,
        },
    );
    let service = HttpRateLimitLayer::new(limit).layer(service_fn(|_: http::Request<()>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::from("ok")))
    }));
    let ask = |client: &str| {
        http::Request::get("/")
            .header("x-client", client)
            .body(())
            .unwrap()
    };
    let first = service.clone().oneshot(ask("a")).await.unwrap();
    assert_eq!(
        (first.status().as_u16(), &first.headers()["ratelimit"]),
        (200, &"\"ip\";r=0".parse().unwrap())
    );
    let second = service.clone().oneshot(ask("a")).await.unwrap();
    assert_eq!(
        (
            second.status().as_u16(),
            second.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "3600")
    );
    assert_eq!(second.extensions().get::<Refusal>().unwrap().limit(), "ip");
    assert_eq!(
        service.clone().oneshot(ask("b")).await.unwrap().status(),
        200
    );
    assert_eq!(
        service
            .oneshot(http::Request::new(()))
            .await
            .unwrap()
            .status(),
        200
    );
}

#[test]
fn a_refusal_takes_nothing_from_keys_without_room_either() {
    let wide = Limit::new("wide", Quota::per_hour(2).unwrap())
        .per([KeyPart::Principal])
        .with_max_keys(1);
    let narrow = Limit::new("narrow", Quota::per_second(1).unwrap());
    let (limiter, clock) = limiter(vec![wide, narrow]);
    for n in 0..200 {
        let _ = limiter.check(&call(&n.to_string(), "t"));
    }
    clock.advance(Duration::from_secs(3600));
    for user in ["a", "a", "b"] {
        let refusals = (0..5)
            .filter(|_| limiter.check(&call(user, "t")).is_err())
            .count();
        assert!(refusals >= 4);
        clock.advance(Duration::from_secs(3600));
        limiter
            .check(&call(user, "t"))
            .expect("an hour later there is room again");
        clock.advance(Duration::from_secs(3600));
    }
}

#[tokio::test]
async fn a_limit_tells_the_code_of_the_draft_where_it_may() {
    use mcp_core::{Era, Method, RpcCode, UpstreamId};
    let layer = || RateLimitLayer::new(Limit::new("l", Quota::per_minute(1).unwrap()));
    let ping = || Request::new(Method::PING, None).unwrap();
    let inside = ping().with_upstream(UpstreamId::new("crm").unwrap());
    let ours = RpcCode::RATE_LIMITED;
    for (layer, request, code) in [
        (layer(), ping(), ours),
        (layer().with_draft_code(), ping(), RpcCode::DRAFT_RATE_LIMIT),
        // The draft forbids it for the API behind a tool.
        (layer().with_draft_code(), inside, ours),
    ] {
        let service = layer.layer(service_fn(|_: Request| async {
            Ok::<_, Error>(Response::empty())
        }));
        service.clone().oneshot(request.clone()).await.unwrap();
        let refused = service.oneshot(request).await.unwrap_err();
        assert_eq!(refused.code(Era::Stateless), code);
        assert_eq!(
            refused.code(Era::Session),
            ours,
            "unknown before 2026-07-28"
        );
        let answer = refused.to_rpc(Era::Stateless);
        let data = answer.member("data").unwrap();
        assert!(data.member("retryAfterMs").unwrap().decode::<u64>().is_ok());
        if code != ours {
            assert_eq!(data.member("remaining").unwrap().as_str(), "0");
            assert_eq!(data.member("limit").unwrap().as_str(), "1");
        }
        assert_eq!(refused.status(Era::Stateless), 429);
    }
}
