use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Why a body cannot be read.
type BoxError = Box<dyn StdError + Send + Sync>;

/// The body is not the one that the proof of its request is about, or is too long to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Differs {
    Digest,
    Length,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digest => "the body is not the one that the proof is about",
            Self::Length => "the body is too long to be checked against its proof",
        })
    }
}

impl StdError for Differs {}

/// What became of the check of a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Failed(Arc<AtomicBool>);

impl Failed {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Against what a body is checked.
#[derive(Debug)]
struct Check {
    digest: [u8; 32],
    longest: usize,
    failed: Failed,
    read: BytesMut,
}

pin_project! {
    /// The body of a request: as it came, or, where a proof is about it (RFC 9449, MCP profile), handed on as a whole once it has
    /// been read to its end and found to be the one that the proof is about.
    #[derive(Debug)]
    pub struct RequestBody<Q> {
        #[pin]
        inner: Q,
        check: Option<Box<Check>>,
        // Boxed, so that a body without a check is as small as it was.
        ended: bool,
    }
}

impl<Q> RequestBody<Q> {
    pub(super) const fn plain(inner: Q) -> Self {
        Self {
            inner,
            check: None,
            ended: false,
        }
    }

    /// Checks a body against a digest. Returns where it is seen whether it was another.
    pub(super) fn checked(inner: Q, digest: [u8; 32], longest: usize) -> (Self, Failed) {
        let failed = Failed::default();
        let check = Check {
            digest,
            longest,
            failed: failed.clone(),
            read: BytesMut::new(),
        };
        let body = Self {
            inner,
            check: Some(Box::new(check)),
            ended: false,
        };
        (body, failed)
    }
}

impl<Q> HttpBody for RequestBody<Q>
where
    Q: HttpBody<Data = Bytes>,
    Q::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(check) = this.check.as_mut() else {
            let frame = ready!(this.inner.poll_frame(cx));
            return Poll::Ready(frame.map(|own| own.map_err(Into::into)));
        };
        if *this.ended {
            return Poll::Ready(None);
        }
        loop {
            match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers mean nothing to MCP, and no proof is about them.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if check.read.len() + data.len() > check.longest {
                        *this.ended = true;
                        check.failed.0.store(true, Ordering::Release);
                        return Poll::Ready(Some(Err(Differs::Length.into())));
                    }
                    check.read.extend_from_slice(&data);
                }
                Some(Err(error)) => {
                    *this.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    *this.ended = true;
                    let read = std::mem::take(&mut check.read).freeze();
                    let same = Sha256::digest(&read).ct_eq(&check.digest);
                    return Poll::Ready(match bool::from(same) {
                        true if read.is_empty() => None,
                        true => Some(Ok(Frame::data(read))),
                        false => {
                            check.failed.0.store(true, Ordering::Release);
                            Some(Err(Differs::Digest.into()))
                        }
                    });
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.check {
            None => self.inner.is_end_stream(),
            // An empty body has to be compared too.
            Some(_) => self.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.check {
            Some(_) if self.ended => SizeHint::with_exact(0),
            _ => self.inner.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    fn digest(text: &[u8]) -> [u8; 32] {
        Sha256::digest(text).into()
    }

    #[tokio::test]
    async fn a_body_is_handed_on_as_a_whole_if_it_is_the_one_that_was_meant() {
        let parts = [b"{\"a\"".as_slice(), b":1}"]
            .map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from_static(part))));
        let stream = StreamBody::new(futures_util::stream::iter(parts));
        let (mut body, failed) = RequestBody::checked(stream, digest(b"{\"a\":1}"), 100);
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "{\"a\":1}");
        assert!(body.frame().await.is_none());
        assert!(!failed.get());
    }

    #[tokio::test]
    async fn not_a_byte_of_another_body_is_handed_on() {
        for (text, longest) in [("{\"a\":2}", 100), ("{\"a\":1}", 6), ("", 100)] {
            let body = Full::new(Bytes::from_static(text.as_bytes()));
            let (mut body, failed) = RequestBody::checked(body, digest(b"{\"a\":1}"), longest);
            assert!(!body.is_end_stream());
            assert!(body.frame().await.unwrap().is_err(), "{text}");
            assert!(failed.get() && body.frame().await.is_none());
        }
    }
}
