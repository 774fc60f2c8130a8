use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::Extensions;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Cursor, Error, Json, JsonError, protocol::meta};

/// What a result is (revision 2026-07-28, basic, "Results").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResultType {
    /// The final answer. Results of the session era say nothing, which means this.
    Complete,
    /// The server needs something from the client first.
    InputRequired,
    /// The work continues as a task (extension `io.modelcontextprotocol/tasks`).
    Task,
    /// A type of an extension that is not known here. It is passed on.
    Other(Box<str>),
}

impl ResultType {
    fn new(name: &str) -> Self {
        match name {
            "complete" => Self::Complete,
            "input_required" => Self::InputRequired,
            "task" => Self::Task,
            other => Self::Other(other.into()),
        }
    }
}

/// The answer to a [`Request`](crate::Request).
///
/// The result stays the bytes that arrived. A response that no layer reads is never decoded.
#[derive(Clone)]
pub struct Response {
    result: Json,
    outline: Outline,
    extensions: Extensions,
}

/// What is read of a result as it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    result_type: ResultType,
    /// Whether the result itself says its type.
    explicit: bool,
    tool_error: bool,
    /// Whether there is structured content that is not an object, which only revision 2026-07-28 allows.
    other_value: bool,
}

impl Outline {
    /// A final result.
    const COMPLETE: Self = Self {
        result_type: ResultType::Complete,
        explicit: true,
        tool_error: false,
        other_value: false,
    };
    /// The same that does not say so.
    const UNTYPED: Self = Self {
        explicit: false,
        ..Self::COMPLETE
    };

    fn of(result: &Json) -> Self {
        match Self::read(&mut Cursor::trusted(result.as_bytes()), result.as_shared()) {
            Ok((_, outline)) => outline,
            Err(_) => Self::UNTYPED,
        }
    }

    /// Reads a result at a cursor, and its outline on the way.
    pub(crate) fn read(cursor: &mut Cursor<'_>, whole: &Bytes) -> Result<(Json, Self), JsonError> {
        let mut outline = Self::UNTYPED;
        if cursor.peek() != Some(b'{') {
            return Ok((Json::slice(whole, cursor.value()?), outline));
        }
        let span = cursor.object(|cursor, key| {
            let value = cursor.value()?.of(whole);
            if key.is("resultType") {
                if let Ok(name) = serde_json::from_slice::<Cow<'_, str>>(value) {
                    outline.result_type = ResultType::new(&name);
                    outline.explicit = true;
                }
            } else if key.is("isError") {
                outline.tool_error = value == b"true";
            } else if key.is("structuredContent") {
                outline.other_value = !value.starts_with(b"{");
            }
            Ok(())
        })?;
        Ok((Json::slice(whole, span), outline))
    }
}

impl Response {
    /// Wraps a result, reading its `resultType`.
    #[must_use]
    pub fn new(result: Json) -> Self {
        let outline = Outline::of(&result);
        Self::outlined(result, outline)
    }

    /// Wraps a final result that is known to say so itself, or that goes to a client of the session era, without
    /// reading it: for results that are prepared once and sent often. It counts as no tool's error.
    #[must_use]
    pub fn prepared(result: Json) -> Self {
        Self::outlined(result, Outline::COMPLETE)
    }

    /// Wraps a result that has been read already.
    pub(crate) fn outlined(result: Json, outline: Outline) -> Self {
        Self {
            result,
            outline,
            extensions: Extensions::new(),
        }
    }

