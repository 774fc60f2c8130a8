use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::driven::Lease;
use crate::http_client::{HttpError, HttpErrorKind};

/// The body of an answer, as it arrives.
///
/// Reading it drives its connection: what is not read stays with the server. Read to its end, it leaves the connection to
/// the next request; dropped earlier, it closes the connection unless the rest has arrived already.
pub struct IncomingBody(State);

enum State {
    /// Its connection moves while the body is polled.
    Driven(Incoming, Lease),
    /// Its connection has a task of its own.
    Shared(Incoming),
    Ended,
}

impl IncomingBody {
    pub(super) fn driven(body: Incoming, lease: Lease) -> Self {
        let mut this = Self(State::Driven(body, lease));
        this.release_at_end();
        this
    }

    pub(super) fn shared(body: Incoming) -> Self {
        Self(State::Shared(body))
    }

    fn release_at_end(&mut self) {
        if matches!(&self.0, State::Driven(body, _) if body.is_end_stream()) {
            self.release();
        }
    }

    fn release(&mut self) {
        if let State::Driven(body, lease) = mem::replace(&mut self.0, State::Ended) {
            drop(body);
            lease.release();
        }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = match &mut self.0 {
            State::Driven(body, lease) => lease.poll_frame(cx, body),
            State::Shared(body) => Pin::new(body).poll_frame(cx).map(Some),
            State::Ended => Poll::Ready(Some(None)),
        };
        polled.map(|found| match found {
            Some(Some(Ok(frame))) => {
                self.release_at_end();
                Some(Ok(frame))
            }
            Some(Some(Err(error))) => Some(Err(broke_off().with_source(error))),
            Some(None) => {
                self.release();
                None
            }
            None => Some(Err(broke_off())),
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Driven(body, _) | State::Shared(body) => body.is_end_stream(),
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Driven(body, _) | State::Shared(body) => body.size_hint(),
            State::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for IncomingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IncomingBody")
    }
}

fn broke_off() -> HttpError {
    HttpError::new(HttpErrorKind::Protocol, "the body broke off")
}
