//! JSON-RPC 2.0 messages, read in one pass and written around bytes that stay as they are.

mod glimpse;

use std::fmt;

use bytes::Bytes;

use crate::{Cursor, Error, ErrorKind, Json, JsonError, JsonErrorKind, Method, Object, Response};

pub use self::glimpse::Glimpse;

/// The id of a request: a JSON string or number, kept as the text that arrived.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Json);

impl Id {
    /// Checks that a value may be an id: a string, or a number without fraction and exponent.
    #[must_use]
    pub fn new(json: Json) -> Option<Self> {
        let valid = match json.as_bytes() {
            [b'"', ..] => true,
            [b'-' | b'0'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        valid.then_some(Self(json))
    }

    /// An id that is a number.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self(Json::composed(number.to_string()))
    }

    /// Returns the id if it is such a number as [`Id::number`] makes.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        self.0.as_str().parse().ok()
    }

    /// Returns the number that the id is or that its text names: some servers answer `"7"` to the request 7, and the
    /// official SDKs take that for the same id.
    #[must_use]
    pub fn to_number(&self) -> Option<u64> {
        match self.as_number() {
            None => number_in(&self.0.to_text()?),
            known => known,
        }
    }

    /// Returns whether the id is a number, or a text that names it.
    #[must_use]
    pub fn names(&self, number: u64) -> bool {
        self.to_number() == Some(number)
    }

    /// Returns the id as it stands in a message.
    #[must_use]
    pub fn as_json(&self) -> &Json {
        &self.0
    }
}

/// Reads a number of ASCII digits and nothing else.
fn number_in(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// A JSON-RPC message.
#[derive(Clone, Debug)]
#[allow(
    clippy::exhaustive_enums,
    reason = "JSON-RPC 2.0 has these four and will have no other"
)]
pub enum Message {
    /// Wants an answer.
    Request(Id, Method, Option<Object>),
    /// Wants none.
    Notification(Method, Option<Object>),
    /// Answers a request.
    Response(Id, Response),
    /// Answers a request with an error; without an id, the request could not be read.
    Error(Option<Id>, Error),
}

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why bytes are not a message, and the id to answer with if one could be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Malformed {
    /// Why.
    pub error: Error,
    /// The id of the message.
    pub id: Option<Id>,
}

/// Members of the envelope, as far as they have been seen.
#[derive(Default)]
struct Envelope {
    version: Option<Json>,
    id: Option<Json>,
    method: Option<Json>,
    params: Option<Params>,
    result: Option<(Json, crate::response::Outline)>,
    error: Option<Json>,
}

enum Params {
    Object(Object),
    Other,
}

impl Message {
    /// Reads a message in one pass.
    ///
    /// Duplicate members are refused in the envelope and at the top level of `params`; deeper down they pass
    /// unread. `params: null` counts as absent, as do `error: null` and a `result: null` beside an error. A byte order
    /// mark at the beginning is passed over (RFC 8259, section 8.1).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Parse`] for bytes that are not JSON, [`ErrorKind::InvalidRequest`] for JSON that is not a
    /// message, [`ErrorKind::InvalidParams`] for parameters that are not an object.
    pub fn parse(text: &Bytes) -> Result<Self, Malformed> {
        if text.starts_with(BYTE_ORDER_MARK) {
            return Self::parse(&text.slice(BYTE_ORDER_MARK.len()..));
        }
        let mut cursor = Cursor::new(text).map_err(|error| not_json(&error))?;
        if !matches!(cursor.peek(), Some(b'{')) {
            cursor
                .value()
                .and_then(|_| cursor.end())
                .map_err(|error| not_json(&error))?;
            return Err(invalid("the message is not a JSON object", None));
        }
        let mut envelope = Envelope::default();
        let read = cursor
            .object(|cursor, key| {
                let Ok(key) = key.decode() else {
                    return cursor.value().map(drop);
                };
                envelope.member(cursor, text, &key)
            })
            .and_then(|_| cursor.end());
        if let Err(error) = read {
            let id = envelope.id.take().and_then(Id::new);
            return Err(Malformed {
                id,
                ..not_json(&error)
            });
        }
        envelope.into_message()
    }

