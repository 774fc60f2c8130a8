//! Replicas that share a Redis: the quota over any interleaving, breakers, and kept answers.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_core::store::{Namespace, RedisConfig, RedisConnection, RedisStore, StateStore};
use mcp_core::testing::RedisServer;
use mcp_core::{Error, ErrorKind, Json, Method, Principal, Request, Response, Seam};
use mcp_ratelimit::breaker::{
    Breaker, BreakerConfig, BreakerLayer, BreakerState, SharedBreaker, Sharing,
};
use mcp_ratelimit::cache::CacheLayer;
use mcp_ratelimit::rate_limit::shared::{SharedLimiter, WhenAway};
use mcp_ratelimit::rate_limit::{Limit, Quota};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

fn connect(url: &str) -> RedisConnection {
    RedisConfig::new(url).unwrap().connect_lazily().unwrap()
}

fn store(url: &str) -> Arc<dyn StateStore> {
    Arc::new(RedisStore::new(connect(url), "app:").unwrap())
}

async fn redis(url: &str, command: &[&str]) {
    let mut command_line = redis::cmd(command[0]);
    for argument in &command[1..] {
        command_line.arg(argument);
    }
    let mut connection = connect(url).manager();
    command_line
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
}

/// What one replica does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Call {
        cost: u32,
    },
    Pause {
        millis: u64,
    },
    /// Redis loses its data.
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1u32..4).prop_map(|cost| Step::Call { cost }),
        3 => (0u64..15).prop_map(|millis| Step::Pause { millis }),
        1 => Just(Step::Flush),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    rate: u32,
    burst: u32,
    replicas: Vec<Vec<Step>>,
}

fn case() -> impl Strategy<Value = Case> {
    let replicas = prop::collection::vec(prop::collection::vec(step(), 1..40), 2..5);
    (1u32..500, 3u32..20, replicas).prop_map(|(rate, burst, replicas)| Case {
        rate,
        burst,
        replicas,
    })
}

/// Runs one replica and tells what was allowed of what it asked for, and how often Redis lost its data.
async fn replica(limiter: SharedLimiter, url: String, steps: Vec<Step>) -> (u32, u32, u32) {
    let (mut allowed, mut asked, mut flushed) = (0, 0, 0);
    for step in steps {
        match step {
            Step::Call { cost } => {
                let params = Json::parse(format!(r#"{{"cost":{cost}}}"#)).unwrap();
                let request = Request::new(Method::PING, Some(params)).unwrap();
                asked += cost;
                if limiter.check(&request).await.is_ok() {
                    allowed += cost;
                }
            }
            Step::Pause { millis } => sleep(Duration::from_millis(millis)).await,
            Step::Flush => {
                redis(&url, &["FLUSHALL"]).await;
                flushed += 1;
            }
        }
    }
    (allowed, asked, flushed)
}

async fn holds(url: &str, number: u32, case: Case) {
    let quota = Quota::per_second(case.rate).unwrap();
    let quota = quota.with_burst(case.burst).unwrap();
    let start = Instant::now();
    let tasks: Vec<_> = case
        .replicas
        .iter()
        .map(|steps| {
            let cost = |request: &Request| {
                let cost = request.param("cost").and_then(|cost| cost.decode().ok());
                cost.unwrap_or(1)
            };
            let limit = Limit::new("l", quota).with_cost(cost);
            let (prefix, patience) = (format!("{number}:"), Duration::from_secs(5));
            let closed = WhenAway::Closed;
            let limiter =
                SharedLimiter::with_timeout(limit, connect(url), &prefix, closed, patience);
            tokio::spawn(replica(limiter.unwrap(), url.to_owned(), steps.clone()))
        })
        .collect();
    let (mut allowed, mut asked, mut flushed) = (0, 0, 0);
    for task in tasks {
        let (more_allowed, more_asked, more_flushed) = task.await.unwrap();
        allowed += more_allowed;
        asked += more_asked;
        flushed += more_flushed;
    }
    let refilled = start.elapsed().as_secs_f64() * f64::from(case.rate);
    let bound = f64::from(case.burst) * f64::from(1 + flushed) + refilled;
    assert!(
        f64::from(allowed) <= bound,
        "{allowed} of at most {bound}: {case:?}"
    );
    // A call of cost 3 that finds room for 2 is refused.
    let least = asked.min(case.burst - 2);
    assert!(allowed >= least, "{allowed} of at least {least}: {case:?}");
}

#[test]
fn no_interleaving_of_replicas_exceeds_the_bound() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(RedisServer::start());
    let number = AtomicU32::new(0);
    let config = Config {
        cases: 48,
        max_shrink_iters: 64,
        ..Config::default()
    };
    let held = TestRunner::new(config).run(&case(), |case| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(holds(&server.url(), number, case));
        Ok(())
    });
    held.unwrap();
}

