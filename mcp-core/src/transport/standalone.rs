//! What a session is told outside its calls: list changes and resource updates, as `subscriptions/listen` of
//! the stack yields them.

use std::sync::Arc;

use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{Duration, sleep},
};

use super::{
    exchange::{Exchange, Step},
    outlet::{Outlet, Writer},
    session::Session,
};
use crate::{
    Error, ErrorKind, Json, Method, Notification, Object, Request, Response, Seam,
    notifier::Outgoing, protocol::meta,
};

/// How long to wait before listening again when a listener ended: doubled each time, up to the second.
const LISTEN_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The members of a filter that ask for [`Method::LIST_CHANGES`], in the same order.
const KINDS: [&str; 3] = [
    "toolsListChanged",
    "promptsListChanged",
    "resourcesListChanged",
];

/// Listens for list changes, for as long as the session lives.
pub(super) fn listen<S: Seam>(service: &S, session: &Arc<Session>, outlet: &Arc<impl Outlet>) {
    session.listen(|| {
        let (service, outlet) = (service.clone(), Arc::clone(outlet));
        let session = Arc::downgrade(session);
        tokio::spawn(async move {
            let mut pause = LISTEN_AGAIN.0;
            let mut missed = false;
            loop {
                let Some(session) = session.upgrade() else {
                    return;
                };
                let filter = json!({ KINDS[0]: true, KINDS[1]: true, KINDS[2]: true });
                let (acknowledge, acknowledged) = oneshot::channel();
                let follow = follow(&service, &session, &*outlet, filter.into(), acknowledge);
                let catch_up = catch_up(&session, &*outlet, acknowledged, missed);
                let (ended, ()) = tokio::join!(follow, catch_up);
                missed = true;
                if session.key.is_closed()
                    || ended.is_err_and(|error| error.kind() == ErrorKind::MethodNotFound)
                {
                    return;
                }
                drop(session);
                sleep(pause).await;
                pause = (pause * 2).min(LISTEN_AGAIN.1);
            }
        })
        .abort_handle()
    });
}

/// Tells the client what it may have missed before it was listened for: a server of the session era would have told it
/// from the beginning, others only tell those who listen.
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
        if honoured
            .member(kind)
            .is_some_and(|on| on.as_str() == "true")
        {
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
    let task = tokio::spawn({
        let (service, session, outlet) = (service.clone(), Arc::clone(session), Arc::clone(outlet));
        async move {
            let filter = filter.into();
            follow(&service, &session, &*outlet, filter, acknowledge).await
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
        Ok(_) => {
            session.subscribed(uri, handle);
            Ok(Response::empty())
        }
        Err(_) => match task.await {
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
    let mut exchange = Exchange::start(service, request, true);
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
                outlet.push(message.into_bytes()).await;
            }
            Step::Outgoing(outgoing @ Outgoing::Question(_)) => writer.write(outgoing).await?,
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
