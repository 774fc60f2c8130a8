//! Revision 2026-07-28: each request stands for itself.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, request::Parts};

use super::{
    body::ResponseBody,
    pulse::Pulse,
    reply::{self, HttpResponse},
    rules,
};
use crate::{
    Era, Error, ErrorKind, Method, Object, Principal, Request, Seam,
    jsonrpc::{Malformed, Message},
    notifier::Outgoing,
    sse,
    transport::{
        caller::Caller,
        exchange::{Exchange, Step},
        stateless::{self, Origin},
        text,
    },
};

/// Answers a POST.
pub(super) async fn post<S: Seam>(
    service: &S,
    parts: &Parts,
    message: Result<Message, Malformed>,
    default_principal: fn() -> Principal,
    pulse: &Pulse,
) -> HttpResponse {
    let (id, method, params) = match message {
        Ok(Message::Request(id, method, params)) => (id, method, params),
        // The revision has no notification from client to server over HTTP: there is nothing to do.
        Ok(Message::Notification(..)) => return reply::status(StatusCode::ACCEPTED),
        Ok(Message::Response(..) | Message::Error(..)) => {
            let error = Error::new(
                ErrorKind::InvalidRequest,
                "a client of this revision sends no responses; answer in `inputResponses`",
            );
            return reply::refusal(StatusCode::BAD_REQUEST, &error, Era::Stateless);
        }
        Err(malformed) => {
            let error = malformed.error.with_status(StatusCode::BAD_REQUEST);
            return reply::failure(malformed.id.as_ref(), &error, Era::Stateless);
        }
    };
    let request = match admit(parts, &method, params, default_principal) {
        Ok(request) => request,
        Err(error) => {
            let status = match error.status(Era::Stateless) {
                StatusCode::OK => StatusCode::BAD_REQUEST,
                status => status,
            };
            return reply::failure(Some(&id), &error.with_status(status), Era::Stateless);
        }
    };
    let origin = Origin::new(id, &method);
    let mut exchange = Exchange::start(service, request, false);
    let first = match pulse.within(exchange.next()).await {
        Some(Step::Answer(answer)) => {
            return reply::answer(&origin.id, origin.answer(answer), Era::Stateless);
        }
        Some(Step::Outgoing(outgoing)) => Some(outgoing),
        None => None,
    };
    reply::events(ResponseBody::stream(events(Streaming {
        exchange,
        first,
        origin,
        pulse: pulse.clone(),
        done: false,
    })))
}

/// Checks a request by the rules of the revision.
fn admit(
    parts: &Parts,
    method: &Method,
    params: Option<Object>,
    default_principal: fn() -> Principal,
) -> Result<Request, Error> {
    let headers: &HeaderMap = &parts.headers;
    let client = rules::read_client(headers, params.as_ref())?;
    stateless::check_method(method)?;
    rules::check_mirrors(headers, method, params.as_ref())?;
    let mirrored = rules::param_headers(headers)?;
    let caller = Caller::of(&parts.extensions);
    let principal = caller.principal.clone().unwrap_or_else(default_principal);
    let request = client.request(method.clone(), params, principal)?;
    Ok(caller.state(request).with_mirrored(mirrored))
}

struct Streaming {
    exchange: Exchange,
    first: Option<Outgoing>,
    origin: Origin,
    pulse: Pulse,
    done: bool,
}

/// Turns an exchange into events. The exchange lives in the stream: a client that goes away cancels the call.
fn events(streaming: Streaming) -> impl futures_core::Stream<Item = Bytes> + Send {
    stream::unfold(streaming, |mut state| async move {
        loop {
            if state.done {
                return None;
            }
            let step = match state.first.take() {
                Some(outgoing) => Some(Step::Outgoing(outgoing)),
                None => state.pulse.within(state.exchange.next()).await,
            };
            let bytes = match step {
                None => Bytes::from_static(b": keep-alive\n\n"),
                Some(Step::Outgoing(Outgoing::Notification(notification))) => {
                    let message = state.origin.notification(notification).to_message();
                    sse::write_event(None, &[message.as_bytes()])
                }
                // There is no asker on a stateless call: nobody can have put a question.
                Some(Step::Outgoing(Outgoing::Question(_))) => continue,
                Some(Step::Answer(answer)) => {
                    state.done = true;
                    let answer = state.origin.answer(answer);
                    let text = text::answer(&state.origin.id, answer, Era::Stateless);
                    sse::write_event(None, &[&text])
                }
            };
            return Some((bytes, state));
        }
    })
}
