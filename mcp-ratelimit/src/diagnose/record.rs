use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use mcp_core::{Error, ErrorClass, Request};
use serde::{Deserialize, Serialize};

use crate::retry::Attempts;

const MAX_TEXT: usize = 512;

/// One error, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorRecord {
    /// When, in milliseconds since 1970.
    pub at_millis: u64,
    /// The name of the [`ErrorKind`](mcp_core::ErrorKind).
    pub kind: String,
    /// `transient`, `permanent` or `rate_limited`.
    pub class: String,
    /// The method called.
    pub method: String,
    /// The tool, prompt or resource, up to 512 bytes.
    pub name: Option<String>,
    /// The upstream, where known.
    pub upstream: Option<String>,
    /// Who called: the partition, which names no one.
    pub partition: String,
    /// How often the call was made.
    pub attempts: u32,
    /// The message, up to 512 bytes.
    pub message: String,
}

impl ErrorRecord {
    /// Describes an error.
    #[must_use]
    pub fn new(error: &Error, request: &Request, at: SystemTime) -> Self {
        let upstream = error.upstream().or(request.upstream());
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            at_millis: millis(since),
            kind: error.kind().name().to_owned(),
            class: class_name(error.class()).to_owned(),
            method: request.method().as_str().to_owned(),
            name: request.name().map(cut),
            upstream: upstream.map(|upstream| upstream.as_str().to_owned()),
            partition: request.principal().partition().to_string(),
            attempts: Attempts::of(error).map_or(1, Attempts::count),
            message: cut(error.message()),
        }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn class_name(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Transient => "transient",
        ErrorClass::RateLimited => "rate_limited",
        _ => "permanent",
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    text[..end].to_owned()
}

/// Which errors are wanted; each setting narrows the choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorQuery {
    /// Not before, in milliseconds since 1970.
    pub from_millis: Option<u64>,
    /// Before, in milliseconds since 1970.
    pub until_millis: Option<u64>,
    /// Of this kind, by name.
    pub kind: Option<String>,
    /// About this tool, prompt or resource.
    pub name: Option<String>,
    /// Of this upstream.
    pub upstream: Option<String>,
    /// The newest so many; zero is 100.
    pub limit: usize,
}

impl ErrorQuery {
    /// Asks for the newest 100 of all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn matches(&self, record: &ErrorRecord) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        self.from_millis.is_none_or(|from| record.at_millis >= from)
            && self
                .until_millis
                .is_none_or(|until| record.at_millis < until)
            && same(&self.kind, Some(&record.kind))
            && same(&self.name, record.name.as_deref())
            && same(&self.upstream, record.upstream.as_deref())
    }

    pub(super) const fn most(&self) -> usize {
        if self.limit == 0 { 100 } else { self.limit }
    }
}

/// Keeps errors for later analysis.
#[async_trait]
pub trait ErrorRecorder: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps one error.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    async fn record(&self, record: ErrorRecord) -> Result<(), Error>;

    /// Finds kept errors, the newest first.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    async fn query(&self, query: &ErrorQuery) -> Result<Vec<ErrorRecord>, Error>;
}
