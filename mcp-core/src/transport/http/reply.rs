//! Answers that are one JSON text, or one event.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    accept::{Accepted, EVENTS, JSON},
    body::ResponseBody,
};
use crate::{Era, Error, Response as Answer, jsonrpc, jsonrpc::Id, sse, transport::text};

pub(super) type HttpResponse = Response<ResponseBody>;

/// An answer without a body.
pub(super) fn status(status: StatusCode) -> HttpResponse {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response
}

/// A refusal that is not the answer to a JSON-RPC request.
pub(super) fn refusal(status: StatusCode, error: &Error, era: Era) -> HttpResponse {
    let text = jsonrpc::write_error(None, &error.to_rpc(era));
    json(status, ResponseBody::whole(text))
}

/// The answer to a JSON-RPC request: JSON where the client takes it, else one event.
///
/// An error with an HTTP status of its own is JSON in any case, as every refusal is.
pub(super) fn answer(
    accepted: Accepted,
    id: &Id,
    answer: Result<Answer, Error>,
    era: Era,
) -> HttpResponse {
    match answer {
        Err(error) if accepted.json || error.status(era) != StatusCode::OK => {
            failure(Some(id), &error, era)
        }
        Ok(answer) if accepted.json => {
            let result = text::for_era(answer, era).into_bytes();
            let body = ResponseBody::pieces(jsonrpc::response_head(id), result, b"}");
            json(StatusCode::OK, body)
        }
        answer => {
            let text = text::answer(id, answer, era);
            events(ResponseBody::whole(sse::write_event(None, &[&text])))
        }
    }
}

/// The error answer to a JSON-RPC request.
pub(super) fn failure(id: Option<&Id>, error: &Error, era: Era) -> HttpResponse {
    let text = jsonrpc::write_error(id, &error.to_rpc(era));
    let mut response = json(error.status(era), ResponseBody::whole(text));
    extend(response.headers_mut(), error);
    response
}

fn extend(headers: &mut HeaderMap, error: &Error) {
    for (name, value) in error.headers() {
        headers.append(name, value.clone());
    }
    let after = error
        .retry_after()
        .filter(|_| !headers.contains_key(header::RETRY_AFTER));
    if let Some(after) = after {
        // Whole seconds, rounded up (RFC 9110, section 10.2.3).
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

pub(super) fn json(status: StatusCode, body: ResponseBody) -> HttpResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// A stream of events that no intermediary may buffer or keep.
pub(super) fn events(body: ResponseBody) -> HttpResponse {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
