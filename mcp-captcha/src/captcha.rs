use std::{fmt, sync::Arc, time::SystemTime};

use mcp_core::{
    Account, Amount, AuditEvent, AuditOutcome, AuditSink, Budget, ErrorKind, Principal,
    clock::{SystemWallClock, WallClock},
};

use crate::{
    Balance, CaptchaError, CaptchaErrorKind, Challenge, Reported, Sites, Solution, Solver,
    Spending, Verdict,
};

/// Solves captchas for principals: on the sites that the operator may automate, and within what may be spent.
///
/// 1. A page that is not among the allowed [`Sites`] is refused. Default is that none is.
/// 2. What the solve may cost is set aside in [`Spending`], and in a [`Budget`] if there is one. Where it does not
///    fit the solve is refused; nothing has been sent then.
/// 3. The solver is asked; what it says was spent is booked, also when it failed.
/// 4. Every solve is audited, refused ones included, without key, token or picture.
///
/// Clones share everything.
#[derive(Clone)]
pub struct Captcha(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    solver: Arc<dyn Solver>,
    sites: Sites,
    spending: Option<Spending>,
    budget: Option<Arc<dyn Budget>>,
    audit: Option<Arc<dyn AuditSink>>,
    clock: Arc<dyn WallClock>,
}

impl Captcha {
    /// Puts a solver behind the rules. No site is allowed yet, and no limit set.
    #[must_use]
    pub fn new(solver: Arc<dyn Solver>) -> Self {
        Self(Arc::new(Inner {
            solver,
            sites: Sites::none(),
            spending: None,
            budget: None,
            audit: None,
            clock: Arc::new(SystemWallClock::new()),
        }))
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets the sites whose captchas may be solved.
    #[must_use]
    pub fn with_sites(self, sites: Sites) -> Self {
        self.change(|inner| inner.sites = sites)
    }

    /// Keeps account of what is spent, within limits.
    #[must_use]
    pub fn with_spending(self, spending: Spending) -> Self {
        self.change(|inner| inner.spending = Some(spending))
    }

    /// Spends from a budget shared with other services; the account's service is `captcha`, a unit is a US dollar.
    #[must_use]
    pub fn with_budget(self, budget: Arc<dyn Budget>) -> Self {
        self.change(|inner| inner.budget = Some(budget))
    }

    /// Records every solve. A solve whose record fails is still returned: it has been paid.
    #[must_use]
    pub fn with_audit(self, audit: Arc<dyn AuditSink>) -> Self {
        self.change(|inner| inner.audit = Some(audit))
    }

    /// The sites whose captchas may be solved.
    #[must_use]
    pub fn sites(&self) -> &Sites {
        &self.0.sites
    }

    /// What has been spent, where account is kept.
    #[must_use]
    pub fn spending(&self) -> Option<&Spending> {
        self.0.spending.as_ref()
    }

    /// Solves one captcha.
    ///
    /// # Errors
    ///
    /// [`CaptchaError`]. Of the kinds `SiteNotAllowed`, `BudgetExhausted`, `RateLimited` and `LedgerAway` nothing
    /// was sent.
    ///
    /// # Cancel safety
    ///
    /// A dropped future stops waiting; what was set aside is booked in full, since the service charges it.
    pub async fn solve(
        &self,
        principal: &Principal,
        challenge: &Challenge,
    ) -> Result<Solution, CaptchaError> {
        let started = self.0.clock.now();
        let result = self.governed(principal, challenge).await;
        self.record(principal, challenge, started, &result).await;
        result
    }

    async fn governed(
        &self,
        principal: &Principal,
        challenge: &Challenge,
    ) -> Result<Solution, CaptchaError> {
        let inner = &*self.0;
        challenge.check()?;
        if let Some(page) = challenge.page_url() {
            inner.sites.check(page)?;
        }
        let kind = challenge.kind();
        let price = inner.solver.price(kind).ok_or_else(|| {
            CaptchaError::new(
                CaptchaErrorKind::Unsupported,
                format!("no configured service offers {kind}"),
            )
        })?;
        let owner = principal.partition();
        let held = match &inner.spending {
            Some(spending) => Some((spending, spending.reserve(owner, price).await?)),
            None => None,
        };
        let reserved = match &inner.budget {
            Some(budget) => match budget.reserve(&Account::new(owner, "captcha"), price).await {
                Ok(reservation) => Some((budget, reservation)),
                Err(error) => {
                    if let Some((spending, held)) = held {
                        spending.settle(held, Amount::ZERO).await?;
                    }
                    return Err(budget_error(error));
                }
            },
            None => None,
        };
        let result = inner.solver.solve(challenge).await;
        let spent = match &result {
            Ok(solution) => solution.spent,
            Err(error) => error.spent(),
        };
        if let Some((spending, held)) = held
            && let Err(error) = spending.settle(held, spent).await
        {
            tracing::error!(%error, %spent, "what a captcha cost is not booked yet");
        }
        if let Some((budget, reservation)) = reserved
            && let Err(error) = budget.settle(reservation, spent).await
        {
            tracing::error!(%error, %spent, "what a captcha cost is not booked yet");
        }
        result
    }

    /// What is left at each service.
    ///
    /// # Errors
    ///
    /// [`CaptchaError`] if no service answers.
    pub async fn balance(&self) -> Result<Vec<Balance>, CaptchaError> {
        self.0.solver.balance().await
    }

    /// Tells the service whether its answer was right.
    ///
    /// # Errors
    ///
    /// [`CaptchaError`] if the report did not arrive or was not recorded.
    pub async fn report(
        &self,
        solution: &Solution,
        verdict: Verdict,
    ) -> Result<Reported, CaptchaError> {
        self.0.solver.report(solution, verdict).await
    }

    async fn record(
        &self,
        principal: &Principal,
        challenge: &Challenge,
        started: SystemTime,
        result: &Result<Solution, CaptchaError>,
    ) {
        let Some(audit) = &self.0.audit else { return };
        let now = self.0.clock.now();
        let outcome = match result {
            Ok(_) => AuditOutcome::Succeeded,
            Err(error) => match error.kind() {
                kind @ (CaptchaErrorKind::SiteNotAllowed
                | CaptchaErrorKind::BudgetExhausted
                | CaptchaErrorKind::RateLimited) => AuditOutcome::Denied(kind.name().into()),
                kind => AuditOutcome::Failed(kind.name().into()),
            },
        };
        let mut event = AuditEvent::new(now, principal.clone(), "captcha.solve", outcome);
        let site = challenge
            .page_url()
            .and_then(crate::sites::origin)
            .unwrap_or_default();
        event.target = Some(format!("{} {site}", challenge.kind()).trim_end().into());
        event.duration = now.duration_since(started).ok();
        if let Err(error) = audit.record(&event).await {
            tracing::error!(%error, "a captcha solve could not be audited");
        }
    }
}

fn budget_error(error: mcp_core::Error) -> CaptchaError {
    let kind = match error.kind() {
        ErrorKind::BudgetExhausted => CaptchaErrorKind::BudgetExhausted,
        _ => CaptchaErrorKind::LedgerAway,
    };
    CaptchaError::new(kind, error.message().to_owned()).with_source(error)
}

impl fmt::Debug for Captcha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captcha")
            .field("solver", &self.0.solver)
            .field("sites", &self.0.sites)
            .finish_non_exhaustive()
    }
}
