use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use mcp_core::{Amount, ConfigError};
use tokio::time::Instant;

use crate::{
    Balance, CaptchaError, CaptchaErrorKind as K, Challenge, Kind, Reported, RetryAdvice, Solution,
    Solver, Verdict,
};

/// How long a service whose account is at fault is passed over.
const PASS_OVER: Duration = Duration::from_secs(60);
/// How much the newest outcome weighs in the success rate.
const WEIGHT: f64 = 0.1;

/// Which service is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preference {
    /// In the order given.
    #[default]
    Order,
    /// The cheapest for the kind.
    Price,
    /// The one with the best rate of success for the kind, as seen lately. Who was not asked yet counts as good.
    SuccessRate,
}

/// Several services, one behind another.
///
/// 1. Services that do not offer the kind, or whose account was refused in the last minute, are passed over.
/// 2. The next service is asked after an error for which another service may do better; an error that lies in the
///    challenge is returned at once.
/// 3. What failed attempts cost is added to what the solution, or the last error, says was spent. No further
///    service is asked once that exceeds the limit ([`Failover::with_max_spent`]).
#[derive(Debug)]
pub struct Failover {
    name: String,
    solvers: Vec<Arc<dyn Solver>>,
    preference: Preference,
    max_spent: Option<Amount>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    rates: HashMap<(usize, Kind), f64>,
    passed_over: HashMap<usize, Instant>,
}

impl Failover {
    /// Puts services behind one another.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if there is none, or two have one name.
    pub fn new(solvers: Vec<Arc<dyn Solver>>, preference: Preference) -> Result<Self, ConfigError> {
        let mut names: Vec<&str> = solvers.iter().map(|solver| solver.name()).collect();
        names.sort_unstable();
        let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
        if names.is_empty() || twice {
            return Err(ConfigError::new(
                "solvers",
                names.join(", "),
                "give at least one, each with a name of its own",
            ));
        }
        Ok(Self {
            name: names.join("+"),
            solvers,
            preference,
            max_spent: None,
            seen: Mutex::default(),
        })
    }

    /// Asks no further service once failed attempts have cost more than this. Default is no limit.
    #[must_use]
    pub fn with_max_spent(mut self, most: Amount) -> Self {
        self.max_spent = Some(most);
        self
    }

    fn order(&self, kind: Kind, now: Instant) -> Vec<usize> {
        let mut seen = self.lock();
        seen.passed_over.retain(|_, until| *until > now);
        let mut order: Vec<usize> = (0..self.solvers.len())
            .filter(|index| self.solvers[*index].price(kind).is_some())
            .filter(|index| !seen.passed_over.contains_key(index))
            .collect();
        match self.preference {
            Preference::Order => {}
            Preference::Price => order.sort_by_key(|index| self.solvers[*index].price(kind)),
            Preference::SuccessRate => {
                let rate = |index: &usize| seen.rates.get(&(*index, kind)).copied().unwrap_or(1.0);
                order.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
            }
        }
        order
    }

