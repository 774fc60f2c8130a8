//! The body of a server's answer.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError};
use mcp_core::{
    Error, ErrorKind,
    http_client::{IncomingBody, content_coding, read_whole},
    jsonrpc::{Glimpse, Message, Messages},
    sse::{Event, EventReader},
};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::error;

/// How long the end of a body that has been read as far as it matters is waited for.
const TAIL: Duration = Duration::from_secs(1);

/// How long the answer to a call may take after one to another call came in its place.
const STRAY: Duration = Duration::from_secs(1);

/// An answer whose head has arrived.
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    body: IncomingBody,
    limit: usize,
}

impl Reply {
    pub(super) fn new(response: http::Response<IncomingBody>, limit: usize) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            headers: parts.headers,
            body,
            limit,
        }
    }

    /// Returns whether the body is a stream of events.
    pub(super) fn is_events(&self) -> bool {
        self.headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                let essence = value.split(';').next().unwrap_or_default();
                essence.trim().eq_ignore_ascii_case("text/event-stream")
            })
    }

    /// Reads the messages that the body is: one, or a batch of revision 2025-03-26.
    pub(super) async fn messages(self) -> Result<Messages, Error> {
        if let Some(coding) = content_coding(&self.headers) {
            return Err(coded(&coding));
        }
        let Self {
            headers,
            body,
            limit,
        } = self;
        let body = match read_whole(body, limit).await {
            Ok(body) => body,
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(limit)),
            Err(error) => return Err(error::broke(error)),
        };
        parse(&body).map_err(|unreadable| {
            let kind = content_type(&headers);
            Error::new(
                ErrorKind::BadUpstream,
                format!("the server answered with {kind} that is not a JSON-RPC message"),
            )
            .with_source(unreadable.error)
        })
    }

    /// Reads the body as events.
    pub(super) fn events(self) -> Events {
        Events {
            body: self.body,
            reader: EventReader::new(self.limit),
            limit: self.limit,
            coding: content_coding(&self.headers),
            end: None,
        }
    }

    /// Lets the body go without closing its connection, if it is short.
    pub(super) fn discard(self) {
        finish(self.body);
    }
}

/// Names the type of a body, as it may be shown.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.split(';').next()) {
        Some(kind) => kind.chars().take(64).collect(),
        None => "something of no content type".to_owned(),
    }
}

/// Events as they arrive.
pub(super) struct Events {
    body: IncomingBody,
    reader: EventReader,
    limit: usize,
    /// A content coding that is not read.
    coding: Option<String>,
    /// When to stop reading, and why.
    end: Option<Box<(Instant, Error)>>,
}

impl Events {
    /// Stops reading a little later: what came makes it doubtful that the answer will.
    pub(super) fn end_soon(&mut self, why: Error) {
        self.end
            .get_or_insert_with(|| Box::new((Instant::now() + STRAY, why)));
    }

    /// Returns the next event; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Error> {
        match self.end.is_some() {
            false => self.read().await,
            // Boxed, so that a call that goes well is small.
            true => Box::pin(self.read_to_end()).await,
        }
    }

    async fn read_to_end(&mut self) -> Result<Option<Event>, Error> {
        let Some((end, why)) = self.end.as_deref().cloned() else {
            return self.read().await;
        };
        match timeout_at(end, self.read()).await {
            Ok(Ok(Some(event))) => Ok(Some(event)),
            _ => Err(why),
        }
    }

    async fn read(&mut self) -> Result<Option<Event>, Error> {
        if let Some(coding) = &self.coding {
            return Err(coded(coding));
        }
        loop {
            match self.reader.next_event() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(_) => return Err(too_large(self.limit)),
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error::broke(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.reader.push_shared(data);
                    }
                }
            }
        }
    }

    /// Lets the stream go once its answer has been read: its connection is kept if it ends soon.
    pub(super) fn finish(self) {
        finish(self.body);
    }
}

/// What cannot be read as a message.
pub(super) struct Unreadable {
    pub(super) error: Error,
    /// The call that it answers, as far as its beginning says.
    pub(super) call: Option<u64>,
}

/// Reads the messages of an event. Events of a type other than `message` are not for us (WHATWG HTML, section 9.2), and
/// some have no data.
pub(super) fn event_messages(event: &Event) -> Result<Messages, Unreadable> {
    let kind = event.event.as_deref().unwrap_or_default();
    match &event.data {
        Some(data) if !data.is_empty() && matches!(kind, "" | "message") => parse(data),
        _ => Ok(None.into_iter().chain(Vec::new())),
    }
}

fn parse(text: &Bytes) -> Result<Messages, Unreadable> {
    Message::parse_any(text).map_err(|malformed| Unreadable {
        error: Error::new(
            ErrorKind::BadUpstream,
            "the server answered something that is not a JSON-RPC message",
        )
        .with_source(malformed.error),
        call: Glimpse::of(text).answered(),
    })
}

fn coded(coding: &str) -> Error {
    Error::new(
        ErrorKind::BadUpstream,
        format!("the server answered in the content coding {coding}, which was not asked for"),
    )
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the server sent a message of more than {limit} bytes"),
    )
}

/// Reads what is left of a body, so that its connection can be used again. Usually nothing is.
fn finish(mut body: IncomingBody) {
    if body.is_end_stream() || matches!(body.frame().now_or_never(), Some(None)) {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // A stream that does not end is closed with its connection.
        let _ = timeout(TAIL, rest).await;
    });
}
