use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::incoming::IncomingBody;
use crate::http_client::{HttpError, HttpErrorKind};

/// A body that ends in an error when it is too long or takes too long.
pub(super) struct GuardedBody {
    inner: IncomingBody,
    left: u64,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl GuardedBody {
    pub(super) fn new(
        inner: IncomingBody,
        limit: u64,
        deadline: Option<Instant>,
    ) -> Result<Self, HttpError> {
        if inner.size_hint().lower() > limit {
            return Err(too_large());
        }
        let deadline = deadline.map(|at| Box::pin(sleep_until(at)));
        Ok(Self {
            inner,
            left: limit,
            deadline,
        })
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            let error = HttpError::new(HttpErrorKind::Timeout, "the body did not end in time");
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
        };
        let len = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        match self.left.checked_sub(len) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(Some(Err(too_large()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn too_large() -> HttpError {
    HttpError::new(HttpErrorKind::TooLarge, "the body is larger than allowed")
}
