use bytes::Bytes;
use http::{Method, Request, header};
use mcp_core::http_client::{HttpError, HttpErrorKind};
use serde_json::{Map, Value};

use super::{
    VendorClient,
    wire::{Answer, NoAnswer},
};
use crate::{CaptchaError, CaptchaErrorKind, codes};

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

impl VendorClient {
    /// Calls a method. The key is added here and nowhere else.
    pub(super) async fn post(&self, method: &str, body: &Value) -> Result<Answer, CaptchaError> {
        self.check_refused()?;
        let config = &self.0.config;
        let mut fields = Map::new();
        fields.insert("clientKey".into(), config.key.secret().into());
        if let Value::Object(more) = body {
            fields.extend(more.clone());
        }
        let body = serde_json::to_vec(&fields).map_err(|error| {
            self.fail(
                CaptchaErrorKind::InvalidChallenge,
                "the task cannot be written",
            )
            .with_source(error)
        })?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{method}", config.base))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from(body))
            .map_err(|error| {
                self.fail(
                    CaptchaErrorKind::Unreachable,
                    "the service's address cannot be used",
                )
                .with_source(error)
            })?;
        let result = self.exchange(request).await;
        if let Err(error) = &result {
            self.note_refusal(error);
        }
        result
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, CaptchaError> {
        let permit = self.0.wire.acquire().await;
        let response = self
            .0
            .http
            .send(request)
            .await
            .map_err(|error| self.lost(error))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect(MAX_ANSWER)
            .await
            .map_err(|error| self.lost(error))?;
        drop(permit);
        // CapSolver answers its errors with 400 and 401: the body decides before the status.
        match Answer::read(&body) {
            Ok(answer) if status.is_success() => Ok(answer),
            Err(NoAnswer::Code(code)) => Err(codes::error(&self.0.config.name, &code)),
            _ if status == http::StatusCode::TOO_MANY_REQUESTS => Err(self.fail(
                CaptchaErrorKind::Throttled,
                "the service wants fewer requests (status 429)",
            )),
            _ if status.is_server_error() => Err(self.fail(
                CaptchaErrorKind::BadAnswer,
                format!("the service is out of order (status {})", status.as_u16()),
            )),
            Err(NoAnswer::Malformed(what)) => Err(self.fail(
                CaptchaErrorKind::BadAnswer,
                format!("{what} (status {})", status.as_u16()),
            )),
            Ok(_) => Err(self.fail(
                CaptchaErrorKind::BadAnswer,
                format!(
                    "the service answered status {} without an error code",
                    status.as_u16()
                ),
            )),
        }
    }

    fn lost(&self, error: HttpError) -> CaptchaError {
        let (kind, message) = match error.kind() {
            HttpErrorKind::Connect | HttpErrorKind::Blocked | HttpErrorKind::InvalidRequest => (
                CaptchaErrorKind::Unreachable,
                "the service cannot be reached: check its address, the network, and that the HTTP client allows it",
            ),
            HttpErrorKind::Timeout => (
                CaptchaErrorKind::Timeout,
                "the service did not answer in time",
            ),
            HttpErrorKind::TooLarge => (
                CaptchaErrorKind::BadAnswer,
                "the service's answer is too long",
            ),
            _ => (
                CaptchaErrorKind::Interrupted,
                "the connection to the service broke",
            ),
        };
        self.fail(kind, message).with_source(error)
    }
}
