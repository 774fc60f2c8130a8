use std::error::Error;
use std::fmt;

type Source = Box<dyn Error + Send + Sync>;

/// Why a store could not answer.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: &'static str,
    source: Option<Source>,
}

/// The kinds of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, did not answer in time, or failed; asking again later may help.
    Unavailable,
    /// The store holds something that this program did not write or cannot read.
    Corrupt,
    /// The store has no room for another entry.
    Full,
    /// The caller asked for something that has no meaning, such as a time to live of zero.
    Invalid,
}

impl StoreError {
    /// Makes an error of a kind, for implementations of [`StateStore`](super::StateStore).
    #[must_use]
    pub const fn new(kind: StoreErrorKind, message: &'static str) -> Self {
        Self {
            kind,
            message,
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
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    pub(super) const fn invalid(message: &'static str) -> Self {
        Self::new(StoreErrorKind::Invalid, message)
    }

    #[cfg(any(feature = "redb", feature = "redis", feature = "postgres"))]
    pub(super) const fn corrupt(message: &'static str) -> Self {
        Self::new(StoreErrorKind::Corrupt, message)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
