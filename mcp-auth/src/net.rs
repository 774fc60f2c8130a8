//! The exchanges over HTTP that everything here is made of.

use std::sync::Arc;

use bytes::Bytes;
#[cfg(feature = "server")]
use http::{HeaderValue, header};
use http::{Request, StatusCode};
use mcp_core::http_client::{HttpClient, HttpError, HttpErrorKind};
#[cfg(feature = "server")]
use serde_json::Value;
use url::Url;

/// The largest document that is read, in bytes.
#[cfg(any(
    feature = "server",
    feature = "aws",
    feature = "azure",
    feature = "google"
))]
pub(crate) const MAX_DOCUMENT: usize = 256 << 10;

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The address is not `https`, and does not point at this machine either.
    #[error("{0} is not an https address")]
    Insecure(String),
    /// There was no answer, or the guard refused to ask for one.
    #[error("no answer from {host}")]
    Http {
        /// Who was asked.
        host: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The answer has another status than a success.
    #[error("{host} answered with status {status}")]
    Status {
        /// Who was asked.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// The answer is not what it should be.
    #[error("{host} answered something that is not {expected}")]
    Shape {
        /// Who was asked.
        host: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl FetchError {
    /// Returns whether another try later can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => !matches!(
                source.kind(),
                HttpErrorKind::Blocked | HttpErrorKind::Redirect | HttpErrorKind::InvalidRequest
            ),
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Insecure(_) | Self::Shape { .. } => false,
        }
    }
}

/// An answer that has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    #[cfg(feature = "server")]
    pub(crate) host: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

#[cfg(feature = "server")]
impl Answer {
    /// The text of the body, without the byte order mark that some servers begin with (RFC 8259, section 8.1).
    pub(crate) fn json(&self) -> &[u8] {
        self.body
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(&self.body)
    }

    /// Reads a JSON object.
    pub(crate) fn object(&self) -> Result<serde_json::Map<String, Value>, FetchError> {
        match serde_json::from_slice(self.json()) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(self.shape("a JSON object")),
        }
    }

    pub(crate) fn shape(&self, expected: &'static str) -> FetchError {
        FetchError::Shape {
            host: self.host.clone(),
            expected,
        }
    }
}

/// Returns whether an address is `https`, or `http` on this very machine (OAuth 2.1, section 1.5).
#[must_use]
pub(crate) fn is_secure(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(url::Host::Ipv4(address))) => address.is_loopback(),
        ("http", Some(url::Host::Ipv6(address))) => address.is_loopback(),
        ("http", Some(url::Host::Domain(name))) => name.eq_ignore_ascii_case("localhost"),
        _ => false,
    }
}

/// Where an address points, fit for messages: no path, no query, no credentials.
pub(crate) fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Sends a request and reads the answer, whatever its status.
#[cfg(any(
    feature = "server",
    feature = "aws",
    feature = "azure",
    feature = "google"
))]
pub(crate) async fn send(
    client: &Arc<dyn HttpClient>,
    url: &Url,
    request: Request<Bytes>,
) -> Result<Answer, FetchError> {
    send_up_to(client, url, request, MAX_DOCUMENT).await
}

/// As [`send`], with another bound for the answer, in bytes.
pub(crate) async fn send_up_to(
    client: &Arc<dyn HttpClient>,
    url: &Url,
    mut request: Request<Bytes>,
    largest: usize,
) -> Result<Answer, FetchError> {
    if !is_secure(url) {
        return Err(FetchError::Insecure(shown(url)));
    }
    let host = shown(url);
    let failed = |source| FetchError::Http {
        host: host.clone(),
        source,
    };
    let mut address = url.clone();
    address.set_fragment(None);
    *request.uri_mut() = address.as_str().parse().map_err(|error| {
        let kind = HttpErrorKind::InvalidRequest;
        failed(HttpError::new(kind, "the address cannot be sent to").with_source(error))
    })?;
    let response = client.send(request).await.map_err(&failed)?;
    let (parts, body) = response.into_parts();
    let body = body.collect(largest).await.map_err(&failed)?;
    Ok(Answer {
        #[cfg(feature = "server")]
        host: host.clone(),
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// Returns for how long an answer is fresh, if it says so (RFC 9111, section 5.2.2); zero for one that is not to be kept.
#[cfg(feature = "server")]
pub(crate) fn max_age(headers: &http::HeaderMap) -> Option<std::time::Duration> {
    let mut age = None;
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    for part in texts.flat_map(|text| text.split(',')).map(str::trim) {
        if part.eq_ignore_ascii_case("no-store") || part.eq_ignore_ascii_case("no-cache") {
            return Some(std::time::Duration::ZERO);
        }
        if let Some(seconds) = part.to_ascii_lowercase().strip_prefix("max-age=") {
            age = age.or_else(|| seconds.trim_matches('"').parse().ok());
        }
    }
    age.map(std::time::Duration::from_secs)
}

/// Gets a JSON document.
///
/// A connection that was kept may have been closed at the other end in the meantime: reading is tried once more.
#[cfg(feature = "server")]
pub(crate) async fn get(client: &Arc<dyn HttpClient>, url: &Url) -> Result<Answer, FetchError> {
    let request = || {
        let mut request = Request::new(Bytes::new());
        let accept = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::ACCEPT, accept);
        request
    };
    let answer = match send(client, url, request()).await {
        Err(FetchError::Http { source, .. }) if source.kind() == HttpErrorKind::Protocol => {
            send(client, url, request()).await?
        }
        answer => answer?,
    };
    match answer.status.is_success() {
        true => Ok(answer),
        false => Err(FetchError::Status {
            host: answer.host,
            status: answer.status,
        }),
    }
}

/// Posts a form and returns the answer, whatever its status.
#[cfg(feature = "oauth")]
pub(crate) async fn post_form(
    client: &Arc<dyn HttpClient>,
    url: &Url,
    fields: &[(&str, &str)],
    authorization: Option<HeaderValue>,
) -> Result<Answer, FetchError> {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let mut request = Request::new(Bytes::from(form));
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    if let Some(mut value) = authorization {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    send(client, url, request).await
}
