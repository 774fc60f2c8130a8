use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use mcp_core::{
    Era, Error, ErrorKind, RpcCode,
    http_client::{HttpError, HttpErrorKind},
    jsonrpc::Message,
};

/// Why an exchange with a server of the session era failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server does not know the session any more, and has not acted on the request.
    Expired,
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

/// Turns a failure of the HTTP client into one of the seam.
pub(super) fn of_client(error: HttpError) -> Error {
    let (kind, message) = match error.kind() {
        HttpErrorKind::Connect => (
            ErrorKind::NotSent,
            "the server cannot be reached; it has not seen the call",
        ),
        HttpErrorKind::Blocked | HttpErrorKind::InvalidRequest | HttpErrorKind::Redirect => (
            ErrorKind::NotSent,
            "the server's address may not be reached from here",
        ),
        HttpErrorKind::Timeout => (ErrorKind::Timeout, "the server did not answer in time"),
        HttpErrorKind::TooLarge => (
            ErrorKind::TooLarge,
            "the server's answer is larger than allowed",
        ),
        _ => (
            ErrorKind::Unavailable,
            "the connection to the server broke; whether it saw the call is not known",
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
/// status of the client's answer.
pub(super) fn of_status(status: StatusCode, headers: &HeaderMap, body: &bytes::Bytes) -> Error {
    if let Ok(Message::Error(_, error)) = Message::parse(body) {
        return match retry_after(headers) {
            Some(after) => error.with_retry_after(after),
            None => error,
        };
    }
    let (kind, message) = match status {
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
        _ => (
            ErrorKind::BadUpstream,
            "the server answered with an HTTP status that MCP does not have",
        ),
    };
    let mut error = Error::new(kind, message).with_source(format!("HTTP status {status}"));
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        error = error.with_status(StatusCode::OK);
    }
    match retry_after(headers) {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

/// Whether an error shows that the server speaks revision 2026-07-28 (basic, "Versioning").
pub(super) fn is_modern(status: StatusCode, error: &Error) -> bool {
    match error.code(Era::Stateless) {
        _ if error.kind() != ErrorKind::Answered => false,
        RpcCode::HEADER_MISMATCH | RpcCode::MISSING_CAPABILITY | RpcCode::UNSUPPORTED_VERSION => {
            true
        }
        RpcCode::METHOD_NOT_FOUND => status == StatusCode::NOT_FOUND,
        _ => false,
    }
}

/// Reads `Retry-After` in seconds; a date is not read (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
