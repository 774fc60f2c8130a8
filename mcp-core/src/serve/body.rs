use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

/// The body of a request, which has to arrive in time.
pub struct RequestBody {
    body: Incoming,
    within: Duration,
    /// Made when the body has to be waited for.
    late: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, within: Duration) -> Self {
        Self {
            body,
            within,
            late: None,
        }
    }
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestBodyError {
    /// The connection broke.
    #[error("the request body broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The body did not arrive within [`Timing::request_body`](crate::Timing::request_body).
    #[error("the request body did not arrive in time")]
    Late,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| RequestBodyError::Broken(error.into()))),
            );
        }
        let late = this
            .late
            .get_or_insert_with(|| Box::pin(sleep(this.within)));
        match late.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(RequestBodyError::Late))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody")
    }
}
