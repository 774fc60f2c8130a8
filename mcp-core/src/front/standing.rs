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

/// Listens for list changes, for as long as the session lives.
pub(super) fn listen<S: Seam>(service: &S, session: &Arc<Session>, outlet: &Arc<impl Outlet>) {
    session.listen(|| {
        let (service, outlet) = (service.clone(), Arc::clone(outlet));
        let session = Arc::downgrade(session);
        tokio::spawn(async move {
            let mut pause = LISTEN_AGAIN.0;
            loop {
                let Some(session) = session.upgrade() else {
                    return;
                };
                let filter = json!({
                    "toolsListChanged": true,
                    "promptsListChanged": true,
                    "resourcesListChanged": true,
                });
                let ended = follow(&service, &session, &*outlet, filter.into(), None).await;
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
            follow(&service, &session, &*outlet, filter, Some(acknowledge)).await
        }
    });
    let handle = task.abort_handle();
    match acknowledged.await {
        Ok(()) => {
            session.subscribed(uri, handle);
            Ok(Response::empty())
        }
        Err(_) => match task.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(Error::new(
                ErrorKind::InvalidParams,
                "the resource does not take subscriptions",
            )),
        },
    }
}

/// Runs one `subscriptions/listen` and writes what it yields.
async fn follow<S: Seam>(
    service: &S,
    session: &Arc<Session>,
    outlet: &impl Outlet,
    filter: Json,
    mut acknowledge: Option<oneshot::Sender<()>>,
) -> Result<Response, Error> {
    let mut params = Object::default();
    params.set("notifications", filter);
    let request = session.complete(Request::from_object(
        Method::SUBSCRIPTIONS_LISTEN,
        Some(params),
    )?);
    let mut writer = Writer::new(session, outlet);
    let mut exchange = Exchange::start(service, request, true);
    loop {
        match writer.with_withdrawals(exchange.next()).await {
            Step::Answer(answer) => return answer,
            Step::Outgoing(Outgoing::Notification(notification))
                if *notification.method() == Method::ACKNOWLEDGED =>
            {
                if let Some(acknowledge) = acknowledge.take() {
                    if notification.params().is_some_and(is_refusal) {
                        return Ok(Response::empty());
                    }
                    let _ = acknowledge.send(());
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

/// Whether an acknowledgement says that nothing of what was asked for is honoured.
fn is_refusal(params: &Json) -> bool {
    params
        .member("notifications")
        .is_some_and(|filter| filter.as_str() == "{}")
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
