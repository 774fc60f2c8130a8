use std::fmt;

/// Why a text is not the JSON it should be.
#[derive(Debug, thiserror::Error)]
#[error("{kind}{place}")]
pub struct JsonError {
    kind: JsonErrorKind,
    place: Place,
    #[source]
    source: Option<serde_json::Error>,
}

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The text ends inside a value.
    #[error("the JSON text ends too early")]
    UnexpectedEnd,
    /// A byte that no value may have at this place.
    #[error("unexpected byte in JSON text")]
    UnexpectedByte,
    /// A control character or an unknown escape inside a string (RFC 8259, section 7).
    #[error("invalid character or escape in a JSON string")]
    InvalidString,
    /// A number that RFC 8259, section 6, does not allow.
    #[error("invalid JSON number")]
    InvalidNumber,
    /// The bytes are not UTF-8 (RFC 8259, section 8.1).
    #[error("the JSON text is not valid UTF-8")]
    InvalidUtf8,
    /// More levels of nesting than [`MAX_DEPTH`](super::MAX_DEPTH).
    #[error("the JSON text is nested too deeply")]
    TooDeep,
    /// A member name that occurs twice where that would be ambiguous.
    #[error("a member of the JSON object occurs twice")]
    DuplicateMember,
    /// More members than [`MAX_MEMBERS`](super::MAX_MEMBERS) in an object that is indexed.
    #[error("a JSON object has too many members")]
    TooManyMembers,
    /// The text is more than 4 GiB long.
    #[error("the JSON text is too long")]
    TooLong,
    /// The value is valid JSON but not of the expected type.
    #[error("the JSON value has the wrong shape")]
    WrongShape,
    /// The value cannot be written as JSON.
    #[error("the value cannot be encoded as JSON")]
    Encode,
}

#[derive(Debug)]
struct Place(Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, " at byte {at}"),
            None => Ok(()),
        }
    }
}

impl JsonError {
    pub(crate) fn new(kind: JsonErrorKind, at: usize) -> Self {
        Self {
            kind,
            place: Place(Some(at)),
            source: None,
        }
    }

    pub(crate) fn decode(source: serde_json::Error) -> Self {
        Self {
            kind: JsonErrorKind::WrongShape,
            place: Place(None),
            source: Some(source),
        }
    }

    pub(crate) fn duplicate(source: serde_json::Error) -> Self {
        Self {
            kind: JsonErrorKind::DuplicateMember,
            place: Place(None),
            source: Some(source),
        }
    }

    pub(crate) fn encode(source: serde_json::Error) -> Self {
        Self {
            kind: JsonErrorKind::Encode,
            place: Place(None),
            source: Some(source),
        }
    }

    /// Returns what is wrong.
    #[must_use]
    pub fn kind(&self) -> JsonErrorKind {
        self.kind
    }

    /// Returns the byte at which the text stopped making sense, counted from 0.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.place.0
    }
}
