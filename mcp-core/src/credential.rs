use std::{fmt, sync::Arc};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};

use crate::{Error, Principal, Request, UpstreamId};

/// Decides what is sent to an upstream to show on whose behalf a call is made.
///
/// # Security
///
/// Fail closed: an error refuses the call. The client's own inbound credential is not among the inputs and
/// must not be the output.
#[async_trait]
pub trait CredentialProvider: Send + Sync + 'static {
    /// Returns what to send for this call.
    ///
    /// # Errors
    ///
    /// The credential cannot be had, for instance because its store is unavailable. The call is refused.
    ///
    /// # Cancel safety
    ///
    /// Implementations must bear being dropped at any await.
    async fn credential(&self, need: &CredentialNeed<'_>) -> Result<CredentialOutcome, Error>;

    /// Takes note that the upstream refused a credential, and says whether another one may do better.
    ///
    /// Default is [`CredentialRetry::GiveUp`].
    ///
    /// # Errors
    ///
    /// As [`CredentialProvider::credential`].
    async fn refused(
        &self,
        need: &CredentialNeed<'_>,
        refusal: &CredentialRefusal,
    ) -> Result<CredentialRetry, Error> {
        let _ = (need, refusal);
        Ok(CredentialRetry::GiveUp)
    }
}

/// What a credential is needed for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CredentialNeed<'a> {
    /// On whose behalf.
    pub principal: &'a Principal,
    /// For which upstream.
    pub upstream: &'a UpstreamId,
    /// The upstream's URL, for an upstream that has one.
    pub resource: Option<&'a str>,
    /// The call, when there is one: connecting and listing happen without.
    pub request: Option<&'a Request>,
}

impl<'a> CredentialNeed<'a> {
    /// Describes a need.
    #[must_use]
    pub fn new(principal: &'a Principal, upstream: &'a UpstreamId) -> Self {
        Self {
            principal,
            upstream,
            resource: None,
            request: None,
        }
    }
}

/// What a provider answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CredentialOutcome {
    /// Send this.
    Ready(Credential),
    /// The user has to give an authorisation first.
    ConsentRequired(Consent),
}

/// What is sent to an upstream with a call.
#[derive(Clone, Default)]
pub struct Credential {
    headers: HeaderMap,
}

impl Credential {
    /// Sends nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Sends HTTP headers. Each value is marked as sensitive.
    #[must_use]
    pub fn headers(mut headers: HeaderMap) -> Self {
        headers
            .values_mut()
            .for_each(|value| value.set_sensitive(true));
        Self { headers }
    }

    /// Sends `Authorization: Bearer` (RFC 6750, section 2.1).
    ///
    /// # Errors
    ///
    /// The token has characters that a header cannot carry.
    pub fn bearer(token: &str) -> Result<Self, http::header::InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok(Self {
            headers: HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]),
        })
    }

    /// Returns the headers to send.
    #[must_use]
    pub fn as_headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers.keys()).finish()
    }
}

/// An authorisation that the user has to give, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Consent {
    /// What the user is asked for, in words.
    pub message: Arc<str>,
    /// The URL of the page where the user gives it.
    pub url: String,
    /// Names this authorisation, so that its completion can be told from others.
    pub id: Arc<str>,
}

impl Consent {
    /// Describes an authorisation to give.
    #[must_use]
    pub fn new(id: &str, message: &str, url: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            url: url.into(),
            id: id.into(),
        }
    }
}

/// How an upstream refused a credential.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CredentialRefusal {
    /// 401 or 403.
    pub status: http::StatusCode,
    /// The `WWW-Authenticate` headers of the answer.
    pub challenges: Vec<HeaderValue>,
}

impl CredentialRefusal {
    /// Describes a refusal.
    #[must_use]
    pub fn new(status: http::StatusCode, challenges: Vec<HeaderValue>) -> Self {
        Self { status, challenges }
    }
}

/// Whether another credential may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialRetry {
    /// Ask the provider again and repeat the call once: the upstream has refused it before acting on it.
    Retry,
    /// The refusal stands.
    GiveUp,
}