    /// Checks a JSON-RPC result and wraps it, in one pass.
    ///
    /// # Errors
    ///
    /// The text is not valid JSON.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, JsonError> {
        let text = text.into();
        let mut cursor = Cursor::new(&text)?;
        let (result, outline) = Outline::read(&mut cursor, &text)?;
        cursor.end()?;
        Ok(Self::outlined(result, outline))
    }

    /// Encodes a result.
    ///
    /// # Errors
    ///
    /// The value cannot be written as JSON.
    pub fn encode(result: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Ok(Self::new(Json::encode(result)?))
    }

    /// The empty result, `{}`.
    #[must_use]
    pub fn empty() -> Self {
        Self::outlined(Json::EMPTY_OBJECT, Outline::UNTYPED)
    }

    /// Returns the result.
    #[must_use]
    pub fn result(&self) -> &Json {
        &self.result
    }

    /// Returns the result, giving up the rest.
    #[must_use]
    pub fn into_result(self) -> Json {
        self.result
    }

    /// Returns the response with another result, which is read again.
    #[must_use]
    pub fn with_result(self, result: Json) -> Self {
        Self {
            extensions: self.extensions,
            ..Self::new(result)
        }
    }

    /// Returns the response with its result as a client of the session era can read it.
    pub(crate) fn with_session_result(self, result: Json) -> Self {
        let outline = Outline {
            tool_error: self.outline.tool_error,
            ..Outline::UNTYPED
        };
        Self {
            result,
            outline,
            extensions: self.extensions,
        }
    }

    /// Returns whether there is structured content that is not an object.
    pub(crate) fn has_other_value(&self) -> bool {
        self.outline.other_value
    }

    /// Returns what the result is.
    #[must_use]
    pub fn result_type(&self) -> &ResultType {
        &self.outline.result_type
    }

    /// Returns whether the result itself says what it is, as revision 2026-07-28 demands.
    #[must_use]
    pub fn has_result_type(&self) -> bool {
        self.outline.explicit
    }

    /// Returns whether a tool reports an error of its own (`isError`).
    #[must_use]
    pub fn is_tool_error(&self) -> bool {
        self.outline.tool_error
    }

    /// Returns what a failed tool says about its failure in `_meta` (SEP-3313, draft). It passes through every layer
    /// here unchanged.
    #[must_use]
    pub fn tool_failure(&self) -> Option<ToolFailure> {
        let own = self.result.member("_meta")?.member(meta::TOOL_FAILURE)?;
        own.is_object().then_some(ToolFailure(own))
    }

    /// Decodes the result.
    ///
    /// # Errors
    ///
    /// The result does not have the shape of `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        self.result.decode()
    }

    /// Returns values that layers attached, by their type.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns values that layers attached, by their type.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("result", &self.result)
            .field("result_type", self.result_type())
            .finish_non_exhaustive()
    }
}

/// What a failed tool says about its failure (SEP-3313, draft).
///
/// # Examples
///
/// ```
/// use mcp_core::{Response, ToolFailureClass};
///
/// let failed = Response::parse(
///     r#"{"isError":true,"content":[],"_meta":{"io.modelcontextprotocol/toolFailure":
///         {"class":"reliability","code":"busy","retryable":true}}}"#,
/// )?;
/// let failure = failed.tool_failure().unwrap();
/// assert_eq!(failure.class(), Some(ToolFailureClass::Reliability));
/// assert_eq!(failure.code().as_deref(), Some("busy"));
/// assert_eq!(failure.is_retryable(), Some(true));
/// # Ok::<(), mcp_core::JsonError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolFailure(Json);

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolFailureClass {
    /// The tool cannot do this.
    Capability,
    /// The tool could do it and failed this time.
    Reliability,
    /// The tool is not allowed to do it.
    Governance,
}

impl ToolFailure {
    /// Returns the class; `None` for one that is not known here.
    #[must_use]
    pub fn class(&self) -> Option<ToolFailureClass> {
        match self.text("class")?.as_str() {
            "capability" => Some(ToolFailureClass::Capability),
            "reliability" => Some(ToolFailureClass::Reliability),
            "governance" => Some(ToolFailureClass::Governance),
            _ => None,
        }
    }

    /// Returns the tool's own code.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        self.text("code")
    }

    /// Returns whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> Option<bool> {
        self.0.member("retryable")?.decode().ok()
    }

    /// Returns the date before which another attempt is of no use (RFC 3339), as the tool wrote it.
    #[must_use]
    pub fn retry_not_before(&self) -> Option<String> {
        self.text("retryNotBefore")
    }

    /// Returns the object as the tool wrote it.
    #[must_use]
    pub fn as_json(&self) -> &Json {
        &self.0
    }

    fn text(&self, member: &str) -> Option<String> {
        self.0.member(member)?.to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_read_wherever_it_stands() {
        for (text, expected) in [
            ("{}", ResultType::Complete),
            (r#"{"a":{"resultType":"task"}}"#, ResultType::Complete),
            (r#"{"a":1,"resultType":"task"}"#, ResultType::Task),
            (
                r#" {"resultType":"input_required"} "#,
                ResultType::InputRequired,
            ),
            (r#"{"resultType":"x"}"#, ResultType::Other("x".into())),
            ("[1]", ResultType::Complete),
        ] {
            let response = Response::parse(text).unwrap();
            assert_eq!(*response.result_type(), expected, "{text}");
            assert_eq!(response.result().as_str(), text.trim());
        }
    }

    #[test]
    fn a_tool_error_is_told_from_an_answer() {
        assert!(
            Response::parse(r#"{"isError": true}"#)
                .unwrap()
                .is_tool_error()
        );
        assert!(
            !Response::parse(r#"{"isError":false}"#)
                .unwrap()
                .is_tool_error()
        );
        assert!(!Response::empty().is_tool_error());
    }
}
