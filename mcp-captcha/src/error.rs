use std::{borrow::Cow, fmt, time::Duration};

use mcp_core::Amount;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a captcha was not solved.
///
/// [`kind`](Self::kind) says what happened, [`retry`](Self::retry) what may help, [`spent`](Self::spent) what it
/// may have cost all the same. Messages hold no key, no token and nothing of what a service sent but its error code.
#[derive(Debug)]
pub struct CaptchaError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: CaptchaErrorKind,
    message: Cow<'static, str>,
    service: Option<Box<str>>,
    code: Option<Box<str>>,
    retry: Option<RetryAdvice>,
    spent: Amount,
    source: Option<Source>,
}

/// What may help after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryAdvice {
    /// Nothing: the challenge itself is at fault, or a limit of ours.
    Never,
    /// The same service, after this time.
    After(Duration),
    /// Another service, or this one once its operator has done something about it.
    Elsewhere,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:literal, $retry:expr;)*) => {
        /// The kinds of [`CaptchaError`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CaptchaErrorKind {
            $($(#[$doc])* $kind,)*
        }

        impl CaptchaErrorKind {
            /// A fixed name, for metrics, logs and answers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            const fn retry(self) -> RetryAdvice {
                match self { $(Self::$kind => $retry,)* }
            }
        }
    };
}

const SOON: RetryAdvice = RetryAdvice::After(Duration::from_secs(5));
const LATER: RetryAdvice = RetryAdvice::After(Duration::from_secs(30));

kinds! {
    /// The challenge cannot be sent to any service.
    InvalidChallenge: "invalid_challenge", RetryAdvice::Never;
    /// No configured service offers this kind.
    Unsupported: "unsupported", RetryAdvice::Elsewhere;
    /// The service says that the page's parameters are wrong: site key, domain, action.
    WrongParameters: "wrong_parameters", RetryAdvice::Never;
    /// The service cannot read the picture.
    ImageRejected: "image_rejected", RetryAdvice::Never;
    /// The service does not know the account's key, or has suspended it.
    KeyRefused: "key_refused", RetryAdvice::Elsewhere;
    /// The account at the service is empty.
    NoBalance: "no_balance", RetryAdvice::Elsewhere;
    /// The service does not serve this machine's address.
    AddressRefused: "address_refused", RetryAdvice::Elsewhere;
    /// No worker is free at the price.
    NoWorker: "no_worker", SOON;
    /// The service wants fewer requests.
    Throttled: "throttled", LATER;
    /// The service is out of order.
    ServiceDown: "service_down", LATER;
    /// The workers could not solve it.
    Unsolvable: "unsolvable", RetryAdvice::Elsewhere;
    /// The proxy that was given for the worker does not work.
    ProxyFailed: "proxy_failed", RetryAdvice::Never;
    /// The service does not know the task any more.
    UnknownTask: "unknown_task", RetryAdvice::Never;
    /// The service did not record a report.
    NotRecorded: "not_recorded", RetryAdvice::Never;
    /// No answer came in time.
    Timeout: "timeout", RetryAdvice::Elsewhere;
    /// The service cannot be reached, and has not seen the task.
    Unreachable: "unreachable", RetryAdvice::Elsewhere;
    /// The connection broke: whether the service has taken the task is not known.
    Interrupted: "interrupted", RetryAdvice::Elsewhere;
    /// The service answered something that is not its protocol.
    BadAnswer: "bad_answer", RetryAdvice::Elsewhere;
    /// The service answered an error code that is not documented.
    UnknownCode: "unknown_code", RetryAdvice::Elsewhere;
    /// A limit on spending is reached; nothing was spent.
    BudgetExhausted: "budget_exhausted", RetryAdvice::Never;
    /// A limit on the rate is reached; nothing was spent.
    RateLimited: "rate_limited", RetryAdvice::Never;
    /// The operator has not allowed captchas of this site to be solved; nothing was spent.
    SiteNotAllowed: "site_not_allowed", RetryAdvice::Never;
    /// The account of what was spent cannot be read or written, so nothing is spent.
    LedgerAway: "ledger_away", LATER;
}

impl CaptchaError {
    /// Makes an error, for implementations of [`Solver`](crate::Solver).
    #[must_use]
    pub fn new(kind: CaptchaErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            service: None,
            code: None,
            retry: None,
            spent: Amount::ZERO,
            source: None,
        }))
    }

    /// Names the service.
    #[must_use]
    pub fn with_service(mut self, service: &str) -> Self {
        self.0.service = Some(service.into());
        self
    }

    /// Sets the service's own error code. Only its first 64 letters, digits and underscores are kept.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let code: String = code.chars().filter(plain).take(64).collect();
        self.0.code = Some(code.into());
        self
    }

    /// Sets what may help, if not what the kind implies.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryAdvice) -> Self {
        self.0.retry = Some(retry);
        self
    }

    /// Adds to what may have been spent without success.
    #[must_use]
    pub fn with_spent(mut self, spent: Amount) -> Self {
        self.0.spent = self.0.spent.saturating_add(spent);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> CaptchaErrorKind {
        self.0.kind
    }

    /// The service that failed.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.0.service.as_deref()
    }

    /// The error code of the service, as it documents it.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// What may help.
    #[must_use]
    pub fn retry(&self) -> RetryAdvice {
        self.0.retry.unwrap_or(self.0.kind.retry())
    }

    /// What this may have cost although nothing came of it. Zero where it is certain that nothing was spent.
    #[must_use]
    pub fn spent(&self) -> Amount {
        self.0.spent
    }
}

impl fmt::Display for CaptchaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.0.service {
            write!(f, "{service}: ")?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CaptchaError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
