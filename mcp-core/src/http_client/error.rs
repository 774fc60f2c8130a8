use std::error::Error;
use std::fmt;

type Source = Box<dyn Error + Send + Sync>;

/// Why a request has no answer, or its body no end.
#[derive(Debug)]
pub struct HttpError {
    kind: HttpErrorKind,
    message: String,
    source: Option<Source>,
}

/// The kinds of [`HttpError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// The request as given cannot be sent, for instance because its address is not absolute.
    InvalidRequest,
    /// The guard refused the address.
    Blocked,
    /// A redirect was refused, or there were too many.
    Redirect,
    /// No connection could be made; the server has not seen the request.
    Connect,
    /// A time limit passed.
    Timeout,
    /// The answer is larger than allowed.
    TooLarge,
    /// The connection broke or the server does not speak HTTP.
    Protocol,
}

impl HttpError {
    /// Makes an error, for implementations of [`HttpClient`](super::HttpClient).
    #[must_use]
    pub fn new(kind: HttpErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Which kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> HttpErrorKind {
        self.kind
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
