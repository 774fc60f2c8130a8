//! The one error type of the seam.

mod codes;
mod convert;
mod kind;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use tower::BoxError;

pub use self::{
    codes::RpcCode,
    kind::{ErrorClass, ErrorKind},
};
use crate::{Consent, Era, Json, Object, RequestId, UpstreamId};

/// How many challenges of an upstream are kept, and how long one may be.
const MOST_CHALLENGES: usize = 4;
const LONGEST_CHALLENGE: usize = 2048;

/// Why a call failed.
///
/// Opaque and cheap to clone. [`Error::kind`] says what happened, [`Error::class`] whether another attempt can
/// help, [`Error::retry_after`] when. It is turned into a JSON-RPC error and an HTTP status once, where the
/// answer leaves the process: see [`Error::to_rpc`].
///
/// A JSON-RPC error that an upstream answered keeps its code, message and data byte for byte.
///
/// # Security
///
/// Messages reach the caller and the log. They are composed of fixed text and of names that the caller or
/// the operator gave; put anything else into the source, which is not sent.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    class: Option<ErrorClass>,
    retry_after: Option<Duration>,
    upstream: Option<UpstreamId>,
    rpc: Option<RpcError>,
    code: Option<RpcCode>,
    data: Option<Json>,
    status: Option<StatusCode>,
    headers: HeaderMap,
    consent: Option<Consent>,
    challenges: Vec<Box<str>>,
    request_id: Option<RequestId>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// A JSON-RPC error object as an upstream sent it.
#[derive(Clone)]
struct RpcError {
    code: i64,
    object: Json,
}

