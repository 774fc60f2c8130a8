use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};

/// Results up to this size are copied behind their envelope; larger ones are sent as they are.
const COPIED: usize = 4 << 10;

/// The body of the transport's answers.
pub struct ResponseBody(Kind);

enum Kind {
    /// A body of one piece, until it is sent.
    One(Option<Bytes>),
    /// The pieces of a body of known length.
    Pieces(VecDeque<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl ResponseBody {
    pub(super) fn empty() -> Self {
        Self(Kind::One(None))
    }

    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::One(Some(bytes.into())))
    }

    /// Joins small pieces; large ones stay where they are.
    pub(super) fn pieces(head: Vec<u8>, middle: Bytes, tail: &'static [u8]) -> Self {
        if middle.len() <= COPIED {
            let mut whole = head;
            whole.reserve_exact(middle.len() + tail.len());
            whole.extend_from_slice(&middle);
            whole.extend_from_slice(tail);
            return Self::whole(whole);
        }
        Self(Kind::Pieces(VecDeque::from([
            head.into(),
            middle,
            Bytes::from_static(tail),
        ])))
    }

    pub(super) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Kind::Stream(Box::pin(stream)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.0 {
            Kind::One(piece) => piece.take(),
            Kind::Pieces(pieces) => pieces.pop_front(),
            Kind::Stream(stream) => std::task::ready!(stream.as_mut().poll_next(cx)),
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::One(piece) => piece.is_none(),
            Kind::Pieces(pieces) => pieces.is_empty(),
            Kind::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::One(piece) => {
                SizeHint::with_exact(piece.as_ref().map_or(0, |piece| piece.len() as u64))
            }
            Kind::Pieces(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::One(_) | Kind::Pieces(_) => "ResponseBody(whole)",
            Kind::Stream(_) => "ResponseBody(stream)",
        })
    }
}
