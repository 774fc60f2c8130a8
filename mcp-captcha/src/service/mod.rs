//! The services: one client, and what differs between them as data.

mod calls;
mod profile;
mod tasks;
pub(crate) mod wire;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use mcp_core::{Amount, ConfigError, http_client::HttpClient, secret::Secret};
use tokio::{sync::Semaphore, time::Instant};

use self::profile::Profile;
pub use self::profile::Vendor;
use self::wire::{Answer, Status};
use crate::{
    Balance, CaptchaError, CaptchaErrorKind, Challenge, Kind, Polling, Reported, RetryAdvice,
    Solution, Solver, TaskId, Verdict, codes,
};

/// How many requests to one service may be on the wire at once.
const IN_FLIGHT: usize = 64;
/// How often a task is offered again to a service that has no worker free.
const OFFERS: u32 = 3;
/// How old an answer about the balance may be. Anti-Captcha asks for no more than one question in 30 s.
const BALANCE_AGE: Duration = Duration::from_secs(30);
/// How long a service that refused the key or the address is left alone: they ban who keeps on asking.
const LEAVE_ALONE: Duration = Duration::from_secs(60);

/// A client of 2Captcha, Anti-Captcha, CapSolver or a service that speaks as one of them.
///
/// 1. A challenge that no service would take is refused before anything is sent.
/// 2. `createTask` is sent once. It is repeated only after the service has said that it took no task (no worker
///    free, too many requests), never after a broken connection: that could buy the solution twice.
/// 3. `getTaskResult` is asked as often as the service states, and no more. A query that fails on the way counts.
/// 4. A service that refuses the key or the address is left alone for a minute.
///
/// Clones share everything. At most 64 requests are on the wire at once, however many solves are in flight.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use mcp_captcha::{VendorClient, Vendor};
/// use mcp_core::{http_client::GuardedClient, secret::Secret};
///
/// let http = Arc::new(GuardedClient::builder().build()?);
/// let service = VendorClient::new(Vendor::CapSolver, http, Secret::new("CAP-..."));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct VendorClient(Arc<Inner>);

#[derive(Clone)]
struct Config {
    name: String,
    base: String,
    profile: &'static Profile,
    key: Secret,
    polling: Option<Polling>,
    prices: [Option<Amount>; 5],
}

struct Inner {
    config: Config,
    http: Arc<dyn HttpClient>,
    wire: Semaphore,
    balance: tokio::sync::Mutex<Option<(Instant, Amount)>>,
    refused: Mutex<Option<(Instant, CaptchaErrorKind, String)>>,
}

impl VendorClient {
    /// Makes a client with an account's key. The HTTP client must be allowed to reach the service's host.
    #[must_use]
    pub fn new(vendor: Vendor, http: Arc<dyn HttpClient>, key: Secret) -> Self {
        let profile = profile::of(vendor);
        Self::with(
            Config {
                name: profile.name.to_owned(),
                base: profile.base.to_owned(),
                profile,
                key,
                polling: None,
                prices: profile.prices,
            },
            http,
        )
    }

    fn with(config: Config, http: Arc<dyn HttpClient>) -> Self {
        Self(Arc::new(Inner {
            config,
            http,
            wire: Semaphore::new(IN_FLIGHT),
            balance: tokio::sync::Mutex::default(),
            refused: Mutex::default(),
        }))
    }

    fn change(self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.0.config.clone();
        change(&mut config);
        Self::with(config, Arc::clone(&self.0.http))
    }

