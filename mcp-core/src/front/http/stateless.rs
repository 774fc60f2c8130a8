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
    Era, Error, ErrorKind, Json, Method, Notification, Object, Principal, Request, Seam,
    TraceContext,
    front::exchange::{Exchange, Step},
    jsonrpc::{Id, Malformed, Message},
    notifier::Outgoing,
    protocol::meta,
    sse,
};

/// Methods of the session era, which revision 2026-07-28 removed.
const REMOVED: [&str; 10] = [
    "initialize",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "tasks/list",
    "tasks/result",
];

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
            return reply::refusal(StatusCode::BAD_REQUEST, &error, Era::Modern);
        }
        Err(malformed) => {
            return reply::failure(malformed.id.as_ref(), &malformed.error, Era::Modern);
        }
    };
    let request = match admit(parts, &method, params, default_principal) {
        Ok(request) => request,
        Err(error) => {
            let status = match error.status(Era::Modern) {
                StatusCode::OK => StatusCode::BAD_REQUEST,
                status => status,
            };
            return reply::failure(Some(&id), &error.with_status(status), Era::Modern);
        }
    };
    let subscription = method == Method::SUBSCRIPTIONS_LISTEN;
    let mut exchange = Exchange::start(service, request, false);
    let first = match pulse.within(exchange.next()).await {
        Some(Step::Answer(answer)) if subscription => {
            return reply::answer(&id, answer.map(|answer| end_of(answer, &id)), Era::Modern);
        }
        Some(Step::Answer(answer)) => return reply::answer(&id, answer, Era::Modern),
        Some(Step::Outgoing(outgoing)) => Some(outgoing),
        None => None,
    };
    reply::events(ResponseBody::stream(events(Streaming {
        exchange,
        first,
        id,
        subscription,
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
    let facts = rules::read_facts(headers, params.as_ref())?;
    if REMOVED.contains(&method.as_str()) {
        return Err(Error::new(
            ErrorKind::MethodNotFound,
            format!("{method} does not exist in revision 2026-07-28"),
        ));
    }
    rules::check_mirrors(headers, method, params.as_ref())?;
    let mirrored = rules::param_headers(headers)?;
    let principal = parts
        .extensions
        .get::<Principal>()
        .cloned()
        .unwrap_or_else(default_principal);
    let mut request = Request::from_object(method.clone(), params)?
        .with_principal(principal)
        .with_version(facts.version)
        .with_capabilities(facts.capabilities)
        .with_log_level(facts.log_level)
        .with_trace(TraceContext::from_meta(&facts.meta))
        .with_mirrored(mirrored);
    if let Some(info) = facts.client_info {
        request = request.with_client_info(info);
    }
    Ok(request)
}

struct Streaming {
    exchange: Exchange,
    first: Option<Outgoing>,
    id: Id,
    subscription: bool,
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
                    state.notification(notification)
                }
                // There is no asker on a stateless call: nobody can have put a question.
                Some(Step::Outgoing(Outgoing::Question(_))) => continue,
                Some(Step::Answer(answer)) => {
                    state.done = true;
                    let answer = match state.subscription {
                        true => answer.map(|answer| end_of(answer, &state.id)),
                        false => answer,
                    };
                    sse::write_event(None, &[&reply::text(&state.id, answer, Era::Modern)])
                }
            };
            return Some((bytes, state));
        }
    })
}

impl Streaming {
    fn notification(&self, notification: Notification) -> Bytes {
        let notification = match self.subscription {
            true => notification.with_meta(meta::SUBSCRIPTION_ID, Some(self.id.as_json().clone())),
            false => notification,
        };
        sse::write_event(None, &[notification.to_message().as_bytes()])
    }
}

/// Names the client's own subscription in the result that ends it.
fn end_of(answer: crate::Response, id: &Id) -> crate::Response {
    let Ok(mut result) = Object::try_from(answer.result().clone()) else {
        return answer;
    };
    let mut own = result
        .get("_meta")
        .and_then(|meta| Object::try_from(meta).ok())
        .unwrap_or_default();
    own.set(meta::SUBSCRIPTION_ID, id.as_json().clone());
    result.set("_meta", Json::from(own));
    answer.with_result(result.to_json())
}
