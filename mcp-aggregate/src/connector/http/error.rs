use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};
use mcp_core::{
    Era, Error, ErrorKind, RpcCode,
    http_client::{HttpError, HttpErrorKind, retry_after},
    jsonrpc::Message,
};

/// Why an exchange with a server of the session era failed.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    /// The server does not know the session any more, and has not acted on the request. The error is what it said.
    Expired(Error),
    /// The server does not know `initialize`.
    NotSession(Error),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Turns a failure of the HTTP client to reach an address into one of the seam.
pub(super) fn of_client(error: HttpError, address: &str) -> Error {
    let (kind, message) = match error.kind() {
        HttpErrorKind::Connect => (
            ErrorKind::NotSent,
            format!("cannot reach {address}: {error}; the call has not been sent"),
        ),
        HttpErrorKind::Blocked | HttpErrorKind::InvalidRequest | HttpErrorKind::Redirect => (
            ErrorKind::NotSent,
            format!("{address} may not be reached from here: {error}"),
        ),
        HttpErrorKind::Timeout => (
            ErrorKind::Timeout,
            format!("{address} did not answer in time: {error}"),
        ),
        HttpErrorKind::TooLarge => (
            ErrorKind::TooLarge,
            "the server's answer is larger than allowed".to_owned(),
        ),
        _ => (
            ErrorKind::Unavailable,
            format!(
                "the connection to {address} broke ({error}); whether the server saw the call is not known"
            ),
        ),
    };
    Error::new(kind, message).with_source(error)
}

/// The connection broke while an answer was read.
pub(super) fn broke(error: impl Into<tower::BoxError>) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the connection to the server broke before the answer came",
    )
    .with_source(error)
}

/// Turns an answer with an error status into an error.
///
/// That the gateway is not let in does not mean that its client's own credential is wrong: 401 and 403 do not become the
/// status of the client's answer. What the server asked for is in the data.
pub(super) fn of_status(
    status: StatusCode,
    headers: &HeaderMap,
    body: &bytes::Bytes,
    address: &str,
) -> Error {
    let refuses = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter();
    let challenges = challenges.filter(|_| refuses);
    if let Ok(Message::Error(_, error)) = Message::parse(body) {
        let error = error.with_challenges(challenges);
        return match retry_after(headers, SystemTime::now()) {
            Some(after) => error.with_retry_after(after),
            None => error,
        };
    }
    let (kind, what) = kind_of(status);
    let mut message = format!("{what} (HTTP {status} from {address})");
    if status.is_redirection() {
        let location = shown_location(headers);
        message.push_str(&format!("; it points to {location}, which is not followed"));
    }
    let mut error = Error::new(kind, message).with_challenges(challenges);
    if refuses {
        error = error.with_status(StatusCode::OK);
    }
    match retry_after(headers, SystemTime::now()) {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

fn kind_of(status: StatusCode) -> (ErrorKind, &'static str) {
    match status {
        StatusCode::UNAUTHORIZED => (
            ErrorKind::Unauthenticated,
            "the server wants a credential for this call",
        ),
        StatusCode::FORBIDDEN => (
            ErrorKind::PermissionDenied,
            "the server does not allow this call",
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            ErrorKind::RateLimited,
            "the server limits the rate of calls; try again later",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            ErrorKind::TooLarge,
            "the call is larger than the server accepts",
        ),
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
            (ErrorKind::Timeout, "the server did not answer in time")
        }
        status if status.is_server_error() => {
            (ErrorKind::Unavailable, "the server failed; try again later")
        }
        status if status.is_redirection() => {
            (ErrorKind::BadUpstream, "the server is at another address")
        }
        _ => (
            ErrorKind::BadUpstream,
            "the server answered with an HTTP status that MCP does not have",
        ),
    }
}

/// Returns the target of a redirect as it may be shown: printable ASCII of bounded length, without a query or credentials.
fn shown_location(headers: &HeaderMap) -> String {
    let location = headers.get(header::LOCATION);
    let Some(location) = location.and_then(|location| location.to_str().ok()) else {
        return "no address".to_owned();
    };
    let path = location.split(['?', '#']).next().unwrap_or_default();
    match path.contains('@') {
        true => "an address with credentials".to_owned(),
        false => path.chars().take(256).collect(),
    }
}

/// Whether the body of a refusal is about a session: servers that have lost one say so in many ways, of which HTTP 404
/// (revision 2025-11-25, "Session Management") is the only one that is standardised.
pub(super) fn is_about_session(body: &[u8]) -> bool {
    let body = body.to_ascii_lowercase();
    ["session", "not initialized"]
        .iter()
        .any(|words| memchr::memmem::find(&body, words.as_bytes()).is_some())
}

/// Whether a JSON-RPC error says that the session is unknown, as some servers do with HTTP 200.
pub(super) fn is_lost_session(error: &Error) -> bool {
    error.kind() == ErrorKind::Answered
        && error.code(Era::Session).get() == -32001
        && is_about_session(error.message().as_bytes())
}

/// Whether an error shows that the server speaks revision 2026-07-28 (basic, "Versioning").
pub(super) fn is_stateless(status: StatusCode, error: &Error) -> bool {
    match error.code(Era::Stateless) {
        _ if error.kind() != ErrorKind::Answered => false,
        RpcCode::HEADER_MISMATCH | RpcCode::MISSING_CAPABILITY | RpcCode::UNSUPPORTED_VERSION => {
            true
        }
        RpcCode::METHOD_NOT_FOUND => status == StatusCode::NOT_FOUND,
        _ => false,
    }
}
