use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};

use super::{HttpError, HttpErrorKind};

/// The body of an answer, piece by piece.
pub struct ResponseBody(UnsyncBoxBody<Bytes, HttpError>);

impl ResponseBody {
    /// Takes a body.
    pub fn new(body: impl Body<Data = Bytes, Error = HttpError> + Send + 'static) -> Self {
        Self(body.boxed_unsync())
    }

    /// Reads to the end.
    ///
    /// # Errors
    ///
    /// [`HttpErrorKind::TooLarge`] above `limit` bytes, or whatever ended the body early.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what was read.
    pub async fn collect(self, limit: usize) -> Result<Bytes, HttpError> {
        match Limited::new(self.0, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast::<HttpError>() {
                Ok(error) => *error,
                Err(error) => HttpError::new(
                    HttpErrorKind::TooLarge,
                    format!("the body has more than {limit} bytes"),
                )
                .with_source(error),
            }),
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes).map_err(|never| match never {}))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("size_hint", &self.size_hint())
            .finish_non_exhaustive()
    }
}
