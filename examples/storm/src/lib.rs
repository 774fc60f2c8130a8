//! Simulates many callers of an upstream that has a strict limit, fails now and then and is unavailable for a while,
//! without and with the recommended layers.

mod upstream;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcp_core::{BoxSeam, ConfigErrors, Error, Method, Principal, Request, Seam};
use mcp_ratelimit::preset::{Preset, ProviderConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, ServiceExt};

pub use self::upstream::Upstream;

/// How long the simulation runs.
pub const LENGTH: Duration = Duration::from_secs(60);
/// When the upstream becomes unavailable, and when it is available again.
pub const OUTAGE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(30));
const CALLERS: u64 = 64;
const GOOD_SECOND: usize = 30;

/// What came of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Answers that callers got, in a second.
    pub goodput: f64,
    /// Calls that reached the upstream and came to nothing.
    pub wasted: u64,
    /// Time that 99 of 100 answered calls took at most.
    pub p99: Duration,
    /// Time from the end of the outage until five seconds in a row have 30 answers each, of the 50 that the
    /// upstream allows; `None` if there are none such.
    pub recovery: Option<Duration>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recovery = self.recovery.map_or_else(
            || "never".to_owned(),
            |time| format!("{:.1} s", time.as_secs_f64()),
        );
        let p99 = format!("{:.2} s", self.p99.as_secs_f64());
        write!(
            f,
            "{:>12.1} {:>14} {p99:>10} {recovery:>16}",
            self.goodput, self.wasted
        )
    }
}

/// Runs the simulation without layers: callers that fail try again at once, `tries` times in all.
///
/// Needs a paused, single-threaded runtime.
pub async fn without(seed: u64, tries: u32) -> Report {
    let upstream = Upstream::new(seed);
    run(BoxSeam::new(upstream.clone()), &upstream, tries, seed).await
}

/// Runs the simulation with the recommended layers, which know the upstream's limit.
///
/// Needs a paused, single-threaded runtime.
///
/// # Errors
///
/// [`ConfigErrors`] if the configuration is not valid.
pub async fn with(seed: u64, config: &ProviderConfig) -> Result<Report, ConfigErrors> {
    let upstream = Upstream::new(seed);
    let service = Preset::new("upstream", config)?.layer(upstream.clone());
    Ok(run(BoxSeam::new(service), &upstream, 1, seed).await)
}

/// What the operator of such an upstream would write.
pub fn config() -> ProviderConfig {
    ProviderConfig::default()
        .with_requests_per_minute(50 * 60)
        .with_burst(10)
        .with_limit_wait(Duration::from_secs(2))
        .with_concurrency(32)
        .with_queue_length(64)
        .with_timeout(Duration::from_secs(1))
        .with_idle_timeout(Duration::from_secs(1))
        .with_reset_timeout(Duration::from_millis(500))
}

async fn run(service: impl Seam, upstream: &Upstream, tries: u32, seed: u64) -> Report {
    let start = upstream.start();
    let answers: Arc<Mutex<Vec<(Duration, Duration)>>> = Arc::default();
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (service, answers) = (service.clone(), Arc::clone(&answers));
            let random = StdRng::seed_from_u64(seed ^ (number << 32));
            tokio::spawn(caller(service, answers, start, tries, number, random))
        })
        .collect();
    sleep_until(start + LENGTH).await;
    for caller in callers {
        caller.abort();
    }
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    report(&answers, upstream.calls())
}

/// One caller: thinks a while, asks, and asks again if that fails and it was told to.
async fn caller(
    service: impl Seam,
    answers: Arc<Mutex<Vec<(Duration, Duration)>>>,
    start: Instant,
    tries: u32,
    number: u64,
    mut random: StdRng,
) -> Result<(), Error> {
    let principal = Principal::authenticated("storm", &number.to_string());
    loop {
        sleep(Duration::from_millis(random.random_range(500..1500))).await;
        let asked = Instant::now();
        for _ in 0..tries {
            let request = Request::new(Method::TOOLS_LIST, None)?.with_principal(principal.clone());
            if service.clone().oneshot(request).await.is_ok() {
                let answer = (start.elapsed(), asked.elapsed());
                answers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(answer);
                break;
            }
        }
    }
}

fn report(answers: &[(Duration, Duration)], calls: u64) -> Report {
    let in_second = |second: u64| {
        answers
            .iter()
            .filter(|(at, _)| at.as_secs() == second)
            .count()
    };
    let back = OUTAGE.1.as_secs();
    let good = |second: &u64| (*second..second + 5).all(|second| in_second(second) >= GOOD_SECOND);
    let recovered = (back..LENGTH.as_secs() - 5).find(good);
    let mut times: Vec<Duration> = answers.iter().map(|(_, took)| *took).collect();
    times.sort_unstable();
    Report {
        goodput: answers.len() as f64 / LENGTH.as_secs_f64(),
        wasted: calls.saturating_sub(answers.len() as u64),
        p99: times
            .get(times.len() * 99 / 100)
            .copied()
            .unwrap_or_default(),
        recovery: recovered.map(|second| Duration::from_secs(second - back)),
    }
}
