//! The text of answers.

use bytes::Bytes;

use crate::{Era, Error, Json, Object, Response, jsonrpc, jsonrpc::Id};

/// Returns the text of a whole JSON-RPC answer.
pub(super) fn answer(id: &Id, answer: Result<Response, Error>, era: Era) -> Vec<u8> {
    match answer {
        Ok(answer) => jsonrpc::write_response(id, &for_era(answer, era)),
        Err(error) => jsonrpc::write_error(Some(id), &error.to_rpc(era)),
    }
}

/// Cuts off a byte order mark, which some clients write before a message (RFC 8259, section 8.1).
pub(super) fn without_mark(text: Bytes) -> Bytes {
    match text.starts_with(b"\xef\xbb\xbf") {
        true => text.slice(3..),
        false => text,
    }
}

/// A result of revision 2026-07-28 says what it is; one that does not is complete (basic, "Results").
pub(super) fn for_era(answer: Response, era: Era) -> Json {
    if era == Era::Session || answer.has_result_type() {
        return answer.into_result();
    }
    match Object::try_from(answer.result().clone()) {
        Ok(mut result) => {
            result.set("resultType", Json::string("complete"));
            result.to_json()
        }
        Err(_) => answer.into_result(),
    }
}
