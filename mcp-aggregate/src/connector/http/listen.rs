//! Listening to servers of the session era.

use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use http::StatusCode;
use mcp_core::{
    Error, ErrorKind, Json, Method, Notification, Object, Request, Response, pipe::Filter,
};
use tokio::time::{Duration, Instant, sleep};

use super::{
    error::Failed,
    reply::{Reply, event_messages},
    session::{Background, Session},
    slot::Slot,
    wire::Wire,
};

/// How long to wait before a broken stream is taken up again: doubled each time, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Answers `subscriptions/listen` for as long as the caller waits, across the sessions that the server loses.
pub(super) async fn call(
    slot: &Arc<Slot>,
    wire: &Arc<Wire>,
    request: &Request,
) -> Result<Response, Failed> {
    let filter = Filter::read(request);
    let mut acknowledged = false;
    let mut pause = AGAIN.0;
    loop {
        let started = Instant::now();
        match listen_once(slot, wire, request, &filter, &mut acknowledged).await {
            Err(Failed::Expired) => {}
            // Once it listens, it goes on listening: the server may come back.
            Err(Failed::Error(error)) if acknowledged && is_away(&error) => {}
            other => return other,
        }
        if started.elapsed() > AGAIN.1 {
            pause = AGAIN.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

fn is_away(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotSent | ErrorKind::Unavailable | ErrorKind::Timeout
    )
}

async fn listen_once(
    slot: &Arc<Slot>,
    wire: &Arc<Wire>,
    request: &Request,
    filter: &Filter,
    acknowledged: &mut bool,
) -> Result<Response, Failed> {
    let session = slot.session(wire, request).await?;
    let mut ticket = session
        .inbox
        .attach(request, filter.clone())
        .map_err(|_| Failed::Expired)?;
    start_stream(slot, &session);
    let replies = Background(Arc::clone(&session));
    let _unsubscribe = Unsubscribe {
        session: &session,
        filter,
    };
    for uri in filter.uris() {
        let subscribe = with_uri(Method::RESOURCES_SUBSCRIBE, uri)?.with_facts_of(request);
        match session.exchange(&subscribe).await {
            Ok(_) => {}
            Err(Failed::Expired) => {
                slot.expire(&session);
                return Err(Failed::Expired);
            }
            Err(other) => return Err(other),
        }
    }
    if *acknowledged {
        // Not sooner: what changes from here on is told by the server.
        tell_of_gap(request, filter).await?;
    } else {
        let mut params = Object::default();
        params.set("notifications", filter.to_json());
        let notification = Notification::new(Method::ACKNOWLEDGED, Some(params.to_json()));
        request.notifier().notify(notification).await?;
        *acknowledged = true;
    }
    let ended = ticket
        .drive(request, &replies, std::future::pending())
        .await?;
    match ended {
        Err(_) if session.is_over() => Err(Failed::Expired),
        ended => ended.map_err(Failed::Error),
    }
}

/// Says that whatever the client listens to may have changed while the server was away.
async fn tell_of_gap(request: &Request, filter: &Filter) -> Result<(), Error> {
    for method in Method::LIST_CHANGES {
        let notification = Notification::new(method, None);
        if filter.wants(&notification) {
            request.notifier().notify(notification).await?;
        }
    }
    for uri in filter.uris() {
        let mut params = Object::default();
        params.set("uri", Json::string(uri));
        let updated = Notification::new(Method::RESOURCE_UPDATED, Some(params.to_json()));
        request.notifier().notify(updated).await?;
    }
    Ok(())
}

fn with_uri(method: Method, uri: &str) -> Result<Request, Error> {
    let mut params = Object::default();
    params.set("uri", Json::string(uri));
    Request::from_object(method, Some(params))
}

/// Ends the subscriptions of a listener that is gone.
struct Unsubscribe<'a> {
    session: &'a Arc<Session>,
    filter: &'a Filter,
}

impl Drop for Unsubscribe<'_> {
    fn drop(&mut self) {
        if self.session.is_over() || self.filter.uris().is_empty() {
            return;
        }
        let (session, filter) = (Arc::clone(self.session), self.filter.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            for uri in filter.uris() {
                if let Ok(request) = with_uri(Method::RESOURCES_UNSUBSCRIBE, uri) {
                    let request = request.with_facts_of(&session.opener);
                    // A server that is gone has forgotten the subscription.
                    let _ = session.exchange(&request).await;
                }
            }
        });
    }
}

/// Reads the standing stream of a session for as long as the session lasts.
fn start_stream(slot: &Arc<Slot>, session: &Arc<Session>) {
    session.stream(|| {
        let (slot, session) = (Arc::downgrade(slot), Arc::downgrade(session));
        tokio::spawn(read_stream(slot, session).boxed()).abort_handle()
    });
}

async fn read_stream(slot: Weak<Slot>, weak: Weak<Session>) {
    let mut last: Option<String> = None;
    let mut pause = AGAIN.0;
    loop {
        let Some(session) = weak.upgrade() else {
            return;
        };
        match session.standing(last.as_deref()).await {
            Ok(reply) if reply.is_events() => {
                pause = AGAIN.0;
                drop(session);
                if let Some(retry) = read_events(&weak, reply, &mut last).await {
                    pause = retry;
                }
            }
            // The server has no such stream.
            Ok(_) => return,
            Err(refused) if session.is_expired_by(&refused) => {
                if let Some(slot) = slot.upgrade() {
                    slot.expire(&session);
                }
                return;
            }
            Err(refused)
                if matches!(
                    refused.status,
                    StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND
                ) =>
            {
                return;
            }
            Err(_) => drop(session),
        }
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

/// Delivers events until the stream ends. Returns the pause that the server asks for.
async fn read_events(
    weak: &Weak<Session>,
    reply: Reply,
    last: &mut Option<String>,
) -> Option<Duration> {
    let mut events = reply.events();
    let mut retry = None;
    while let Ok(Some(event)) = events.next().await {
        if event.id.is_some() {
            last.clone_from(&event.id);
        }
        retry = event.retry.map(Duration::from_millis).or(retry);
        // What is not a message is passed over: the stream goes on after it.
        for message in event_messages(&event).into_iter().flatten() {
            weak.upgrade()?.deliver_apart(message);
        }
    }
    retry
}
