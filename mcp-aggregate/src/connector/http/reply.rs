//! The body of a server's answer.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError};
use hyper::body::Incoming;
use mcp_core::{
    Error, ErrorKind,
    http_client::read_whole,
    jsonrpc::Message,
    sse::{Event, EventReader},
};
use tokio::time::{Duration, timeout};

use super::error;

/// How long the end of a body that has been read as far as it matters is waited for.
const TAIL: Duration = Duration::from_secs(1);

/// An answer whose head has arrived.
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    body: Incoming,
    limit: usize,
}

impl Reply {
    pub(super) fn new(response: http::Response<Incoming>, limit: usize) -> Self {
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

    /// Reads the one message that the body is.
    pub(super) async fn message(self) -> Result<Message, Error> {
        let body = match read_whole(self.body, self.limit).await {
            Ok(body) => body,
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(self.limit)),
            Err(error) => return Err(error::broke(error)),
        };
        parse(&body)
    }

    /// Reads the body as events.
    pub(super) fn events(self) -> Events {
        Events {
            body: self.body,
            reader: EventReader::new(self.limit),
            limit: self.limit,
        }
    }

    /// Lets the body go without closing its connection, if it is short.
    pub(super) fn discard(self) {
        finish(self.body);
    }
}

/// Events as they arrive.
pub(super) struct Events {
    body: Incoming,
    reader: EventReader,
    limit: usize,
}

impl Events {
    /// Returns the next event; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Error> {
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

/// Reads the message of an event; `None` for an event without one.
pub(super) fn event_message(event: &Event) -> Result<Option<Message>, Error> {
    match &event.data {
        Some(data) if !data.is_empty() => parse(data).map(Some),
        _ => Ok(None),
    }
}

fn parse(text: &Bytes) -> Result<Message, Error> {
    Message::parse(text).map_err(|malformed| {
        Error::new(
            ErrorKind::BadUpstream,
            "the server answered something that is not a JSON-RPC message",
        )
        .with_source(malformed.error)
    })
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the server sent a message of more than {limit} bytes"),
    )
}

/// Reads what is left of a body, so that its connection can be used again. Usually nothing is.
fn finish(mut body: Incoming) {
    if body.is_end_stream() || matches!(body.frame().now_or_never(), Some(None)) {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // A stream that goes on is closed with its connection.
        let _ = timeout(TAIL, rest).await;
    });
}
