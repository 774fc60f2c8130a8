//! Reading the answer to a call of the session era, and what comes before it.

use http::{HeaderValue, Method as HttpMethod};
use mcp_core::{
    Error, ErrorKind, Response,
    jsonrpc::{Id, Message},
    sse::Event,
};
use tokio::{
    task::yield_now,
    time::{Duration, sleep},
};

use super::{
    reply::{Events, Reply, event_messages},
    session::{LAST_EVENT_ID, Session},
    wire::Refused,
};

/// How often in a row a stream that broke is taken up again without bringing anything new, before its call fails.
const FRUITLESS: u32 = 5;

/// The shortest and the longest time before a stream is taken up again, whatever its server asks for.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// How far the stream of a call has been read.
struct Place {
    /// The id of the last event.
    last: Option<String>,
    pause: Duration,
    /// How often in a row the stream was taken up again without anything new.
    fruitless: u32,
    /// Why something on the stream could not be read.
    unread: Option<Error>,
}

impl Place {
    fn start() -> Self {
        Self {
            last: None,
            pause: Duration::from_secs(1),
            fruitless: 0,
            unread: None,
        }
    }

    fn note(&mut self, event: &Event) {
        if let Some(millis) = event.retry {
            self.pause = Duration::from_millis(millis);
        }
        if event.id.is_some() && event.id != self.last {
            self.last.clone_from(&event.id);
            self.fruitless = 0;
        }
    }
}

/// Reads the answer to a call and what comes before it. Completes only if there will be none.
pub(super) async fn read(session: &Session, reply: Reply, call: u64) -> Error {
    let read = match reply.is_events() {
        true => read_events(session, reply.events(), call).await,
        false => read_whole(session, reply, call).await,
    };
    match read {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

async fn read_whole(session: &Session, reply: Reply, call: u64) -> Result<(), Error> {
    for message in reply.messages().await? {
        if take(session, message, call)? {
            return Ok(());
        }
        yield_now().await;
    }
    Err(no_answer())
}

async fn read_events(session: &Session, mut events: Events, call: u64) -> Result<(), Error> {
    let mut place = Place::start();
    loop {
        let read = read_stream(session, &mut events, call, &mut place).await?;
        let Some(broke) = read else {
            events.finish();
            return Ok(());
        };
        let (Some(last), true) = (&place.last, place.fruitless < FRUITLESS) else {
            return Err(place.unread.take().unwrap_or(broke));
        };
        place.fruitless += 1;
        sleep(place.pause.clamp(PAUSE.0, PAUSE.1)).await;
        events = match Box::pin(resume(session, last)).await {
            Ok(reply) if reply.is_events() => reply.events(),
            _ => return Err(broke),
        };
    }
}

/// Reads a stream as far as the answer, or returns why it ended without one.
async fn read_stream(
    session: &Session,
    events: &mut Events,
    call: u64,
    place: &mut Place,
) -> Result<Option<Error>, Error> {
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Some(no_answer())),
            // It would be the same again.
            Err(error) if matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::BadUpstream) => {
                return Err(error);
            }
            Err(error) => return Ok(Some(error)),
        };
        place.note(&event);
        let messages = match event_messages(&event) {
            Ok(messages) => messages,
            Err(unreadable) if unreadable.call == Some(call) => return Err(unreadable.error),
            // The answer can still come.
            Err(unreadable) => {
                place.unread = Some(unreadable.error);
                continue;
            }
        };
        for message in messages {
            place.fruitless = 0;
            match take(session, message, call) {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(stray) => events.end_soon(stray),
            }
            // Let what has arrived reach its client before more is read.
            yield_now().await;
        }
    }
}

/// Takes up a stream again that broke (revision 2025-11-25, "Resumability and Redelivery").
async fn resume(session: &Session, last: &str) -> Result<Reply, Refused> {
    let mut headers = session.headers.clone();
    if let Ok(last) = HeaderValue::try_from(last) {
        headers.push((LAST_EVENT_ID, last));
    }
    session
        .wire
        .bare(HttpMethod::GET, &session.opener, &headers)
        .await
}

/// Takes a message of a call's own stream. Returns whether it is the answer.
fn take(session: &Session, message: Message, call: u64) -> Result<bool, Error> {
    let message = match message {
        Message::Response(id, response) if id.names(call) => {
            Message::Response(Id::number(call), response)
        }
        Message::Error(id, error) if id.as_ref().is_none_or(|id| id.names(call)) => {
            Message::Error(Some(Id::number(call)), error)
        }
        Message::Response(id, _) | Message::Error(Some(id), _)
            if !id.to_number().is_some_and(|id| session.inbox.has(id)) =>
        {
            return Err(another(&id, call));
        }
        other => {
            session.reply(session.inbox.deliver(other, Some(call)));
            return Ok(false);
        }
    };
    session.reply(session.inbox.deliver(message, Some(call)));
    Ok(true)
}

/// Reads the answer of a reply that nothing else needs to be read from.
pub(super) async fn first(reply: Reply, id: u64) -> Result<Result<Response, Error>, Error> {
    if !reply.is_events() {
        for message in reply.messages().await? {
            if let Some(answer) = settle(message, id)? {
                return Ok(answer);
            }
        }
        return Err(no_answer());
    }
    let mut events = reply.events();
    let mut unread = None;
    while let Some(event) = events.next().await? {
        match event_messages(&event) {
            Ok(messages) => {
                for message in messages {
                    match settle(message, id) {
                        Ok(Some(answer)) => {
                            events.finish();
                            return Ok(answer);
                        }
                        Ok(None) => {}
                        Err(stray) => events.end_soon(stray),
                    }
                }
            }
            Err(unreadable) if unreadable.call == Some(id) => return Err(unreadable.error),
            Err(unreadable) => unread = Some(unreadable.error),
        }
    }
    Err(unread.unwrap_or_else(no_answer))
}

/// Returns the answer to a call that a message is; `None` if it is no answer.
///
/// Some servers give the id back as text, and none at all in an error.
///
/// # Errors
///
/// It answers another call.
pub(super) fn settle(
    message: Message,
    call: u64,
) -> Result<Option<Result<Response, Error>>, Error> {
    match message {
        Message::Response(id, response) if id.names(call) => Ok(Some(Ok(response))),
        Message::Error(id, error) if id.as_ref().is_none_or(|id| id.names(call)) => {
            Ok(Some(Err(error)))
        }
        Message::Response(id, _) | Message::Error(Some(id), _) => Err(another(&id, call)),
        _ => Ok(None),
    }
}

fn another(id: &Id, call: u64) -> Error {
    let mut id = id.to_string();
    if id.len() > 64 {
        id = "a long id".to_owned();
    }
    Error::new(
        ErrorKind::BadUpstream,
        format!("the server answered the request {id} instead of the request {call}"),
    )
}

pub(super) fn no_answer() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server ended its answer before the result",
    )
}
