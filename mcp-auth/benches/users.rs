//! What users of one's own cost the calls of others.
#![allow(missing_docs, reason = "the macros of criterion make items without")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark of a broken set-up has no result"
)]

use std::{
    convert::Infallible,
    hint::black_box,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use mcp_auth::{
    server::{RequestBody, ResourceServer},
    users::{Attempt, NewUser, UserScheme, Users},
    vault::{ValueKey, Vault},
};
use mcp_core::{secret::Secret, store::MemoryStore};
use tokio::{runtime::Runtime, time::Instant};
use tower::{Layer, Service, service_fn};

const PASSWORD: &str = "correct horse battery";

/// How many calls a round of logins is measured beside.
const CALLS: usize = 2000;

/// How many log in at once.
const LOGINS: usize = 100;

async fn users() -> Users {
    let key = ValueKey::new(Secret::new("k".repeat(32)));
    let vault = Vault::open(Arc::new(MemoryStore::new()), &key);
    let users = Users::builder("https://gw.example", vault.await.unwrap());
    // Nobody is locked out of a benchmark.
    let users = users.lock_account_after(u32::MAX).build().unwrap();
    let new = NewUser::new("alice", Secret::new(PASSWORD));
    users.create(new).await.unwrap();
    users
}

async fn log_in(users: &Users) -> Secret {
    let attempt = Attempt::new("alice", Secret::new(PASSWORD));
    users.log_in(&attempt).await.unwrap().access
}

fn post(token: &Secret) -> Request<()> {
    let header = format!("Bearer {}", token.secret());
    let request = Request::post("/mcp").header("authorization", header);
    request.body(()).unwrap()
}

async fn nothing(request: Request<RequestBody<()>>) -> Result<Response<String>, Infallible> {
    black_box(&request);
    Ok(Response::new(String::new()))
}

fn auth(users: &Users) -> ResourceServer {
    let auth = ResourceServer::builder("https://gw.example/mcp");
    let scheme = UserScheme::new(users.clone());
    auth.scheme(scheme).build().unwrap()
}

fn seen_before(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let users = runtime.block_on(users());
    let token = runtime.block_on(log_in(&users));
    let mut layered = auth(&users).layer().layer(service_fn(nothing));
    c.bench_function("users/token seen before", |b| {
        b.to_async(&runtime).iter_batched(
            || post(&token),
            |request| layered.call(request),
            criterion::BatchSize::SmallInput,
        );
    });
}

/// Makes calls on workers of the runtime, one each millisecond, and returns the latencies in order.
async fn calls(users: &Users, token: &Secret) -> Vec<Duration> {
    let layered = auth(users).layer().layer(service_fn(nothing));
    let mut all = Vec::with_capacity(CALLS);
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..CALLS {
        ticks.tick().await;
        let (mut layered, request) = (layered.clone(), post(token));
        let started = Instant::now();
        let call = tokio::spawn(async move { layered.call(request).await.map(drop) });
        call.await.unwrap().unwrap();
        all.push(started.elapsed());
    }
    all.sort_unstable();
    all
}

/// Prints the latency of calls alone and beside logins, in turns.
fn logins(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let users = users().await;
        let token = log_in(&users).await;
        for round in 0..5 {
            let alone = calls(&users, &token).await;
            let busy = Arc::new(AtomicBool::new(true));
            let crowd: Vec<_> = (0..LOGINS)
                .map(|_| {
                    let (users, busy) = (users.clone(), Arc::clone(&busy));
                    tokio::spawn(async move {
                        let attempt = Attempt::new("alice", Secret::new(PASSWORD));
                        while busy.load(Ordering::Relaxed) {
                            let _ = users.log_in(&attempt).await;
                        }
                    })
                })
                .collect();
            let beside = calls(&users, &token).await;
            busy.store(false, Ordering::Relaxed);
            for one in crowd {
                one.await.unwrap();
            }
            let at = |all: &[Duration], part: usize| all[(all.len() - 1) * part / 100];
            let _ = writeln!(
                std::io::stdout(),
                "users/calls in round {round}: alone median {:?}, p99 {:?}; beside {LOGINS} logins median {:?}, p99 {:?}",
                at(&alone, 50),
                at(&alone, 99),
                at(&beside, 50),
                at(&beside, 99),
            );
        }
    });
}

criterion_group!(benches, seen_before, logins);
criterion_main!(benches);
