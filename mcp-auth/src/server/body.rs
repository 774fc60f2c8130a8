use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: a document or a refusal, or what the inner service answered.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Own { bytes: Option<Bytes> },
        Inner { #[pin] body: B },
    }
}

impl<B> Body<B> {
    pub(super) fn own(bytes: Bytes) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        Self {
            kind: Kind::Own { bytes },
        }
    }

    pub(super) fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }
}

impl<B: http_body::Body<Data = Bytes>> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Own { bytes } => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
            KindProj::Inner { body } => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own { bytes } => bytes.is_none(),
            Kind::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |own| own.len() as u64))
            }
            Kind::Inner { body } => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_is_whole_and_says_its_length_whoever_answers() {
        let text = Bytes::from_static(b"text");
        for body in [
            Body::own(text.clone()),
            Body::inner(Full::new(text.clone())),
        ] {
            assert_eq!(http_body::Body::size_hint(&body).exact(), Some(4));
            assert!(!http_body::Body::is_end_stream(&body));
            assert_eq!(body.collect().await.unwrap().to_bytes(), text);
        }
        let empty = Body::<Full<Bytes>>::own(Bytes::new());
        assert!(http_body::Body::is_end_stream(&empty));
    }
}
