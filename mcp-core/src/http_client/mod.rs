//! Sending HTTP requests, with SSRF protection: addresses that others supply cannot aim at the private network.
//!
//! [`HttpClient`] is what code that needs a document from the web asks for. With the feature `http-client`
//! there is `GuardedClient`, which by default
//!
//! 1. refuses anything but `https`;
//! 2. resolves the host itself, just before it connects, and refuses if any answer is not a public address
//!    ([`blocked`] tells which are not), so a name whose answer changes gains nothing;
//! 3. follows at most three redirects, each under the same rules, never from `https` to `http`, never with
//!    credentials or a body to another origin;
//! 4. bounds the time to connect, the time to the end of the body, the headers and the body.
//!
//! Origins that the operator wrote into a configuration are allowed as written: `http`, private addresses, but
//! only that scheme, host and port, and a redirect may not lead from there to another origin or from another
//! origin to there.

mod address;
mod error;
#[cfg(feature = "http-client")]
mod guarded;
mod response;
mod retry_after;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::address::{AddressClass, blocked};
pub use self::error::{HttpError, HttpErrorKind};
#[cfg(feature = "http-client")]
pub use self::guarded::{
    GuardedClient, GuardedClientBuilder, IncomingBody, Resolve, SystemResolver, moved_to,
};
pub use self::response::ResponseBody;
pub use self::retry_after::retry_after;
pub use crate::whole::read_whole;

/// Returns the content coding of an answer that has one other than `identity` (RFC 9110, section 8.4), as text that may be
/// shown.
#[must_use]
pub fn content_coding(headers: &http::HeaderMap) -> Option<String> {
    let value = headers.get(http::header::CONTENT_ENCODING)?;
    let coding = value.to_str().unwrap_or("of an unreadable name").trim();
    let known = coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    (!known).then(|| coding.chars().take(64).collect())
}

/// Sends a request and returns the answer, whatever its status.
///
/// # Cancel safety
///
/// Dropping the future abandons the request; the server may have received it.
#[async_trait]
pub trait HttpClient: fmt::Debug + Send + Sync + 'static {
    /// Sends `request`, whose address must be absolute, and returns when the headers of the answer are there.
    ///
    /// # Errors
    ///
    /// [`HttpError`] if the request was refused, could not be sent, or got no answer in time. An answer such as
    /// 404 or 500 is not an error.
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<ResponseBody>, HttpError>;
}
