//! Servers of revision 2026-07-28.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mcp_core::{
    Error, ErrorKind, Json, Method, Notification, Object, Request, Response,
    jsonrpc::{self, Id, Message},
    mirror,
};

use super::{
    answer::{no_answer, settle},
    error,
    reply::{Events, event_messages},
    slot::is_repeatable,
    wire::{PROTOCOL_VERSION, Post, Refused, Wire},
};
use crate::connector::meta;

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Finds out whether the server speaks the revision.
pub(super) async fn probe(wire: &Wire, request: &Request) -> Result<bool, Error> {
    let probe = Request::new(Method::DISCOVER, Some(Json::EMPTY_OBJECT))?.with_context_of(request);
    match exchange(wire, probe).await {
        Ok(answer) => Ok(meta::is_discovery(&answer)),
        Err(refused) if error::is_stateless(refused.status, &refused.error) => Ok(true),
        // Not there, or there and in need of a credential: that says nothing about what it speaks.
        Err(refused)
            if matches!(
                refused.error.kind(),
                ErrorKind::NotSent
                    | ErrorKind::Timeout
                    | ErrorKind::Unauthenticated
                    | ErrorKind::ConsentRequired
                    | ErrorKind::PermissionDenied
                    | ErrorKind::RateLimited
            ) || (refused.status == StatusCode::OK
                && refused.error.kind() == ErrorKind::Unavailable) =>
        {
            Err(refused.error)
        }
        Err(_) => Ok(false),
    }
}

/// Makes a call.
///
/// # Cancel safety
///
/// Dropping the future closes the stream of the call, which cancels it at the server.
pub(super) async fn call(wire: &Wire, request: Request) -> Result<Response, Error> {
    if request.is_notification() {
        // The revision has no notifications from client to server over HTTP.
        return Ok(Response::empty());
    }
    exchange(wire, request)
        .await
        .map_err(|refused| refused.error)
}

async fn exchange(wire: &Wire, mut request: Request) -> Result<Response, Refused> {
    meta::complete(&mut request);
    let id = wire.next_id();
    let body = jsonrpc::write_request(&Id::number(id), request.method(), request.params());
    let post = Post {
        own: &|headers| set_headers(headers, &request),
        body: body.into(),
        repeatable: is_repeatable(&request),
    };
    let reply = wire.post(&request, post).await?;
    if reply.is_events() {
        return Ok(Box::pin(follow(reply.events(), id, &request)).await?);
    }
    for message in reply.messages().await? {
        if let Some(answer) = settle(message, id)? {
            return Ok(answer?);
        }
    }
    Err(no_answer().into())
}

fn set_headers(headers: &mut HeaderMap, request: &Request) {
    let method = match request.method() {
        known if *known == Method::TOOLS_CALL => HeaderValue::from_static("tools/call"),
        other => mirror::encode(other.as_str()),
    };
    headers.insert(PROTOCOL_VERSION, HeaderValue::from_static("2026-07-28"));
    headers.insert(METHOD, method);
    if let Some(name) = request.name() {
        headers.insert(NAME, mirror::encode(name));
    }
    // The arguments that the tool wants mirrored; the client's own headers are never passed on.
    if let Some(mirrors) = request.mirrors() {
        let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
        for (name, value) in mirrors.headers(&arguments) {
            headers.insert(name, value);
        }
    }
}

async fn follow(mut events: Events, id: u64, request: &Request) -> Result<Response, Error> {
    let mut unread = None;
    while let Some(event) = events.next().await? {
        let messages = match event_messages(&event) {
            Ok(messages) => messages,
            Err(unreadable) if unreadable.call == Some(id) => return Err(unreadable.error),
            // The answer can still come.
            Err(unreadable) => {
                unread = Some(unreadable.error);
                continue;
            }
        };
        for message in messages {
            match message {
                Message::Notification(method, params) => {
                    let params = params.as_ref().map(Object::to_json);
                    let notification = Notification::new(method, params);
                    // Boxed, so that a call before whose answer nothing arrives is small.
                    Box::pin(request.notifier().notify(notification)).await?;
                }
                // A server of this revision must not ask: it cannot be answered.
                message => match settle(message, id) {
                    Ok(Some(answer)) => {
                        events.finish();
                        return answer;
                    }
                    Ok(None) => {}
                    Err(stray) => events.end_soon(stray),
                },
            }
        }
    }
    Err(unread.unwrap_or_else(no_answer))
}
