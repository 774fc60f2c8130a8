use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tower::BoxError;

/// How much room is made at once for a body that says it is long.
const TRUSTED: u64 = 1 << 20;

/// Reads a whole body. One that arrives in one piece, as most do, is not copied.
///
/// # Errors
///
/// [`http_body_util::LengthLimitError`] for a body of more than `limit` bytes; the body's own error.
///
/// # Cancel safety
///
/// A dropped future has lost what was read.
pub async fn read_whole<B>(body: B, limit: usize) -> Result<Bytes, BoxError>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut body = pin!(Limited::new(body, limit));
    let mut first = Bytes::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        if first.is_empty() {
            first = data.copy_to_bytes(data.remaining());
            if body.is_end_stream() {
                return Ok(first);
            }
            continue;
        }
        let left = body.size_hint().lower().min(TRUSTED);
        let left = usize::try_from(left).unwrap_or_default();
        let mut whole = BytesMut::with_capacity(first.len() + data.remaining() + left);
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        while let Some(frame) = body.frame().await {
            if let Ok(mut data) = frame?.into_data() {
                whole.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
        }
        return Ok(whole.freeze());
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, LengthLimitError, StreamBody};

    use super::*;

    fn pieces(pieces: &[&'static str]) -> impl Body<Error = Infallible> + use<> {
        let frames: Vec<_> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn pieces_become_one_and_one_piece_stays_where_it_is() {
        for given in [&[][..], &["a"], &["a", "bc"], &["", "a", "", "bc", "d"]] {
            let whole = read_whole(pieces(given), 100).await.unwrap();
            assert_eq!(whole, given.concat());
        }
        let text = Bytes::from_static(b"one");
        let whole = read_whole(Full::new(text.clone()), 3).await.unwrap();
        assert_eq!(whole.as_ptr(), text.as_ptr());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        for given in [&["abcd"][..], &["ab", "cd"], &["abc", "", "d"]] {
            let error = read_whole(pieces(given), 3).await.unwrap_err();
            assert!(error.is::<LengthLimitError>(), "{error}");
        }
    }
}