fn breaker() -> Breaker {
    let ms = Duration::from_millis;
    let config = BreakerConfig::new()
        .with_reset_timeout(ms(400), ms(400))
        .unwrap()
        .with_jitter(0.0)
        .unwrap();
    Breaker::new("crm", config)
}

/// Makes a call through a breaker to an upstream that is well or is not.
async fn ask(breaker: &Breaker, well: bool) -> Result<Response, Error> {
    let upstream = service_fn(move |_: Request| {
        std::future::ready(match well {
            true => Ok(Response::empty()),
            false => Err(Error::new(ErrorKind::Unavailable, "nobody there")),
        })
    });
    let guarded = BreakerLayer::new(breaker.clone()).layer(upstream);
    let ping = Request::new(Method::PING, None).unwrap();
    guarded.oneshot(ping).await
}

async fn fail(breaker: &Breaker) {
    for _ in 0..5 {
        assert!(ask(breaker, false).await.is_err());
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..500 {
        if is() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn breakers_tell_each_other_over_redis_and_do_without_it() {
    let ms = Duration::from_millis;
    let mut server = RedisServer::start().await;
    let url = server.url();
    let link = |breaker: &Breaker| {
        let namespace = Namespace::new("breakers").unwrap();
        SharedBreaker::start(
            breaker.clone(),
            store(&url),
            namespace,
            Sharing::new(ms(400)).with_interval(ms(20)),
        )
    };
    let (one, two) = (breaker(), breaker());
    let links = [link(&one), link(&two)];
    sleep(ms(100)).await;
    fail(&one).await;
    until("the other one follows", || {
        two.state() == BreakerState::Open
    })
    .await;
    sleep(ms(900)).await;
    for breaker in [&one, &two] {
        ask(breaker, true).await.unwrap();
    }
    server.kill().await;
    fail(&two).await;
    assert_eq!(two.state(), BreakerState::Open, "each for itself");
    sleep(ms(150)).await;
    assert_eq!(one.state(), BreakerState::Closed, "nobody told it");
    server.restart().await;
    sleep(ms(900)).await;
    ask(&two, true).await.unwrap();
    // The connection takes its time to come back. Each probe that fails opens again, and says so again.
    for _ in 0..100 {
        assert!(ask(&one, false).await.is_err());
        if two.state() == BreakerState::Open {
            break;
        }
        sleep(ms(50)).await;
    }
    assert_eq!(two.state(), BreakerState::Open, "they talk again");
    for link in links {
        link.shutdown().await;
    }
}

/// Answers with a number that grows with each call.
fn counter(calls: &Arc<AtomicU32>) -> impl Seam + use<> {
    let calls = Arc::clone(calls);
    service_fn(move |_: Request| {
        let number = calls.fetch_add(1, Ordering::SeqCst);
        let text = format!(r#"{{"contents":[],"number":{number},"ttlMs":60000}}"#);
        std::future::ready(Ok::<_, Error>(Response::new(Json::parse(text).unwrap())))
    })
}

async fn read(service: impl Seam, user: &str, uri: &str) -> u32 {
    let params = Json::parse(format!(r#"{{"uri":"{uri}"}}"#)).unwrap();
    let request = Request::new(Method::RESOURCES_READ, Some(params)).unwrap();
    let request = request.with_principal(Principal::authenticated("i", user));
    let answer = service.oneshot(request).await.unwrap();
    answer.result().member("number").unwrap().decode().unwrap()
}

/// Reads one resource after the other in one process until another one finds what was kept. A Redis that is slow to
/// answer is done without for a second, so that it may take more than one.
async fn until_found(one: &impl Seam, two: &impl Seam, prefix: &str) -> (String, u32) {
    for number in 0..200 {
        let uri = format!("{prefix}-{number}");
        let kept = read(one.clone(), "a", &uri).await;
        if read(two.clone(), "a", &uri).await == kept {
            return (uri, kept);
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing is found over Redis");
}

#[tokio::test]
async fn kept_answers_are_found_over_redis_and_done_without() {
    let mut server = RedisServer::start().await;
    let url = server.url();
    let calls = Arc::new(AtomicU32::new(0));
    let made = || calls.load(Ordering::SeqCst);
    let layer =
        || CacheLayer::new(1 << 20).with_store(store(&url), Namespace::new("cache").unwrap());
    let (here, there) = (layer(), layer());
    let (one, two) = (here.layer(counter(&calls)), there.layer(counter(&calls)));
    let (uri, kept) = until_found(&one, &two, "first").await;
    let next = made();
    assert_eq!(read(two.clone(), "b", &uri).await, next, "never another's");
    here.cache().invalidate_name(&uri);
    assert!(
        read(one.clone(), "a", &uri).await > kept,
        "gone here at once"
    );
    sleep(Duration::from_millis(1200)).await;
    there.cache().invalidate_name("other");
    let three = layer().layer(counter(&calls));
    let next = made();
    assert_eq!(
        read(three.clone(), "c", &uri).await,
        next,
        "a new process has nothing of c's"
    );

    server.kill().await;
    let (start, next) = (Instant::now(), made());
    for number in 0..100 {
        let uri = format!("gone-{number}");
        assert_eq!(read(one.clone(), "a", &uri).await, next + number);
    }
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "nobody waits for a Redis that is away: {:?}",
        start.elapsed()
    );
    assert_eq!(
        read(one.clone(), "a", "gone-0").await,
        next,
        "memory is there"
    );

    server.restart().await;
    until_found(&one, &two, "back").await;
}

/// A port that leads to whichever server it is set to, as a name does after a failover.
async fn address(target: Arc<std::sync::Mutex<u16>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let port = *target.lock().unwrap();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    url
}

fn strict(url: &str) -> SharedLimiter {
    let limit = Limit::new("l", Quota::per_second(1000).unwrap());
    let wait = Duration::from_secs(2);
    SharedLimiter::with_timeout(limit, connect(url), "t:", WhenAway::Closed, wait).unwrap()
}

#[tokio::test]
async fn the_first_request_after_a_restart_of_redis_is_answered() {
    use mcp_core::store::{Change, Expected, StoreKey, Swap};
    let mut server = RedisServer::start().await;
    let url = server.url();
    let key = |name: &str| StoreKey::new(&Namespace::new("t").unwrap(), [name]).unwrap();
    let put = |value: &'static str| Change::Put {
        value: value.into(),
        ttl: None,
    };
    // Each has a connection of its own, which the restart leaves behind.
    let stores = [0; 4].map(|_| store(&url));
    let limiter = strict(&url);
    let ping = || Request::new(Method::PING, None).unwrap();
    for _ in 0..3 {
        for store in &stores {
            store.put(&key("k"), "v".into(), None).await.unwrap();
        }
        limiter.check(&ping()).await.unwrap();
        server.restart().await;
        assert_eq!(stores[0].get(&key("k")).await.unwrap(), None);
        let place = key("a");
        let swap = stores[1].compare_and_swap(&place, Expected::Absent, put("x"));
        let Swap::Written(version) = swap.await.unwrap() else {
            panic!("nothing was there");
        };
        assert_eq!(
            stores[1].get(&place).await.unwrap().unwrap().version,
            version
        );
        stores[2].put(&key("k"), "v".into(), None).await.unwrap();
        assert!(!stores[3].delete(&key("none")).await.unwrap());
        limiter.check(&ping()).await.unwrap();
    }
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_left_for_the_new_one() {
    use mcp_core::store::StoreKey;
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let target = Arc::new(std::sync::Mutex::new(old.port()));
    let url = address(Arc::clone(&target)).await;
    let (store, limiter) = (store(&url), strict(&url));
    let key = StoreKey::new(&Namespace::new("t").unwrap(), ["k"]).unwrap();
    let ping = || Request::new(Method::PING, None).unwrap();
    store.put(&key, "v".into(), None).await.unwrap();
    limiter.check(&ping()).await.unwrap();
    let port = new.port().to_string();
    redis(&old.url(), &["REPLICAOF", "127.0.0.1", &port]).await;
    *target.lock().unwrap() = new.port();
    store.put(&key, "w".into(), None).await.unwrap();
    limiter.check(&ping()).await.unwrap();
    let found = store.get(&key).await.unwrap().unwrap();
    assert_eq!(found.value, "w");
}