    /// Reads a message, or each message of a batch.
    ///
    /// # Errors
    ///
    /// The bytes are not JSON, or an empty array.
    #[allow(clippy::type_complexity, reason = "one result for each message")]
    pub fn parse_batch(text: &Bytes) -> Result<Vec<Result<Self, Malformed>>, Malformed> {
        if text.starts_with(BYTE_ORDER_MARK) {
            return Self::parse_batch(&text.slice(BYTE_ORDER_MARK.len()..));
        }
        let mut cursor = Cursor::new(text).map_err(|error| not_json(&error))?;
        let mut spans = Vec::new();
        cursor
            .array(|cursor| {
                spans.push(cursor.value()?);
                Ok(())
            })
            .and_then(|_| cursor.end())
            .map_err(|error| not_json(&error))?;
        if spans.is_empty() {
            return Err(invalid("the batch is empty", None));
        }
        Ok(spans
            .into_iter()
            .map(|span| Self::parse(Json::slice(text, span).as_shared()))
            .collect())
    }
}

/// The messages that a text is: one, or those of a batch.
pub type Messages = std::iter::Chain<std::option::IntoIter<Message>, std::vec::IntoIter<Message>>;

impl Message {
    /// Reads a message, or a batch of them as servers of revision 2025-03-26 may send it ("Batching"). Members of a batch
    /// that are no messages are passed over.
    ///
    /// # Errors
    ///
    /// As [`Message::parse`] and [`Message::parse_batch`].
    pub fn parse_any(text: &Bytes) -> Result<Messages, Malformed> {
        let json = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        if json.trim_ascii_start().first() != Some(&b'[') {
            return Self::parse(text).map(|message| Some(message).into_iter().chain(Vec::new()));
        }
        let batch = Self::parse_batch(text)?;
        let messages: Vec<_> = batch.into_iter().filter_map(Result::ok).collect();
        Ok(None.into_iter().chain(messages))
    }
}

impl Envelope {
    fn member(
        &mut self,
        cursor: &mut Cursor<'_>,
        text: &Bytes,
        key: &str,
    ) -> Result<(), JsonError> {
        let slot = match key {
            "jsonrpc" => &mut self.version,
            "id" => &mut self.id,
            "method" => &mut self.method,
            "error" => &mut self.error,
            "params" => return self.read_params(cursor, text),
            "result" => {
                let result = crate::response::Outline::read(cursor, text)?;
                return fill(&mut self.result, result, cursor);
            }
            _ => return cursor.value().map(drop),
        };
        let value = Json::slice(text, cursor.value()?);
        fill(slot, value, cursor)
    }

    fn read_params(&mut self, cursor: &mut Cursor<'_>, text: &Bytes) -> Result<(), JsonError> {
        let params = match cursor.peek() {
            Some(b'{') => Params::Object(Object::read(cursor, text)?),
            Some(b'n') => return cursor.value().map(drop),
            _ => {
                cursor.value()?;
                Params::Other
            }
        };
        fill(&mut self.params, params, cursor)
    }

