//! Limits that processes share, on a real Redis.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_core::store::{RedisConfig, RedisConnection};
use mcp_core::testing::RedisServer;
use mcp_core::{Error, ErrorKind, Method, Principal, Request, Response};
use mcp_ratelimit::rate_limit::shared::{SharedLimiter, SharedRateLimitLayer, WhenAway};
use mcp_ratelimit::rate_limit::{KeyPart, Limit, Quota};
use tokio::time::{Instant as Watch, sleep};
use tower::{Layer, ServiceExt, service_fn};

fn connect(url: &str) -> RedisConnection {
    RedisConfig::new(url).unwrap().connect_lazily().unwrap()
}

fn limiter(url: &str, quota: Quota, when_away: WhenAway) -> SharedLimiter {
    let limit = Limit::new("l", quota).per([KeyPart::Principal]);
    SharedLimiter::with_timeout(limit, connect(url), "t:", when_away, Duration::from_secs(1))
        .unwrap()
}

fn by(user: &str) -> Request {
    Request::new(Method::PING, None)
        .unwrap()
        .with_principal(Principal::authenticated("i", user))
}

/// Asks from `tasks` tasks at once for `time`, and tells how many calls were allowed.
async fn hammer(limiter: &SharedLimiter, tasks: u32, time: Duration) -> u32 {
    let allowed = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (limiter, allowed) = (limiter.clone(), Arc::clone(&allowed));
            tokio::spawn(async move {
                let start = Watch::now();
                while start.elapsed() < time {
                    if limiter.check(&by("a")).await.is_ok() {
                        allowed.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    allowed.load(Ordering::SeqCst)
}

#[tokio::test]
async fn the_same_decision_as_in_one_process() {
    let server = RedisServer::start().await;
    let quota = Quota::per_second(10).unwrap().with_burst(3).unwrap();
    let layer = SharedRateLimitLayer::new(limiter(&server.url(), quota, WhenAway::Closed));
    let service = layer.layer(service_fn(|_: Request| async {
        Ok::<_, Error>(Response::empty())
    }));
    for _ in 0..3 {
        service.clone().oneshot(by("a")).await.unwrap();
    }
    let error = service.clone().oneshot(by("a")).await.unwrap_err();
    let wait = error.retry_after().unwrap();
    assert!(
        error.kind() == ErrorKind::RateLimited && wait <= Duration::from_millis(100),
        "{wait:?}"
    );
    service.clone().oneshot(by("b")).await.unwrap();
    sleep(wait).await;
    service
        .oneshot(by("a"))
        .await
        .expect("allowed at the promised time");
    sleep(Duration::from_millis(500)).await;
    let left: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connect(&server.url()).manager())
        .await
        .unwrap();
    assert!(left.is_empty(), "keys end by themselves: {left:?}");
}

#[tokio::test]
async fn a_call_that_one_limit_refuses_is_counted_by_none() {
    let server = RedisServer::start().await;
    let shared = |name: &str, burst: u32, parts: &[KeyPart]| {
        let quota = Quota::per_hour(burst).unwrap();
        let limit = Limit::new(name, quota).per(parts.iter().copied());
        let (redis, patience) = (connect(&server.url()), Duration::from_secs(10));
        SharedLimiter::with_timeout(limit, redis, "t:", WhenAway::Closed, patience).unwrap()
    };
    let layer = SharedRateLimitLayer::all([
        shared("all", 6, &[]),
        shared("each", 2, &[KeyPart::Principal]),
        shared("more", 4, &[]),
    ]);
    let service = layer.layer(service_fn(|_: Request| async {
        Ok::<_, Error>(Response::empty())
    }));
    let call = async |user: &str| {
        service
            .clone()
            .oneshot(by(user))
            .await
            .map_err(|e| e.to_string())
    };
    for _ in 0..2 {
        call("a").await.unwrap();
    }
    for _ in 0..20 {
        assert!(call("a").await.unwrap_err().contains("\"each\""));
    }
    // Nothing of that was counted by the limits that all share.
    for _ in 0..2 {
        call("b").await.unwrap();
    }
    assert!(call("c").await.unwrap_err().contains("\"more\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_one_quota() {
    const CHILD: &str = "MCP_RATELIMIT_TEST_REDIS";
    let quota = Quota::per_second(100).unwrap().with_burst(50).unwrap();
    let time = Duration::from_secs(2);
    if let Ok(url) = std::env::var(CHILD) {
        println!(
            "allowed={}",
            hammer(&limiter(&url, quota, WhenAway::Closed), 16, time).await
        );
        return;
    }
    let server = RedisServer::start().await;
    let start = Watch::now();
    let child = || {
        tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "two_processes_share_one_quota", "--nocapture"])
            .env(CHILD, server.url())
            .stdout(Stdio::piped())
            .output()
    };
    let (one, two) = tokio::join!(child(), child());
    let took = start.elapsed();
    let allowed = |output: std::process::Output| {
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, number) = text.split_once("allowed=").unwrap();
        number.lines().next().unwrap().parse::<u32>().unwrap()
    };
    let (one, two) = (allowed(one.unwrap()), allowed(two.unwrap()));
    let most = 50 + (took.as_secs_f64() * 100.0) as u32 + 1;
    assert!(
        one > 0 && two > 0 && one + two <= most && one + two >= 200,
        "{one} + {two} of {most}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_under_load() {
    let quota = Quota::per_second(50).unwrap().with_burst(20).unwrap();
    let local = WhenAway::Local {
        replicas: 2.try_into().unwrap(),
    };
    for when_away in [WhenAway::Closed, WhenAway::Open, local] {
        let mut server = RedisServer::start().await;
        let limiter = limiter(&server.url(), quota, when_away);
        assert!(limiter.check(&by("warm")).await.is_ok());
        let load = {
            let limiter = limiter.clone();
            tokio::spawn(async move { hammer(&limiter, 8, Duration::from_secs(3)).await })
        };
        sleep(Duration::from_millis(500)).await;
        server.kill().await;
        sleep(Duration::from_millis(300)).await;
        assert!(limiter.is_away(), "{when_away:?}");
        let start = Watch::now();
        let answer = limiter.check(&by("new")).await;
        assert_eq!(answer.is_ok(), when_away != WhenAway::Closed);
        assert!(
            start.elapsed() < Duration::from_millis(900),
            "nobody waits for a dead server"
        );
        server.restart().await;
        let allowed = load.await.unwrap();
        // Two bursts for the two times that a count began anew, and one for the first.
        let most = 3 * 20 + 3 * 50 + 10;
        match when_away {
            WhenAway::Open => assert!(allowed > most),
            _ => assert!(allowed <= most, "{when_away:?}: {allowed} of {most}"),
        }
        for _ in 0..40 {
            let _ = limiter.check(&by("a")).await;
            sleep(Duration::from_millis(50)).await;
        }
        assert!(!limiter.is_away(), "{when_away:?}: it is back");
    }
}

#[tokio::test]
async fn a_server_that_answers_nonsense_or_nothing_is_away() {
    let server = RedisServer::start().await;
    let quota = Quota::per_second(5).unwrap();
    let closed = limiter(&server.url(), quota, WhenAway::Closed);
    closed.check(&by("a")).await.unwrap();
    let mut admin = connect(&server.url()).manager();
    redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async::<()>(&mut admin)
        .await
        .unwrap();
    closed
        .check(&by("a"))
        .await
        .expect("a forgotten script is sent again");
    let names: Vec<String> = redis::cmd("KEYS")
        .arg("t:*")
        .query_async(&mut admin)
        .await
        .unwrap();
    redis::cmd("SET")
        .arg(&names[0])
        .arg("nonsense")
        .query_async::<()>(&mut admin)
        .await
        .unwrap();
    closed
        .check(&by("a"))
        .await
        .expect("a foreign value counts as none");
    redis::cmd("DEL")
        .arg(&names[0])
        .query_async::<()>(&mut admin)
        .await
        .unwrap();
    redis::cmd("LPUSH")
        .arg(&names[0])
        .arg("x")
        .query_async::<()>(&mut admin)
        .await
        .unwrap();
    assert!(
        closed.check(&by("a")).await.is_err() && closed.is_away(),
        "a foreign type is no answer"
    );
}

#[tokio::test]
async fn a_server_out_of_memory_is_away() {
    let server = RedisServer::start().await;
    let quota = Quota::per_second(5).unwrap();
    let mut admin = connect(&server.url()).manager();
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("1")
        .query_async::<()>(&mut admin)
        .await
        .unwrap();
    let full = limiter(&server.url(), quota, WhenAway::Closed);
    assert!(
        full.check(&by("b")).await.is_err() && full.is_away(),
        "out of memory"
    );
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("0")
        .query_async::<()>(&mut admin)
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_waits_for_a_silent_server() {
    let quota = Quota::per_second(5).unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let limit = Limit::new("l", quota);
    let timeout = Duration::from_millis(50);
    let slow =
        SharedLimiter::with_timeout(limit.clone(), connect(&url), "t:", WhenAway::Open, timeout)
            .unwrap();
    let start = Watch::now();
    for _ in 0..100 {
        slow.check(&by("a")).await.unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_millis(400),
        "only the first one waits"
    );
    assert!(SharedLimiter::new(limit.clone(), connect(&url), "a b", WhenAway::Open).is_err());
    assert!(
        SharedLimiter::with_timeout(limit, connect(&url), "", WhenAway::Open, Duration::ZERO)
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_spend_from_one_account() {
    use mcp_core::store::{Namespace, RedisStore};
    use mcp_core::{Account, Amount, Budget};
    use mcp_ratelimit::budget::{BudgetPlan, Period, StoreBudget};

    let server = RedisServer::start().await;
    let budget = || {
        let store = RedisStore::new(connect(&server.url()), "app:").unwrap();
        let plan = BudgetPlan::new(Period::Month, Amount::units(20));
        Arc::new(StoreBudget::new(
            Arc::new(store),
            Namespace::new("budget").unwrap(),
            plan,
        ))
    };
    let account = Account::new(by("a").principal().partition(), "search");
    let tasks: Vec<_> = [budget(), budget()]
        .into_iter()
        .flat_map(|budget| std::iter::repeat_n(budget, 15))
        .map(|budget| {
            let account = account.clone();
            tokio::spawn(async move {
                let held = budget.reserve(&account, Amount::units(1)).await.ok()?;
                budget.settle(held, Amount::units(1)).await.ok()
            })
        })
        .collect();
    let mut spent = 0;
    for task in tasks {
        spent += usize::from(task.await.unwrap().is_some());
    }
    assert_eq!(spent, 20);
    assert_eq!(budget().remaining(&account).await.unwrap(), Amount::ZERO);
}
