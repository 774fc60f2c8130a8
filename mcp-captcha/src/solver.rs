use std::{fmt, time::Duration};

use async_trait::async_trait;
use mcp_core::Amount;

use crate::{CaptchaError, Challenge, Kind};

/// Solves captchas: one service, or several behind one another.
///
/// # Cancel safety
///
/// Dropping a future of [`solve`](Self::solve) stops waiting; the service finishes, and charges, all the same.
#[async_trait]
pub trait Solver: fmt::Debug + Send + Sync + 'static {
    /// The name, unique among the configured solvers.
    fn name(&self) -> &str;

    /// What one solve may cost at most, in US dollars; `None` where the kind is not offered.
    fn price(&self, kind: Kind) -> Option<Amount>;

    /// Solves one captcha.
    ///
    /// # Errors
    ///
    /// [`CaptchaError`], which tells what may help and what was spent without success.
    async fn solve(&self, challenge: &Challenge) -> Result<Solution, CaptchaError>;

    /// What is left at each service. Answers may be up to 30 s old: services ban who asks more often.
    ///
    /// # Errors
    ///
    /// [`CaptchaError`] if no service answers.
    async fn balance(&self) -> Result<Vec<Balance>, CaptchaError>;

    /// Tells the service whether its answer was right.
    ///
    /// # Errors
    ///
    /// [`CaptchaError`] if the report did not arrive or was not recorded.
    async fn report(&self, solution: &Solution, verdict: Verdict)
    -> Result<Reported, CaptchaError>;
}

/// A solved captcha.
#[derive(Clone)]
#[non_exhaustive]
pub struct Solution {
    /// The text on the picture, or the token.
    pub answer: String,
    /// What was solved.
    pub kind: Kind,
    /// Which service solved it.
    pub service: String,
    /// The service's id of the task.
    pub task: TaskId,
    /// What was spent, failed attempts at other services included.
    pub spent: Amount,
    /// Whether the service itself named the cost; otherwise it is the configured price.
    pub cost_is_reported: bool,
    /// The user agent that the token has to be used with, where the service says so.
    pub user_agent: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Solution {
    /// Describes a solution, for implementations of [`Solver`].
    #[must_use]
    pub fn new(kind: Kind, answer: impl Into<String>, service: &str, task: TaskId) -> Self {
        Self {
            answer: answer.into(),
            kind,
            service: service.to_owned(),
            task,
            spent: Amount::ZERO,
            cost_is_reported: false,
            user_agent: None,
            took: Duration::ZERO,
        }
    }
}

impl fmt::Debug for Solution {
    /// Leaves the answer out: a token is as good as a password for a while.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Solution")
            .field("kind", &self.kind)
            .field("service", &self.service)
            .field("task", &self.task)
            .field("spent", &self.spent)
            .field("took", &self.took)
            .finish_non_exhaustive()
    }
}

/// The id of a task at a service: a number at some, a text at others. It is sent back as it came.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum TaskId {
    /// 2Captcha and Anti-Captcha.
    Number(u64),
    /// CapSolver.
    Text(String),
}

/// What is left at a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Balance {
    /// The service.
    pub service: String,
    /// Money, in US dollars. A negative balance reads as nothing.
    pub amount: Amount,
}

impl Balance {
    /// States a balance, for implementations of [`Solver`].
    #[must_use]
    pub fn new(service: &str, amount: Amount) -> Self {
        Self {
            service: service.to_owned(),
            amount,
        }
    }
}

/// Whether an answer was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The site took it.
    Correct,
    /// The site refused it.
    Incorrect,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reported {
    /// The service took it.
    Recorded,
    /// The service has no such report for this kind.
    NotOffered,
}
