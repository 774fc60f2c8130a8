use std::{fmt, sync::Arc};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

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
    proof: Option<Arc<dyn CredentialProof>>,
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
        Self {
            headers,
            proof: None,
        }
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
            proof: None,
        })
    }

    /// Adds what shows, for each HTTP request, that the sender holds the key that the credential is bound to.
    #[must_use]
    pub fn with_proof(mut self, proof: Arc<dyn CredentialProof>) -> Self {
        self.proof = Some(proof);
        self
    }

    /// Returns the headers to send, without those of a proof.
    #[must_use]
    pub fn as_headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns what has to be shown with each HTTP request, for a credential that is bound to a key.
    #[must_use]
    pub fn proof(&self) -> Option<&Arc<dyn CredentialProof>> {
        self.proof.as_ref()
    }
}

/// Shows for each HTTP request that its sender holds the key that a credential is bound to, for instance by DPoP
/// (RFC 9449).
///
/// Whoever sends a [`Credential`] that has a proof must ask it for headers each time that a request is sent, also when
/// the same request is sent again or follows a redirect, and show it the head of each answer.
pub trait CredentialProof: Send + Sync + 'static {
    /// Returns the headers that go with one request. Must not block.
    ///
    /// # Errors
    ///
    /// The key cannot sign. The request must not be sent.
    fn prove(&self, request: &ProvenRequest<'_>) -> Result<HeaderMap, Error>;

    /// Takes note of the head of an answer, and returns whether the request is to be sent once more, since the server has
    /// refused it before acting on it and now said what its proof must contain. Default is to return `false`.
    fn answered(&self, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> bool {
        let _ = (uri, status, headers);
        false
    }
}

/// An HTTP request that is about to be sent.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProvenRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The absolute URI.
    pub uri: &'a Uri,
    /// The content, as it is sent; empty for a request without one.
    pub body: &'a [u8],
}

impl<'a> ProvenRequest<'a> {
    /// Describes a request.
    #[must_use]
    pub const fn new(method: &'a Method, uri: &'a Uri, body: &'a [u8]) -> Self {
        Self { method, uri, body }
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
    pub status: StatusCode,
    /// The `WWW-Authenticate` headers of the answer.
    pub challenges: Vec<HeaderValue>,
}

impl CredentialRefusal {
    /// Describes a refusal.
    #[must_use]
    pub fn new(status: StatusCode, challenges: Vec<HeaderValue>) -> Self {
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
