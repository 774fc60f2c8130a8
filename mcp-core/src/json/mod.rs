//! JSON text that is shared, checked once, and never re-encoded.
//!
//! [`Json`] is a slice of the bytes that arrived. Key order, number text, escapes and members that are unknown
//! here survive, because nothing decodes and encodes them again. Where a value has to change
//! (a tool's public name, an id, a progress token) the change is a splice: see [`Object`].

mod error;
mod object;
mod scan;
mod unambiguous;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

pub(crate) use self::scan::{Cursor, Span};
pub use self::{
    error::{JsonError, JsonErrorKind},
    object::{MAX_MEMBERS, Object},
    scan::MAX_DEPTH,
};

/// A valid JSON text (RFC 8259), kept as a shared slice of the bytes it was read from.
///
/// Cloning copies a pointer. The text has no white space around it; white space inside is as it arrived.
///
/// # Examples
///
/// ```
/// use mcp_core::Json;
///
/// let json = Json::parse(r#" {"b": 1.50, "a": [true]} "#)?;
/// assert_eq!(json.as_str(), r#"{"b": 1.50, "a": [true]}"#);
/// assert_eq!(json.member("b").unwrap().as_str(), "1.50");
/// # Ok::<(), mcp_core::JsonError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Bytes);

impl Json {
    /// The JSON text `{}`.
    pub const EMPTY_OBJECT: Self = Self(Bytes::from_static(b"{}"));
    /// The JSON text `null`.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Checks a whole JSON text, without decoding it.
    ///
    /// # Errors
    ///
    /// Names what is wrong and the byte where: invalid UTF-8, anything that RFC 8259 does not allow, more
    /// than [`MAX_DEPTH`] levels of nesting, or text after the value.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, JsonError> {
        let text = text.into();
        let mut cursor = Cursor::new(&text)?;
        let span = cursor.value()?;
        cursor.end()?;
        Ok(Self::slice(&text, span))
    }

    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// The value's own `Serialize` fails, for instance on a map whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        serde_json::to_vec(value)
            .map(|text| Self(text.into()))
            .map_err(JsonError::encode)
    }

    /// Encodes a string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self(serde_json::Value::from(text).to_string().into())
    }

    /// Decodes into a type of the caller.
    ///
    /// # Errors
    ///
    /// The text does not have the shape of `T`; the error names the line and column inside this value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        serde_json::from_slice(&self.0).map_err(JsonError::decode)
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor has checked the bytes; the check is repeated instead of trusting that with
        // `unsafe`, and costs about 5 ns per 100 bytes.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the text's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the shared bytes behind the text.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Returns the shared bytes behind the text.
    pub(crate) fn as_shared(&self) -> &Bytes {
        &self.0
    }

    /// Returns the length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` for a text of no bytes, which no value of this type is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the value is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// Returns whether the value is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Returns a member of an object, sharing this text: the first of that name. Scans the object as far as that; use
    /// [`Object`] for many look-ups.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<Self> {
        let found = Cursor::trusted(&self.0).member(key)?;
        Some(Self::slice(&self.0, found))
    }

    /// Returns the elements of an array, sharing this text; nothing for any other value.
    #[must_use]
    pub fn elements(&self) -> Vec<Self> {
        let mut spans = Vec::new();
        let whole = Cursor::trusted(&self.0).array(|cursor| {
            spans.push(cursor.value()?);
            Ok(())
        });
        if whole.is_err() {
            return Vec::new();
        }
        spans
            .into_iter()
            .map(|span| Self::slice(&self.0, span))
            .collect()
    }

    /// Returns the value of a JSON string, or `None` for any other value.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        serde_json::from_slice(&self.0).ok()
    }

    /// Returns the value in a buffer of its own size, for what outlives the message that it arrived in.
    ///
    /// A value shares the buffer of the whole message: who keeps one small member keeps megabytes alive.
    #[must_use]
    pub fn compact(&self) -> Self {
        match self.as_bytes() {
            b"{}" => Self::EMPTY_OBJECT,
            b"null" => Self::NULL,
            bytes => Self(Bytes::copy_from_slice(bytes)),
        }
    }

    /// Shares the part of `whole` that a [`Cursor`] has found to be a value.
    pub(crate) fn slice(whole: &Bytes, span: Span) -> Self {
        Self(whole.slice(span.start as usize..span.end as usize))
    }

    /// Wraps bytes that this crate has just composed from checked parts.
    pub(crate) fn composed(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }
}

impl AsRef<[u8]> for Json {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Json {
    /// Prints the length only: arguments and results may hold anything, secrets included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::from(&value)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_slice::<&RawValue>(&self.0)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(String::from(Box::<str>::from(raw))).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