    fn into_message(self) -> Result<Message, Malformed> {
        let (id, id_is_null) = match self.id {
            None => (None, false),
            Some(id) if id.is_null() => (None, true),
            Some(id) => match Id::new(id) {
                Some(id) => (Some(id), false),
                None => return Err(invalid("`id` is neither a string nor an integer", None)),
            },
        };
        if self
            .version
            .as_ref()
            .is_none_or(|v| v.as_str() != r#""2.0""#)
        {
            return Err(invalid("`jsonrpc` is not \"2.0\"", id));
        }
        // Some libraries write both members, the one that does not count as null.
        let error = self.error.filter(|error| !error.is_null());
        let is_beside_error = |(result, _): &(Json, _)| error.is_some() && result.is_null();
        let result = self.result.filter(|result| !is_beside_error(result));
        match (self.method, result, error) {
            (Some(method), None, None) => {
                let Some(method) = method.to_text() else {
                    return Err(invalid("`method` is not a string", id));
                };
                let params = match self.params {
                    None => None,
                    Some(Params::Object(params)) => Some(params),
                    Some(Params::Other) => {
                        let error =
                            Error::new(ErrorKind::InvalidParams, "`params` is not an object");
                        return Err(Malformed { error, id });
                    }
                };
                let method = Method::new(&method);
                match id {
                    Some(id) => Ok(Message::Request(id, method, params)),
                    None if id_is_null => Err(invalid("`id` is null", None)),
                    None => Ok(Message::Notification(method, params)),
                }
            }
            (None, Some((result, outline)), None) => match id {
                Some(id) => Ok(Message::Response(id, Response::outlined(result, outline))),
                None => Err(invalid("a response without `id`", None)),
            },
            (None, None, Some(error)) => Ok(Message::Error(id, Error::from_rpc(error))),
            _ => Err(invalid(
                "a message has exactly one of `method`, `result` and `error`",
                id,
            )),
        }
    }
}

fn fill<T>(slot: &mut Option<T>, value: T, cursor: &Cursor<'_>) -> Result<(), JsonError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(cursor.error(JsonErrorKind::DuplicateMember)),
    }
}

fn not_json(error: &JsonError) -> Malformed {
    let kind = match error.kind() {
        JsonErrorKind::DuplicateMember | JsonErrorKind::TooManyMembers => ErrorKind::InvalidRequest,
        _ => ErrorKind::Parse,
    };
    Malformed {
        error: Error::new(kind, error.to_string()),
        id: None,
    }
}

fn invalid(message: &'static str, id: Option<Id>) -> Malformed {
    Malformed {
        error: Error::new(ErrorKind::InvalidRequest, message),
        id,
    }
}

/// Writes a request.
#[must_use]
pub fn write_request(id: &Id, method: &Method, params: Option<&Object>) -> Vec<u8> {
    let room = params.map_or(0, Object::encoded_len) + method.as_str().len() + id.0.len() + 64;
    let mut out = Vec::with_capacity(room);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.0.as_bytes());
    out.push(b',');
    write_method(&mut out, method, params);
    out
}

/// Writes a notification.
#[must_use]
pub fn write_notification(method: &Method, params: Option<&Object>) -> Vec<u8> {
    let room = params.map_or(0, Object::encoded_len) + method.as_str().len() + 64;
    let mut out = Vec::with_capacity(room);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    write_method(&mut out, method, params);
    out
}

fn write_method(out: &mut Vec<u8>, method: &Method, params: Option<&Object>) {
    out.extend_from_slice(br#""method":"#);
    out.extend_from_slice(Json::string(method.as_str()).as_bytes());
    if let Some(params) = params {
        out.extend_from_slice(br#","params":"#);
        params.write(out);
    }
    out.push(b'}');
}

/// What stands before a result in a response.
#[must_use]
pub fn response_head(id: &Id) -> Vec<u8> {
    let mut out = Vec::with_capacity(id.0.len() + 40);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.0.as_bytes());
    out.extend_from_slice(br#","result":"#);
    out
}

/// Writes a response with a result.
#[must_use]
pub fn write_response(id: &Id, result: &Json) -> Vec<u8> {
    let mut out = response_head(id);
    out.reserve_exact(result.len() + 1);
    out.extend_from_slice(result.as_bytes());
    out.push(b'}');
    out
}

/// Writes a response with an error. Without an id it is `null`, as JSON-RPC 2.0 wants where the id could not
/// be read.
#[must_use]
pub fn write_error(id: Option<&Id>, error: &Json) -> Vec<u8> {
    let id = id.map_or("null", |id| id.0.as_str());
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into_bytes()
}

#[cfg(test)]
mod tests;