    /// Gives the service a name of its own. Default is the vendor's.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        self.change(|config| config.name = name.to_owned())
    }

    /// Talks to a compatible service at another address.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is not an absolute `http` or `https` address.
    pub fn with_base_url(self, base: &str) -> Result<Self, ConfigError> {
        let valid = base.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none()
        });
        if !valid {
            return Err(ConfigError::new(
                "base_url",
                base,
                "give an absolute http or https address without a query",
            ));
        }
        let base = format!("{}/", base.trim_end_matches('/'));
        Ok(self.change(|config| config.base = base))
    }

    /// Asks for results at other times.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if that is sooner or more often than the vendor states, at the vendor's address.
    pub fn with_polling(self, polling: Polling) -> Result<Self, ConfigError> {
        let profile = self.0.config.profile;
        if self.0.config.base == profile.base && !polling.is_gentler_than(&profile.polling) {
            return Err(ConfigError::new(
                "polling",
                format!("{polling:?}"),
                "ask no sooner and no more often than the service states",
            ));
        }
        Ok(self.change(|config| config.polling = Some(polling)))
    }

    /// Sets what one solve of a kind may cost, or (`None`) that the kind is not bought here.
    ///
    /// The defaults are rough and meant to be replaced by what your account pays.
    #[must_use]
    pub fn with_price(self, kind: Kind, price: Option<Amount>) -> Self {
        self.change(|config| config.prices[kind as usize] = price)
    }

    /// When results are asked for.
    #[must_use]
    pub fn polling(&self) -> Polling {
        self.0
            .config
            .polling
            .unwrap_or(self.0.config.profile.polling)
    }

    fn fail(
        &self,
        kind: CaptchaErrorKind,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> CaptchaError {
        CaptchaError::new(kind, message).with_service(&self.0.config.name)
    }

    /// Sends the task until the service takes it, at most [`OFFERS`] times.
    async fn create(&self, challenge: &Challenge, price: Amount) -> Result<Answer, CaptchaError> {
        let body = tasks::create(self.0.config.profile, challenge).ok_or_else(|| {
            self.fail(
                CaptchaErrorKind::Unsupported,
                "this combination of kind and options is not offered",
            )
        })?;
        let mut offers = 1;
        loop {
            let error = match self.post("createTask", &body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let RetryAdvice::After(wait) = error.retry() else {
                return Err(match error.kind() {
                    // The service may have taken the task before the connection broke.
                    CaptchaErrorKind::Interrupted
                    | CaptchaErrorKind::BadAnswer
                    | CaptchaErrorKind::Timeout => error.with_spent(price),
                    _ => error,
                });
            };
            if offers == OFFERS {
                return Err(error.with_retry(RetryAdvice::Elsewhere));
            }
            offers += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for the result until it is there.
    async fn wait(
        &self,
        task: &TaskId,
        created: Instant,
        price: Amount,
    ) -> Result<Answer, CaptchaError> {
        let polling = self.polling();
        let (mut asked, mut last) = (0, None::<CaptchaError>);
        while let Some(wait) = polling.next(asked, created.elapsed()) {
            tokio::time::sleep(wait).await;
            asked += 1;
            let body = serde_json::json!({ "taskId": task });
            match self.post("getTaskResult", &body).await {
                Ok(answer) if answer.status == Some(Status::Ready) => return Ok(answer),
                Ok(answer) if answer.status == Some(Status::Unknown) => {
                    let message = "the service ended the task in a state that it does not document";
                    let error = self.fail(CaptchaErrorKind::UnknownCode, message);
                    return Err(self.charge(error, price));
                }
                Ok(_) => last = None,
                Err(error) if is_passing(error.kind()) => last = Some(error),
                Err(error) => return Err(self.charge(error, price)),
            }
        }
        let seconds = polling.limit().as_secs();
        let error = self.fail(
            CaptchaErrorKind::Timeout,
            format!("no solution within {seconds} s and {asked} queries"),
        );
        Err(match last {
            Some(last) => error.with_source(last),
            None => error,
        }
        .with_spent(price))
    }

    /// Adds what a task that came to nothing cost, by what the vendor says about refunds.
    fn charge(&self, error: CaptchaError, price: Amount) -> CaptchaError {
        match error.kind() {
            CaptchaErrorKind::Unsolvable if self.0.config.profile.refunds_unsolvable => error,
            _ => error.with_spent(price),
        }
    }

    fn solution(
        &self,
        challenge: &Challenge,
        task: TaskId,
        answer: &Answer,
        price: Amount,
    ) -> Result<Solution, CaptchaError> {
        let name = &self.0.config.name;
        let Some(text) = answer.solution_text() else {
            return Err(self
                .fail(
                    CaptchaErrorKind::BadAnswer,
                    "the task is ready but the answer has no solution",
                )
                .with_spent(answer.cost.unwrap_or(price)));
        };
        let mut solution = Solution::new(challenge.kind(), text, name, task);
        solution.spent = answer.cost.unwrap_or(price);
        solution.cost_is_reported = answer.cost.is_some();
        solution.user_agent = answer.user_agent();
        if solution.spent > price {
            tracing::warn!(service = %name, kind = %solution.kind, cost = %solution.spent, %price, "a solve cost more than configured");
        }
        Ok(solution)
    }
}

/// Whether the next query may do better although this one failed.
fn is_passing(kind: CaptchaErrorKind) -> bool {
    use CaptchaErrorKind as K;
    matches!(
        kind,
        K::Interrupted | K::Unreachable | K::Timeout | K::Throttled | K::ServiceDown | K::BadAnswer
    )
}

#[async_trait]
impl Solver for VendorClient {
    fn name(&self) -> &str {
        &self.0.config.name
    }

    fn price(&self, kind: Kind) -> Option<Amount> {
        self.0.config.prices[kind as usize]
    }

    async fn solve(&self, challenge: &Challenge) -> Result<Solution, CaptchaError> {
        challenge.check()?;
        let price = self.price(challenge.kind()).ok_or_else(|| {
            self.fail(
                CaptchaErrorKind::Unsupported,
                "this kind is not bought here",
            )
        })?;
        let created = Instant::now();
        let mut answer = self.create(challenge, price).await?;
        let done = answer.status == Some(Status::Ready);
        let task = match (answer.task_id.take(), done) {
            (Some(task), _) => task,
            (None, true) => TaskId::Text(String::new()),
            (None, false) => {
                return Err(self
                    .fail(
                        CaptchaErrorKind::BadAnswer,
                        "the service took a task and named no id",
                    )
                    .with_spent(price));
            }
        };
        if !done {
            answer = self.wait(&task, created, price).await?;
        }
        let mut solution = self.solution(challenge, task, &answer, price)?;
        solution.took = created.elapsed();
        Ok(solution)
    }

    async fn balance(&self) -> Result<Vec<Balance>, CaptchaError> {
        // Held while asking: who comes meanwhile gets the same answer.
        let mut known = self.0.balance.lock().await;
        if let Some((asked, amount)) = *known
            && asked.elapsed() < BALANCE_AGE
        {
            return Ok(vec![Balance::new(self.name(), amount)]);
        }
        let answer = self.post("getBalance", &serde_json::json!({})).await?;
        let amount = answer
            .balance
            .ok_or_else(|| self.fail(CaptchaErrorKind::BadAnswer, "the answer has no balance"))?;
        *known = Some((Instant::now(), amount));
        Ok(vec![Balance::new(self.name(), amount)])
    }

    async fn report(
        &self,
        solution: &Solution,
        verdict: Verdict,
    ) -> Result<Reported, CaptchaError> {
        if solution.service != self.name() {
            return Err(self.fail(
                CaptchaErrorKind::UnknownTask,
                "the solution is another service's",
            ));
        }
        let Some((method, body)) = tasks::report(self.0.config.profile, solution, verdict) else {
            return Ok(Reported::NotOffered);
        };
        self.post(method, &body).await?;
        Ok(Reported::Recorded)
    }
}

impl VendorClient {
    /// Refuses to ask a service that has refused the account a short while ago.
    fn check_refused(&self) -> Result<(), CaptchaError> {
        let refused = self
            .0
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*refused {
            Some((since, _, code)) if since.elapsed() < LEAVE_ALONE => {
                Err(codes::error(self.name(), code).with_retry(RetryAdvice::Elsewhere))
            }
            _ => Ok(()),
        }
    }

    fn note_refusal(&self, error: &CaptchaError) {
        use CaptchaErrorKind as K;
        if let (K::KeyRefused | K::AddressRefused, Some(code)) = (error.kind(), error.code()) {
            let mut refused = self
                .0
                .refused
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *refused = Some((Instant::now(), error.kind(), code.to_owned()));
        }
    }
}

impl fmt::Debug for VendorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorClient")
            .field("name", &self.0.config.name)
            .field("base", &self.0.config.base)
            .finish_non_exhaustive()
    }
}
