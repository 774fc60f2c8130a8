//! What a session gets outside its calls: list changes and resource updates, as `subscriptions/listen` of the stack
//! yields them.

use std::sync::Arc;

use serde_json::json;
use tokio::{sync::oneshot, time::sleep};

use super::{
    exchange::{Exchange, Step},
    outlet::{Outlet, Writer},
    session::Session,
};
use crate::{
    Error, ErrorKind, Json, Method, Notification, Object, Request, Response, Seam,
    notifier::Outgoing, protocol::meta,
};

/// The members of a filter that ask for [`Method::LIST_CHANGES`], in the same order.
const KINDS: [&str; 3] = [
    "toolsListChanged",
    "promptsListChanged",
    "resourcesListChanged",
];

/// Listens for the list changes that the server declares to announce, for as long as the session lives.
pub(super) fn listen<S: Seam>(service: &S, session: &Arc<Session>, outlet: &Arc<impl Outlet>) {
    let announced = session.announced();
    if announced == 0 {
        return;
    }
    let mut filter = Object::default();
    for (at, kind) in KINDS.into_iter().enumerate() {
        if announced & (1 << at) != 0 {
            filter.set(kind, Json::composed("true"));
        }
    }
    let filter = filter.to_json();
    session.listen(|| {
        let (service, outlet) = (service.clone(), Arc::clone(outlet));
        let lifecycle = session.lifecycle.clone();
        let backoff = lifecycle.backoff();
        let session = Arc::downgrade(session);
        let work = async move {
            let mut backoff = backoff;
            let mut missed = false;
            loop {
                let Some(session) = session.upgrade() else {
                    return;
                };
                let (acknowledge, acknowledged) = oneshot::channel();
                let follow = follow(&service, &session, &*outlet, filter.clone(), acknowledge);
                // Boxed: it ends soon, and then takes no room any more.
                let catch_up = Box::pin(catch_up(&session, &*outlet, acknowledged, missed));
                let (ended, ()) = tokio::join!(follow, catch_up);
                missed = true;
                if session.key.is_closed()
                    || ended.is_err_and(|error| error.kind() == ErrorKind::MethodNotFound)
                {
                    return;
                }
                drop(session);
                sleep(backoff.pause()).await;
            }
        };
        lifecycle.spawn(work).abort_handle()
    });
}

/// Sends the client the list changes that may have been made before the stack was listened to: a server of the session
/// era announces them from the beginning, others only to listeners.
async fn catch_up(
    session: &Session,
    outlet: &impl Outlet,
    acknowledged: oneshot::Receiver<Json>,
    missed: bool,
) {
    let Ok(honoured) = acknowledged.await else {
        return;
    };
    let acted = session.heeds();
    if !(acted || missed) {
        return;
    }
    for (kind, method) in KINDS.into_iter().zip(Method::LIST_CHANGES) {
        let on = honoured.member(kind);
        if on.is_some_and(|on| on.as_str() == "true") {
            let message = Notification::new(method, None).to_message();
            outlet.push(message.into_bytes()).await;
        }
    }
}

/// Subscribes to a resource. Returns once the subscription stands or is refused.
pub(super) async fn subscribe<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    uri: &str,
    outlet: &Arc<impl Outlet>,
) -> Result<Response, Error> {
    listen(service, session, outlet);
    let filter = json!({ "resourceSubscriptions": [uri] });
    let (acknowledge, acknowledged) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let task = session.lifecycle.spawn({
        let (service, session, outlet) = (service.clone(), Arc::clone(session), Arc::clone(outlet));
        async move {
            let filter = filter.into();
            // Only a refusal is waited for.
            let _ = ended.send(follow(&service, &session, &*outlet, filter, acknowledge).await);
        }
    });
    let handle = task.abort_handle();
    let refused = || {
        Error::new(
            ErrorKind::InvalidParams,
            "the resource does not take subscriptions",
        )
    };
    match acknowledged.await {
        // Nothing of what was asked for is honoured.
        Ok(honoured) if honoured.as_str() == "{}" => {
            handle.abort();
            Err(refused())
        }
        Ok(_) => session.subscribed(uri, handle).map(|()| Response::empty()),
        Err(_) => match end.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(refused()),
        },
    }
}

/// Runs one `subscriptions/listen` and writes what it yields; what is honoured of the filter goes to `acknowledge`.
async fn follow<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    outlet: &impl Outlet,
    filter: Json,
    acknowledge: oneshot::Sender<Json>,
) -> Result<Response, Error> {
    let mut params = Object::default();
    params.set("notifications", filter);
    let request = session.complete(Request::from_object(
        Method::SUBSCRIPTIONS_LISTEN,
        Some(params),
    )?);
    let mut acknowledge = Some(acknowledge);
    let mut writer = Writer::new(session, outlet);
    let mut exchange = Exchange::start_within(session.lifecycle.stall(), service, request, true);
    loop {
        match writer.with_withdrawals(exchange.next()).await {
            Step::Answer(answer) => return answer,
            Step::Outgoing(Outgoing::Notification(notification))
                if *notification.method() == Method::ACKNOWLEDGED =>
            {
                let honoured = notification
                    .params()
                    .and_then(|params| params.member("notifications"));
                if let Some(acknowledge) = acknowledge.take() {
                    // Whoever waited may be gone.
                    let _ = acknowledge.send(honoured.unwrap_or(Json::NULL));
                }
            }
            Step::Outgoing(Outgoing::Notification(notification)) => {
                let message = without_subscription(notification).to_message();
                Box::pin(outlet.push(message.into_bytes())).await;
            }
            Step::Outgoing(outgoing @ Outgoing::ServerRequest(_)) => {
                // Boxed: it is rare, and would be the largest part of what an open stream costs.
                Box::pin(writer.write(outgoing)).await?;
            }
        }
    }
}

/// Takes the subscription id out, which sessions do not have.
fn without_subscription(notification: Notification) -> Notification {
    let named = notification
        .params()
        .and_then(|params| params.member("_meta"))
        .is_some_and(|own| own.member(meta::SUBSCRIPTION_ID).is_some());
    if !named {
        return notification;
    }
    let notification = notification.with_meta(meta::SUBSCRIPTION_ID, None);
    let params = notification
        .params()
        .and_then(|params| Object::index(params).ok());
    match params {
        Some(mut params) if params.get("_meta").is_some_and(|m| m.as_str() == "{}") => {
            params.remove("_meta");
            notification.with_params(params.to_json())
        }
        _ => notification,
    }
}
