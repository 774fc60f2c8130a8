//! Methods that a transport answers itself in a session, and the messages of a batch.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    exchange::Exchange,
    outlet::{self, Outlet},
    session::Session,
    standalone, text,
};
use crate::{
    Era, Error, ErrorKind, Method, Object, Response, Seam,
    jsonrpc::{self, Malformed, Message},
};

/// Whether the transport answers a method of the session era itself.
pub(super) fn is_own(method: &Method) -> bool {
    matches!(
        *method,
        Method::INITIALIZE
            | Method::PING
            | Method::SET_LEVEL
            | Method::RESOURCES_SUBSCRIBE
            | Method::RESOURCES_UNSUBSCRIBE
            | Method::DISCOVER
            | Method::SUBSCRIPTIONS_LISTEN
    )
}

/// Answers what [`is_own`] names. `standalone` takes what comes of a subscription.
pub(super) async fn answer<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    method: &Method,
    params: Option<Object>,
    standalone: &Arc<impl Outlet>,
) -> Result<Response, Error> {
    match *method {
        Method::PING => Ok(Response::empty()),
        Method::SET_LEVEL => session.set_level(service, params).await,
        Method::RESOURCES_SUBSCRIBE => {
            standalone::subscribe(service, session, &uri(params.as_ref())?, standalone).await
        }
        Method::RESOURCES_UNSUBSCRIBE => {
            session.unsubscribe(&uri(params.as_ref())?);
            Ok(Response::empty())
        }
        Method::INITIALIZE => Err(Error::new(
            ErrorKind::InvalidRequest,
            "the session is initialized already",
        )),
        _ => Err(Error::new(
            ErrorKind::MethodNotFound,
            format!("{method} does not exist in this session's revision"),
        )),
    }
}

fn uri(params: Option<&Object>) -> Result<String, Error> {
    params.and_then(|params| params.text("uri")).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidParams,
            "`params.uri` is missing or not a string",
        )
    })
}

/// Joins the answers of a batch to the text of an array.
pub(super) fn array(answers: Vec<Option<Bytes>>) -> Bytes {
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    [b"[", answers.join(&b","[..]).as_slice(), b"]"]
        .concat()
        .into()
}

/// Runs one message of a batch and returns the text of its answer, if it gets one.
pub(super) async fn run_batched<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    message: Result<Message, Malformed>,
    outlet: &impl Outlet,
    standalone: &Arc<impl Outlet>,
) -> Option<Bytes> {
    let (id, method, params) = match message {
        Ok(Message::Request(id, method, params)) => (id, method, params),
        Ok(other) => {
            let notification = session.receive(other)?;
            // A notification has no answer, so an error has no reader.
            let _ = Exchange::start(service, notification, false).answer().await;
            return None;
        }
        Err(Malformed { id, error, .. }) => {
            return Some(jsonrpc::write_error(id.as_ref(), &error.to_rpc(Era::Session)).into());
        }
    };
    if is_own(&method) {
        let answer = answer(service, session, &method, params, standalone).await;
        return Some(text::answer(&id, answer, Era::Session).into());
    }
    match session.call(service, &id, method, params) {
        Ok(call) => outlet::run(session, call, &id, None, outlet).await.ok(),
        Err(error) => Some(text::answer(&id, Err(error), Era::Session).into()),
    }
}
