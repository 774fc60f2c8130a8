//! What pages wrote and requested.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{Outcome, Session, requests::Exchange};
use crate::{BrowserError, BrowserErrorKind};

/// The largest body that is answered, in bytes.
const MAX_BODY: usize = 5 << 20;

/// How serious a line of the console is. Each level includes those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConsoleLevel {
    /// `console.debug` and everything else.
    #[default]
    Debug,
    /// `console.log`, `console.info` and dialogs.
    Info,
    /// `console.warn`.
    Warning,
    /// `console.error` and what pages threw.
    Error,
}

impl ConsoleLevel {
    fn of(name: &str) -> Self {
        match name {
            "error" | "pageerror" | "assert" => Self::Error,
            "warning" => Self::Warning,
            "log" | "info" | "dialog" | "table" | "dir" => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// A request of a page, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RequestView {
    /// Its number in the session.
    pub number: u64,
    /// The method.
    pub method: String,
    /// The address.
    pub url: String,
    /// `document`, `xhr`, `fetch`, `script`, `image` and the like.
    pub kind: String,
    /// The status, `pending`, or why it failed.
    pub outcome: String,
    /// Whether it failed, or was answered with a status of 400 or more.
    pub failed: bool,
}

impl std::fmt::Display for RequestView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            number,
            method,
            url,
            kind,
            outcome,
            ..
        } = self;
        write!(f, "{number} {method} {url} {kind} {outcome}")
    }
}

/// A part of a request or its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestPart {
    /// The headers of both, as JSON.
    Headers,
    /// What was sent.
    RequestBody,
    /// What was answered. The browser keeps it for a while only.
    ResponseBody,
}

impl Session {
    /// What pages wrote to the console and threw, oldest first: number, level and text.
    #[must_use]
    pub fn console(&self, least: ConsoleLevel) -> Vec<(u64, String, String)> {
        let messages = self.0.hub.messages().into_iter();
        let messages = messages.filter(|message| ConsoleLevel::of(&message.level) >= least);
        messages
            .map(|message| (message.number, message.level, self.shown(&message.text)))
            .collect()
    }

    /// What pages requested, oldest first; the latest 300.
    #[must_use]
    pub fn network(&self) -> Vec<RequestView> {
        let exchanges = self.0.hub.requests.all().into_iter();
        exchanges
            .map(|exchange| self.request_view(&exchange))
            .collect()
    }

    fn request_view(&self, exchange: &Exchange) -> RequestView {
        let (outcome, failed) = match &exchange.outcome {
            None => ("pending".to_owned(), false),
            Some(Outcome::Status(status)) => (status.to_string(), *status >= 400),
            Some(Outcome::Failed(error)) => {
                let line = error.lines().next().unwrap_or_default();
                (format!("failed: {line}"), true)
            }
        };
        RequestView {
            number: exchange.number,
            method: exchange.method.clone(),
            url: self.shown(&exchange.url),
            kind: exchange.kind.clone(),
            outcome: self.shown(&outcome),
            failed,
        }
    }

    /// A part of a request by its number, as text; what is not text is in base64.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a request that is not remembered or has no such part, `TooLarge` above 5 MiB.
    pub async fn request_part(
        &self,
        number: u64,
        part: RequestPart,
    ) -> Result<String, BrowserError> {
        let work = async {
            let mut all = self.0.hub.requests.all().into_iter();
            let exchange = all.find(|exchange| exchange.number == number);
            let exchange =
                exchange.ok_or_else(|| invalid("no request with this number is remembered"))?;
            let text = match part {
                RequestPart::Headers => headers(&exchange),
                RequestPart::RequestBody => {
                    let body = exchange.body.ok_or_else(|| {
                        invalid("the request had no body, or one of more than 48 KiB")
                    })?;
                    readable(&body)?
                }
                RequestPart::ResponseBody => self.response_body(&exchange).await?,
            };
            Ok(self.shown(&text))
        };
        let target = number.to_string();
        let limit = self.action_timeout();
        self.run("browser.request_part", &target, limit, work).await
    }

    async fn response_body(&self, exchange: &Exchange) -> Result<String, BrowserError> {
        let response = exchange
            .response
            .as_ref()
            .ok_or_else(|| invalid("the request has no response yet"))?;
        let body = self.0.hub.remote.call(&response.id, "body", json!({}));
        let body = body.await.map_err(|error| match error.kind() {
            BrowserErrorKind::Driver | BrowserErrorKind::BrowserGone => {
                invalid("the browser does not keep the body of this response any more")
            }
            _ => error,
        })?;
        readable(body["binary"].as_str().unwrap_or_default())
    }
}

fn invalid(message: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::InvalidInput, message)
}

fn headers(exchange: &Exchange) -> String {
    let pairs = |pairs: &[(String, String)]| {
        let lines = pairs.iter().map(|(name, value)| json!([name, value]));
        lines.collect::<Vec<_>>()
    };
    let response = exchange
        .response
        .as_ref()
        .map(|response| json!({ "status": response.status, "headers": pairs(&response.headers) }));
    let request = json!({ "method": exchange.method, "url": exchange.url, "headers": pairs(&exchange.headers) });
    json!({ "request": request, "response": response }).to_string()
}

/// Base64 of the driver as text, or as it is.
fn readable(base64: &str) -> Result<String, BrowserError> {
    if base64.len() / 4 * 3 > MAX_BODY {
        return Err(BrowserError::new(
            BrowserErrorKind::TooLarge,
            "the body is larger than 5 MiB",
        ));
    }
    let bytes = BASE64_STANDARD.decode(base64).unwrap_or_default();
    Ok(String::from_utf8(bytes).unwrap_or_else(|_| format!("base64: {base64}")))
}
