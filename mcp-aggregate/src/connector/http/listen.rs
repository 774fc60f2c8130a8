//! Listening to servers of the session era.

use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use http::StatusCode;
use mcp_core::{
    Backoff, Error, ErrorKind, Request, Response, SubscriptionFilter,
    pipe::{Listening, unsubscribing},
};
use tokio::time::{Duration, Instant, sleep};

use super::{
    error::Failed,
    reply::{Reply, event_messages},
    session::{Background, Session},
    slot::Slot,
};

/// A stream that lived this long was of use even if it brought nothing.
const LIVED: Duration = Duration::from_secs(10);

/// Answers `subscriptions/listen` for as long as the caller waits, across the sessions that the server loses.
pub(super) async fn call(slot: &Arc<Slot>, request: &Request) -> Result<Response, Failed> {
    let mut listening = Listening::default();
    let mut backoff = slot.backoff();
    loop {
        let started = Instant::now();
        match listen_once(slot, request, &mut listening).await {
            Err(Failed::Expired(_)) => {}
            // Once the client listens, it stays so: the server may come back.
            Err(Failed::Error(error)) if listening.is_acknowledged() && is_unavailable(&error) => {}
            other => return other,
        }
        if started.elapsed() > LIVED {
            backoff.reset();
        }
        sleep(backoff.pause()).await;
    }
}

fn is_unavailable(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotSent | ErrorKind::Unavailable | ErrorKind::Timeout
    )
}

/// Listens in one session.
async fn listen_once(
    slot: &Arc<Slot>,
    request: &Request,
    listening: &mut Listening,
) -> Result<Response, Failed> {
    let session = slot.session(request).await?;
    let mut ticket = session
        .inbox
        .attach(request, SubscriptionFilter::read(request))
        .map_err(Failed::Expired)?;
    start_stream(slot, &session);
    let replies = Background(Arc::clone(&session));
    let follow = async {
        let nothing = std::pin::pin!(std::future::pending());
        match ticket.drive(request, &replies, nothing).await? {
            Err(error) if session.is_over() => Err(Failed::Expired(error)),
            ended => ended.map_err(Failed::Error),
        }
    };
    let call = |request: Request| {
        let (slot, session) = (slot, &session);
        async move {
            let answer = session.exchange(&request).await;
            if let Err(Failed::Expired(_)) = &answer {
                slot.expire(session);
            }
            answer
        }
        .boxed()
    };
    let unsubscribe = |uri: &str| end_subscription(&session, uri);
    listening
        .run(request, &call, follow.boxed(), unsubscribe)
        .await
}

/// Ends a subscription in the background: the call that subscribed is over.
fn end_subscription(session: &Arc<Session>, uri: &str) {
    if session.is_over() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    if let Ok(request) = unsubscribing(uri, &session.opener) {
        let session = Arc::clone(session);
        runtime.spawn(async move {
            // A server that is gone has forgotten the subscription.
            let _ = session.exchange(&request).await;
        });
    }
}

/// Reads the standalone stream of a session for as long as the session lasts.
pub(super) fn start_stream(slot: &Arc<Slot>, session: &Arc<Session>) {
    session.stream(|| {
        let backoff = slot.backoff();
        let (slot, session) = (Arc::downgrade(slot), Arc::downgrade(session));
        tokio::spawn(read_stream(slot, session, backoff).boxed()).abort_handle()
    });
}

async fn read_stream(slot: Weak<Slot>, weak: Weak<Session>, mut backoff: Backoff) {
    let mut last: Option<String> = None;
    let mut opened = false;
    loop {
        let Some(session) = weak.upgrade() else {
            return;
        };
        let answer = session.standalone(last.as_deref()).await;
        session.stream_answered.cancel();
        match answer {
            Ok(reply) if reply.is_events() => {
                drop(session);
                opened = true;
                let started = Instant::now();
                let read = read_events(&weak, reply, &mut last).await;
                if let Some(retry) = read.retry {
                    backoff.set_shortest(retry);
                }
                if read.any || started.elapsed() > LIVED {
                    backoff.reset();
                }
            }
            // The server has no such stream.
            Ok(_) => return,
            // A stream that was never open is not there; if the session is lost, the next POST says so.
            Err(refused) if !opened && refused.status.is_client_error() => return,
            Err(refused) if session.is_expired_by(&refused) => {
                if let Some(slot) = slot.upgrade() {
                    slot.expire(&session);
                }
                return;
            }
            Err(refused) if is_absent(refused.status) => return,
            Err(_) => drop(session),
        }
        sleep(backoff.pause()).await;
    }
}

fn is_absent(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND
    )
}

/// What one connection of a stream has brought.
#[derive(Default)]
struct StreamRead {
    /// How long the server asks to wait before the next.
    retry: Option<Duration>,
    /// Whether there was any message.
    any: bool,
}

/// Delivers events until the stream ends.
async fn read_events(weak: &Weak<Session>, reply: Reply, last: &mut Option<String>) -> StreamRead {
    let mut events = reply.events();
    let mut read = StreamRead::default();
    while let Ok(Some(event)) = events.next().await {
        if event.id.is_some() {
            last.clone_from(&event.id);
        }
        read.retry = event.retry.map(Duration::from_millis).or(read.retry);
        // What is not a message is passed over: the stream continues after it.
        for message in event_messages(&event).into_iter().flatten() {
            let Some(session) = weak.upgrade() else {
                return read;
            };
            read.any = true;
            session.deliver_apart(message);
        }
    }
    read
}