impl Error {
    /// Creates an error of a kind, with a message for whoever made the call.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            class: None,
            retry_after: None,
            upstream: None,
            rpc: None,
            code: None,
            data: None,
            status: None,
            headers: HeaderMap::new(),
            consent: None,
            challenges: Vec::new(),
            request_id: None,
            source: None,
        }))
    }

    /// Wraps a JSON-RPC error object that an upstream (or, for a server-initiated request, a client) answered.
    ///
    /// An object without an integer `code` is an error of kind [`ErrorKind::BadUpstream`] instead.
    #[must_use]
    pub fn from_rpc(object: Json) -> Self {
        let code = object
            .member("code")
            .and_then(|code| code.decode::<i64>().ok());
        let Some(code) = code else {
            return Self::new(
                ErrorKind::BadUpstream,
                "the upstream answered an error object without an integer code",
            );
        };
        let message = object
            .member("message")
            .and_then(|message| message.to_text())
            .unwrap_or_default();
        let mut error = Self::new(ErrorKind::Answered, message);
        error.inner().rpc = Some(RpcError { code, object });
        error
    }

    /// Sets when another attempt may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.inner().retry_after = Some(after);
        self
    }

    /// Sets the upstream that the call was meant for.
    #[must_use]
    pub fn with_upstream(mut self, upstream: UpstreamId) -> Self {
        self.inner().upstream = Some(upstream);
        self
    }

    /// Sets the call that failed, which the `data` of the answer names. An error that an upstream answered is not
    /// changed.
    #[must_use]
    pub fn with_request_id(mut self, id: RequestId) -> Self {
        if self.0.rpc.is_none() {
            self.inner().request_id = Some(id);
        }
        self
    }

    /// Returns the call that failed.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        self.0.request_id
    }

    /// Sets the cause, which is logged but not sent to the caller.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner().source = Some(Arc::from(source.into()));
        self
    }

    /// Sets a class other than the one that the kind implies.
    #[must_use]
    pub fn with_class(mut self, class: ErrorClass) -> Self {
        self.inner().class = Some(class);
        self
    }

    /// Sets the JSON-RPC code that clients of revision 2026-07-28 are answered with, in the place of the one that the kind
    /// implies. An error that an upstream answered keeps its own.
    #[must_use]
    pub fn with_code(mut self, code: RpcCode) -> Self {
        self.inner().code = Some(code);
        self
    }

    /// Sets the `data` member of the JSON-RPC error. Default is an object with the kind, the upstream and the
    /// time to retry after.
    #[must_use]
    pub fn with_data(mut self, data: Json) -> Self {
        self.inner().data = Some(data);
        self
    }

    /// Sets the HTTP status to answer with, if no byte of the answer has been sent. Without one, the status
    /// follows from the kind: see [`Error::status`].
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.inner().status = Some(status);
        self
    }

    /// Adds an HTTP header to answer with, if no byte of the answer has been sent.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.inner().headers.append(name, value);
        self
    }

    /// Creates the error of a call that waits for an authorisation of the user.
    ///
    /// A layer that can ask the user reads it by [`Error::consent`]; without one the address is part of the
    /// message.
    #[must_use]
    pub fn consent_required(consent: Consent) -> Self {
        let message = format!("{}: {}", consent.message, consent.url);
        let mut error = Self::new(ErrorKind::ConsentRequired, message);
        error.inner().consent = Some(consent);
        error
    }

    /// Sets what an upstream asked for with its refusal, as it wrote it (`WWW-Authenticate`; RFC 9110, section 11.6.1). The `data` of
    /// the answer has it as `challenges`. At most 4 of at most 2 KiB are kept, and none that is not visible ASCII.
    ///
    /// It does not become a header of the answer: a client would take it for a challenge of the server that it
    /// called, and bring that one the upstream's token. An error object that the upstream answered is not changed; layers
    /// read the challenges beside it.
    #[must_use]
    pub fn with_challenges<'a>(
        mut self,
        challenges: impl IntoIterator<Item = &'a HeaderValue>,
    ) -> Self {
        let shown = challenges.into_iter().filter_map(|own| own.to_str().ok());
        let fit = shown.filter(|own| own.len() <= LONGEST_CHALLENGE);
        self.inner().challenges = fit.take(MOST_CHALLENGES).map(Box::from).collect();
        self
    }

    /// Returns what an upstream asked for with its refusal.
    pub fn challenges(&self) -> impl Iterator<Item = &str> {
        self.0.challenges.iter().map(|own| &**own)
    }

    /// Returns the authorisation that the call waits for.
    #[must_use]
    pub fn consent(&self) -> Option<&Consent> {
        self.0.consent.as_ref()
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Returns what happened.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether another attempt can help.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.0.class.unwrap_or(match &self.0.rpc {
            Some(rpc) if rpc.code == RpcCode::INTERNAL_ERROR.get() => ErrorClass::Transient,
            _ => self.0.kind.class(),
        })
    }

    /// Returns when another attempt may succeed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the upstream that the call was meant for.
    #[must_use]
    pub fn upstream(&self) -> Option<&UpstreamId> {
        self.0.upstream.as_ref()
    }

    /// Returns the message for whoever made the call.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the HTTP headers to answer with.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Returns the JSON-RPC code that a client of this era is answered with.
    #[must_use]
    pub fn code(&self, era: Era) -> RpcCode {
        match &self.0.rpc {
            Some(rpc) => RpcCode::new(rpc.code),
            None => {
                let own = self.0.code.filter(|_| era == Era::Stateless);
                own.unwrap_or_else(|| self.0.kind.code(era))
            }
        }
    }

    /// Returns the HTTP status that a client of this era is answered with, before the first byte.
    ///
    /// Session-era clients take a status other than 200 for a broken transport and hide the JSON-RPC error
    /// from the model, so they get 200 unless a status was set. Revision 2026-07-28 maps errors to statuses
    /// (basic, "Error Codes").
    #[must_use]
    pub fn status(&self, era: Era) -> StatusCode {
        if let Some(status) = self.0.status {
            return status;
        }
        match era {
            Era::Session => StatusCode::OK,
            Era::Stateless => match &self.0.rpc {
                Some(rpc) => RpcCode::new(rpc.code).status(),
                None => self.0.kind.status(),
            },
        }
    }

    /// Returns the status that was set by [`Error::with_status`].
    #[must_use]
    pub fn explicit_status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Returns the JSON-RPC error object that a client of this era is answered with.
    #[must_use]
    pub fn to_rpc(&self, era: Era) -> Json {
        if let Some(rpc) = &self.0.rpc {
            return rpc.object.clone();
        }
        let data = match &self.0.data {
            Some(data) => self.identified(data),
            None => self.default_data(),
        };
        let code = self.code(era).get();
        let message = Json::string(&self.0.message);
        Json::composed(format!(
            r#"{{"code":{code},"message":{message},"data":{data}}}"#
        ))
    }

    /// Names the call in `data` that was set, where it is an object.
    fn identified(&self, data: &Json) -> Json {
        match (self.0.request_id, Object::index(data)) {
            (Some(id), Ok(mut data)) if !data.contains("requestId") => {
                data.set("requestId", Json::string(&id.to_string()));
                data.to_json()
            }
            _ => data.clone(),
        }
    }

    fn default_data(&self) -> Json {
        let mut data = json!({ "kind": self.0.kind.name() });
        if let Some(upstream) = &self.0.upstream {
            data["upstream"] = upstream.as_str().into();
        }
        if let Some(after) = self.0.retry_after {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            data["retryAfterMs"] = millis.into();
        }
        if let Some(id) = self.0.request_id {
            data["requestId"] = id.to_string().into();
        }
        if !self.0.challenges.is_empty() {
            data["challenges"] = json!(self.0.challenges);
        }
        if let Some(consent) = &self.0.consent {
            data["consentUrl"] = consent.url.as_str().into();
        }
        data.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(upstream) = &self.0.upstream {
            write!(f, "{upstream}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind);
        debug.field("message", &self.0.message);
        if let Some(rpc) = &self.0.rpc {
            debug.field("code", &rpc.code);
        }
        if let Some(upstream) = &self.0.upstream {
            debug.field("upstream", upstream);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

#[cfg(test)]
mod tests;