    fn note(
        &self,
        index: usize,
        kind: Kind,
        result: &Result<Solution, CaptchaError>,
        now: Instant,
    ) {
        let mut seen = self.lock();
        let rate = seen.rates.entry((index, kind)).or_insert(1.0);
        *rate += WEIGHT * (f64::from(u8::from(result.is_ok())) - *rate);
        let Err(error) = result else { return };
        if matches!(
            error.kind(),
            K::KeyRefused | K::NoBalance | K::AddressRefused
        ) {
            seen.passed_over.insert(index, now + PASS_OVER);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Solver for Failover {
    fn name(&self) -> &str {
        &self.name
    }

    /// The sum of all that offer the kind: each may be paid before the last one solves it.
    fn price(&self, kind: Kind) -> Option<Amount> {
        let prices = self.solvers.iter().filter_map(|solver| solver.price(kind));
        prices.reduce(Amount::saturating_add)
    }

    async fn solve(&self, challenge: &Challenge) -> Result<Solution, CaptchaError> {
        challenge.check()?;
        let kind = challenge.kind();
        let started = Instant::now();
        let mut spent = Amount::ZERO;
        let mut last = None;
        for index in self.order(kind, started) {
            if last.is_some() && self.max_spent.is_some_and(|most| spent > most) {
                break;
            }
            let result = self.solvers[index].solve(challenge).await;
            self.note(index, kind, &result, Instant::now());
            match result {
                Ok(mut solution) => {
                    solution.spent = solution.spent.saturating_add(spent);
                    solution.took = started.elapsed();
                    return Ok(solution);
                }
                Err(error) if error.retry() == RetryAdvice::Never => {
                    return Err(error.with_spent(spent));
                }
                Err(error) => {
                    tracing::info!(service = ?error.service(), kind = error.kind().name(), "a captcha service failed");
                    spent = spent.saturating_add(error.spent());
                    last = Some(error);
                }
            }
        }
        Err(match last {
            Some(error) => {
                let own = error.spent();
                error.with_spent(spent.saturating_sub(own))
            }
            None => CaptchaError::new(
                K::Unsupported,
                format!(
                    "no configured service offers {kind}, or all were refused within the last minute"
                ),
            ),
        })
    }

    async fn balance(&self) -> Result<Vec<Balance>, CaptchaError> {
        let answers = join_all(self.solvers.iter().map(|solver| solver.balance())).await;
        let mut balances = Vec::new();
        let mut failed = None;
        for answer in answers {
            match answer {
                Ok(mut found) => balances.append(&mut found),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if balances.is_empty() => Err(error),
            _ => Ok(balances),
        }
    }

    async fn report(
        &self,
        solution: &Solution,
        verdict: Verdict,
    ) -> Result<Reported, CaptchaError> {
        let found = self
            .solvers
            .iter()
            .enumerate()
            .find(|(_, solver)| solver.name() == solution.service);
        let Some((index, solver)) = found else {
            return Err(CaptchaError::new(
                K::UnknownTask,
                "the solution is no configured service's",
            ));
        };
        if verdict == Verdict::Incorrect {
            // It counted as a success when it was delivered.
            let mut seen = self.lock();
            let rate = seen.rates.entry((index, solution.kind)).or_insert(1.0);
            *rate -= WEIGHT * *rate;
        }
        solver.report(solution, verdict).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TaskId, TokenChallenge};

    #[derive(Debug)]
    struct Fake {
        name: &'static str,
        price: u64,
        fails: Option<K>,
        calls: std::sync::atomic::AtomicU32,
    }

    #[async_trait]
    impl Solver for Fake {
        fn name(&self) -> &str {
            self.name
        }
        fn price(&self, _: Kind) -> Option<Amount> {
            Some(Amount::micros(self.price))
        }
        async fn solve(&self, challenge: &Challenge) -> Result<Solution, CaptchaError> {
            self.calls
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match self.fails {
                Some(kind) => Err(CaptchaError::new(kind, "no")
                    .with_service(self.name)
                    .with_spent(Amount::micros(self.price))),
                None => {
                    let mut solution =
                        Solution::new(challenge.kind(), "token", self.name, TaskId::Number(1));
                    solution.spent = Amount::micros(self.price);
                    Ok(solution)
                }
            }
        }
        async fn balance(&self) -> Result<Vec<Balance>, CaptchaError> {
            Ok(vec![Balance::new(self.name, Amount::units(1))])
        }
        async fn report(&self, _: &Solution, _: Verdict) -> Result<Reported, CaptchaError> {
            Ok(Reported::Recorded)
        }
    }

    fn fake(name: &'static str, price: u64, fails: Option<K>) -> Arc<Fake> {
        Arc::new(Fake {
            name,
            price,
            fails,
            calls: 0.into(),
        })
    }

    fn challenge() -> Challenge {
        TokenChallenge::new(Kind::Turnstile, "0x4AAAAAAA", "https://a.example/").into()
    }

    fn over(solvers: &[Arc<Fake>], preference: Preference) -> Failover {
        let solvers = solvers
            .iter()
            .map(|fake| Arc::clone(fake) as Arc<dyn Solver>)
            .collect();
        Failover::new(solvers, preference).unwrap()
    }

    #[tokio::test]
    async fn the_next_is_asked_and_what_failed_is_counted() {
        let solvers = [fake("a", 7, Some(K::Unsolvable)), fake("b", 2, None)];
        let failover = over(&solvers, Preference::Order);
        let solution = failover.solve(&challenge()).await.unwrap();
        assert_eq!(
            (solution.service.as_str(), solution.spent),
            ("b", Amount::micros(9))
        );
        assert_eq!(failover.price(Kind::Turnstile), Some(Amount::micros(9)));
        let cheapest = over(&solvers, Preference::Price)
            .solve(&challenge())
            .await
            .unwrap();
        assert_eq!(cheapest.spent, Amount::micros(2));
        let limited = over(
            &[fake("a", 7, Some(K::Unsolvable)), fake("b", 2, None)],
            Preference::Order,
        )
        .with_max_spent(Amount::micros(6));
        assert_eq!(
            limited.solve(&challenge()).await.unwrap_err().spent(),
            Amount::micros(7)
        );
    }

    #[tokio::test]
    async fn an_error_of_the_challenge_ends_it() {
        let solvers = [fake("a", 1, Some(K::WrongParameters)), fake("b", 1, None)];
        let error = over(&solvers, Preference::Order)
            .solve(&challenge())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), K::WrongParameters);
        assert_eq!(
            solvers[1].calls.load(std::sync::atomic::Ordering::Relaxed),
            0
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_account_is_passed_over_for_a_minute() {
        let solvers = [fake("a", 1, Some(K::NoBalance)), fake("b", 1, None)];
        let failover = over(&solvers, Preference::Order);
        for _ in 0..3 {
            failover.solve(&challenge()).await.unwrap();
        }
        let calls = || solvers[0].calls.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(calls(), 1);
        tokio::time::advance(PASS_OVER).await;
        failover.solve(&challenge()).await.unwrap();
        assert_eq!(calls(), 2);
    }

    #[tokio::test]
    async fn who_succeeds_is_asked_first() {
        let solvers = [fake("a", 1, Some(K::Unsolvable)), fake("b", 1, None)];
        let failover = over(&solvers, Preference::SuccessRate);
        for _ in 0..5 {
            failover.solve(&challenge()).await.unwrap();
        }
        assert_eq!(
            solvers[0].calls.load(std::sync::atomic::Ordering::Relaxed),
            1
        );
        let bad = failover.solve(&challenge()).await.unwrap();
        for _ in 0..9 {
            failover.report(&bad, Verdict::Incorrect).await.unwrap();
        }
        assert_eq!(
            failover.order(Kind::Turnstile, Instant::now())[0],
            0,
            "tokens that sites refuse count"
        );
    }

    #[test]
    fn names_are_unique() {
        assert!(Failover::new(Vec::new(), Preference::Order).is_err());
        let twice: Vec<Arc<dyn Solver>> = vec![fake("a", 1, None), fake("a", 1, None)];
        assert!(Failover::new(twice, Preference::Order).is_err());
    }
}
