use bytes::Bytes;

use super::{Envelope, Id};
use crate::Cursor;

/// What the beginning of a text says about the message that the text ought to be.
///
/// For messages that cannot be read as a whole (too long, or not JSON further on), so that the call that they answer can
/// be known all the same.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Glimpse {
    /// The id, if it stands before what cannot be read.
    pub id: Option<Id>,
    /// Whether `"jsonrpc": "2.0"` stands there.
    pub is_message: bool,
    /// Whether a method stands there: then the text is no answer.
    pub has_method: bool,
}

impl Glimpse {
    /// Reads the beginning of a text, as far as it can be read.
    #[must_use]
    pub fn of(text: &Bytes) -> Self {
        let text = match str::from_utf8(text) {
            Ok(_) => text.clone(),
            Err(error) => text.slice(..error.valid_up_to()),
        };
        let mut envelope = Envelope::default();
        let Ok(mut cursor) = Cursor::new(&text) else {
            return Self::default();
        };
        // It breaks off where the text does; what was read before stays.
        let _ = cursor.object(|cursor, key| match key.decode() {
            Ok(key) => envelope.member(cursor, &text, &key),
            Err(_) => cursor.value().map(drop),
        });
        Self {
            id: envelope.id.take().and_then(Id::new),
            is_message: envelope
                .version
                .is_some_and(|version| version.as_str() == r#""2.0""#),
            has_method: envelope.method.is_some(),
        }
    }

    /// Returns the call that the text answers, if the text says so.
    #[must_use]
    pub fn answered(&self) -> Option<u64> {
        let id = self.id.as_ref().filter(|_| self.is_message);
        id.filter(|_| !self.has_method)?.to_number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_beginning() {
        for (text, answered) in [
            (
                &br#"{"jsonrpc":"2.0","id":7,"result":{"x":NaN}}"#[..],
                Some(7),
            ),
            (
                br#"{"jsonrpc":"2.0","id":"7","result":{"text":"cut o"#,
                Some(7),
            ),
            (
                b"{\"id\":7,\"jsonrpc\":\"2.0\",\"result\":\"\xff\"}",
                Some(7),
            ),
            (br#"{"jsonrpc":"2.0","id":7"#, Some(7)),
            (br#"{"jsonrpc":"2.0","id":7,"method":"x","params":["#, None),
            (br#"{"level":30,"id":7,"msg":NaN}"#, None),
            (br#"{"result":{"id":7,"x":NaN}}"#, None),
            (br#"log: {"jsonrpc":"2.0","id":7,"result":{}}"#, None),
            (b"", None),
            (b"\xff", None),
        ] {
            let glimpse = Glimpse::of(&Bytes::from_static(text));
            assert_eq!(glimpse.answered(), answered, "{glimpse:?}");
        }
    }
}
