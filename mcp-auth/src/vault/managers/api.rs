//! One call of a service's API over JSON.

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use mcp_core::http_client::HttpClient;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::SecretManagerError;
use crate::net;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 2 << 20;

/// A service, and how it is reached.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) service: &'static str,
    pub(super) http: Arc<dyn HttpClient>,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    service: &'static str,
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Api {
    pub(super) const fn new(service: &'static str, http: Arc<dyn HttpClient>) -> Self {
        Self { service, http }
    }

    /// Writes a request with a JSON body, or with none.
    pub(super) fn request(method: Method, body: Option<&Value>) -> Request<Bytes> {
        let text = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let mut request = Request::new(text);
        *request.method_mut() = method;
        let json = HeaderValue::from_static("application/json");
        if body.is_some() {
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_TYPE, json.clone());
        }
        request.headers_mut().insert(header::ACCEPT, json);
        request
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send(
        &self,
        url: &Url,
        request: Request<Bytes>,
    ) -> Result<Answer, SecretManagerError> {
        let answer = net::send_up_to(&self.http, url, request, MAX_ANSWER).await;
        let answer = answer.map_err(|error| SecretManagerError::of_fetch(self.service, error))?;
        Ok(Answer {
            service: self.service,
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
        })
    }
}

impl Answer {
    /// Reads the body of a success.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, SecretManagerError> {
        // The reader's own error may repeat parts of the answer.
        serde_json::from_slice(&self.body).map_err(|_| SecretManagerError::malformed(self.service))
    }

    /// Reads the body of a success, or takes the answer as an error.
    #[cfg(any(feature = "azure", feature = "google"))]
    pub(super) fn success<T: DeserializeOwned>(&self) -> Result<T, SecretManagerError> {
        match self.status.is_success() {
            true => self.read(),
            false => Err(self.error()),
        }
    }

    /// Takes a success whose body says nothing, or the answer as an error.
    #[cfg(any(feature = "azure", feature = "google"))]
    pub(super) fn done(&self) -> Result<(), SecretManagerError> {
        match self.status.is_success() {
            true => Ok(()),
            false => Err(self.error()),
        }
    }

    /// Takes the answer as an error, by its status.
    pub(super) fn error(&self) -> SecretManagerError {
        SecretManagerError::of_answer(self.service, self.status, &self.headers, SystemTime::now())
    }

    /// What an error says, as far as it is JSON.
    pub(super) fn said(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Names the user of a request by a token (RFC 6750, section 2.1).
#[cfg(feature = "azure")]
pub(super) fn bearer(request: &mut Request<Bytes>, token: &str) -> Result<(), ()> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(drop)?;
    value.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(())
}
