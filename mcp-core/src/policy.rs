use std::{borrow::Cow, fmt};

use async_trait::async_trait;

use crate::{Error, Json, Principal, Request, Visibility};

/// Decides whether a call is allowed, and what a principal may see.
///
/// # Security
///
/// Fail closed: an error refuses the call.
#[async_trait]
pub trait PolicyEngine: Send + Sync + 'static {
    /// Decides about a call, without making it.
    ///
    /// # Errors
    ///
    /// No decision could be reached. The call is refused.
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error>;

    /// Returns which entries of lists a principal may see. Must agree with [`PolicyEngine::decide`].
    fn visibility(&self, principal: &Principal) -> Visibility;
}

/// What a policy says about a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PolicyDecision {
    /// The call is allowed.
    Allow(Verdict),
    /// The call is allowed with other parameters.
    Modify(Verdict, Json),
    /// Refuse.
    Deny(Verdict),
    /// Refuse until the credential grants these scopes (RFC 6750, section 3.1, `insufficient_scope`).
    NeedScopes(Verdict, Vec<String>),
}

/// Why a policy decided as it did.
#[derive(Clone, PartialEq, Eq)]
pub struct Verdict {
    rule: Cow<'static, str>,
    reason: Cow<'static, str>,
}

impl Verdict {
    /// Names the rule that decided, and the reason in words that the caller may read.
    pub fn new(rule: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            rule: rule.into(),
            reason: reason.into(),
        }
    }

    /// Returns the rule that decided.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Returns the reason, in words that the caller may read.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.reason)
    }
}

impl PolicyDecision {
    /// Returns whether the call is allowed.
    #[must_use]
    pub fn allows(&self) -> bool {
        matches!(self, Self::Allow(_) | Self::Modify(..))
    }

    /// Returns why.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        match self {
            Self::Allow(verdict)
            | Self::Modify(verdict, _)
            | Self::Deny(verdict)
            | Self::NeedScopes(verdict, _) => verdict,
        }
    }
}
