use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use mcp_core::{Error, ErrorClass, ErrorKind, Json, RpcCode};

use super::Quota;

/// Why a limit refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    limit: Arc<str>,
    quota: Quota,
    wait: Option<Duration>,
}

impl Refusal {
    pub(crate) const fn new(limit: Arc<str>, quota: Quota, wait: Option<Duration>) -> Self {
        Self { limit, quota, wait }
    }

    /// The limit's name.
    #[must_use]
    pub fn limit(&self) -> &str {
        &self.limit
    }

    /// The limit's quota.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// After which time the same call will be allowed if no other is made; `None` is never, because the call
    /// costs more than the burst.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// The error as SEP-3304 (a draft) has it.
    pub(super) fn draft(&self) -> Error {
        let data = serde_json::json!({
            "kind": ErrorKind::RateLimited.name(),
            "name": *self.limit,
            "limit": self.quota.count(),
            "remaining": 0,
            "windowMs": millis(self.quota.window()),
            "retryAfterMs": self.wait.map(millis),
        });
        Error::from(self)
            .with_code(RpcCode::DRAFT_RATE_LIMIT)
            .with_data(Json::from(data))
    }

    pub(super) fn is_longer_than(&self, other: &Self) -> bool {
        match (self.wait, other.wait) {
            (None, other) => other.is_some(),
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => mine > theirs,
        }
    }

    /// The HTTP headers that tell the caller (RFC 9110, section 10.2.3, and
    /// draft-ietf-httpapi-ratelimit-headers-11).
    pub(crate) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let retry = self
            .wait
            .map(|wait| (RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
        let wait = self.wait.map_or(0, whole_seconds);
        retry
            .into_iter()
            .chain(fields(&self.limit, self.quota, 0, Some(wait)))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, window) = (self.quota.count(), self.quota.window());
        let burst = self.quota.burst();
        write!(
            f,
            "rate limit {:?} of {count} calls in {window:?}, at most {burst} at once, is used up; ",
            self.limit
        )?;
        match self.wait {
            Some(wait) => write!(f, "try again in {} s and not before", whole_seconds(wait)),
            None => write!(
                f,
                "this call costs more than the limit ever allows at once, so do not try it again"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<&Refusal> for Error {
    fn from(refusal: &Refusal) -> Self {
        let mut data = serde_json::json!({
            "kind": ErrorKind::RateLimited.name(),
            "limit": *refusal.limit,
            "quota": refusal.quota.count(),
            "windowMs": millis(refusal.quota.window()),
        });
        let mut error = Self::new(ErrorKind::RateLimited, refusal.to_string());
        match refusal.wait {
            Some(wait) => {
                data["retryAfterMs"] = millis(wait).into();
                error = error.with_retry_after(wait);
            }
            None => error = error.with_class(ErrorClass::Permanent),
        }
        for (name, value) in refusal.headers() {
            error = error.with_header(name, value);
        }
        error.with_data(Json::from(data))
    }
}

/// The `RateLimit-Policy` and `RateLimit` fields for one limit.
pub(super) fn fields(
    limit: &str,
    quota: Quota,
    remaining: u32,
    wait: Option<u64>,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let name: String = limit
        .chars()
        .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
        .collect();
    let window = whole_seconds(quota.window());
    let policy = format!("\"{name}\";q={};w={window}", quota.count());
    let mut state = format!("\"{name}\";r={remaining}");
    if let Some(wait) = wait {
        state.push_str(&format!(";t={wait}"));
    }
    [("ratelimit-policy", policy), ("ratelimit", state)]
        .into_iter()
        .filter_map(|(name, value)| {
            Some((
                HeaderName::from_static(name),
                HeaderValue::try_from(value).ok()?,
            ))
        })
}

/// Whole seconds, rounded up, so that no one comes back too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
