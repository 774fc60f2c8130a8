use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_core::{Error, ErrorKind, Request, Response};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};
use tower::Service;

use crate::OUTAGE;

/// Calls that are allowed in a second; who goes beyond is refused until it has been quiet for a while.
const LIMIT: u32 = 50;
const PENALTY: Duration = Duration::from_secs(1);
/// One call in fifty fails.
const FAULTS: f64 = 0.02;

/// An upstream that allows 50 calls in a second, punishes whoever makes more, fails now and then, and is unavailable for
/// ten seconds. Clones are the same upstream.
#[derive(Debug, Clone)]
pub struct Upstream(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    start: Instant,
    calls: u64,
    second: u64,
    in_second: u32,
    closed_until: Instant,
    random: StdRng,
}

/// What the upstream does with a call, and after which time.
enum Fate {
    Answer(Duration),
    TurnAway,
    Fail(Duration),
    Hang,
}

impl Upstream {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let random = StdRng::seed_from_u64(seed);
        let state = State {
            start: now,
            calls: 0,
            second: 0,
            in_second: 0,
            closed_until: now,
            random,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn start(&self) -> Instant {
        self.lock().start
    }

    /// How many calls have reached it.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn decide(&mut self) -> Fate {
        let now = Instant::now();
        self.calls += 1;
        let since = now - self.start;
        if since >= OUTAGE.0 && since < OUTAGE.1 {
            return Fate::Hang;
        }
        if since.as_secs() != self.second {
            (self.second, self.in_second) = (since.as_secs(), 0);
        }
        self.in_second += 1;
        if now < self.closed_until || self.in_second > LIMIT + 10 {
            self.closed_until = now + PENALTY;
            return Fate::TurnAway;
        }
        let time = Duration::from_millis(self.random.random_range(20..120));
        if self.random.random_bool(FAULTS) {
            Fate::Fail(time)
        } else {
            Fate::Answer(time)
        }
    }
}

impl Service<Request> for Upstream {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        let fate = self.lock().decide();
        Box::pin(async move {
            match fate {
                Fate::Answer(time) => {
                    sleep(time).await;
                    Ok(Response::empty())
                }
                Fate::TurnAway => {
                    sleep(Duration::from_millis(5)).await;
                    Err(Error::new(ErrorKind::RateLimited, "too many calls")
                        .with_retry_after(PENALTY))
                }
                Fate::Fail(time) => {
                    sleep(time).await;
                    Err(Error::new(ErrorKind::Unavailable, "the connection broke"))
                }
                Fate::Hang => {
                    sleep(Duration::from_secs(5)).await;
                    Err(Error::new(ErrorKind::Unavailable, "no answer"))
                }
            }
        })
    }
}
