//! Prints how many decisions a limit on Redis makes in a second for 64 callers, and how long they take.
//!
//! Not with criterion: what counts is many callers at once, and the slowest of their calls.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::io::Write as _;
use std::time::Duration;

use mcp_core::store::RedisConfig;
use mcp_core::testing::RedisServer;
use mcp_core::{Method, Principal, Request};
use mcp_ratelimit::rate_limit::shared::{SharedLimiter, WhenAway};
use mcp_ratelimit::rate_limit::{KeyPart, Limit, Quota};
use tokio::time::Instant;

const CALLERS: usize = 64;
const SECONDS: u32 = 3;

/// Asks until the time is over, and tells how long each answer took.
async fn ask(limiter: SharedLimiter, caller: usize) -> Vec<Duration> {
    let principal = Principal::authenticated("i", &caller.to_string());
    let request = Request::new(Method::PING, None).unwrap();
    let request = request.with_principal(principal);
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs(SECONDS.into()) {
        let one = Instant::now();
        limiter.check(&request).await.unwrap();
        times.push(one.elapsed());
    }
    times
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let server = RedisServer::start().await;
    let connection = RedisConfig::new(&server.url()).unwrap();
    let connection = connection.connect_lazily().unwrap();
    let limit = Limit::new("l", Quota::per_second(1_000_000).unwrap()).per([KeyPart::Principal]);
    let patience = Duration::from_secs(1);
    let limiter =
        SharedLimiter::with_timeout(limit, connection, "b:", WhenAway::Closed, patience).unwrap();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(ask(limiter.clone(), caller)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    writeln!(
        std::io::stdout(),
        "{CALLERS} callers: {} decisions/s, p50 {:?}, p99 {:?}",
        times.len() / SECONDS as usize,
        at(0.5),
        at(0.99)
    )
}
