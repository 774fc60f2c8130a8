//! Server-sent events (WHATWG HTML, section 9.2), as far as Streamable HTTP uses them.

use bytes::{Buf, Bytes, BytesMut};

/// An event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The `id` field, when the event has one.
    pub id: Option<String>,
    /// The `event` field, when the event has one.
    pub event: Option<String>,
    /// The `retry` field in milliseconds, when the event has one.
    pub retry: Option<u64>,
    /// The `data` fields, joined by line feeds. `None` when the event has none.
    pub data: Option<Bytes>,
}

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SseError {
    /// An event is larger than the reader's bound.
    #[error("an event of the stream is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
}

/// What a stream may begin with, the byte order mark of UTF-8. It is no part of the first line.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Cuts a stream of bytes into events.
///
/// The data of an event with one `data` line is a slice of the bytes that arrived, if they arrived together.
#[derive(Debug)]
pub struct EventReader {
    buffer: BytesMut,
    /// How much of the buffer has been searched for a line end.
    searched: usize,
    event: Event,
    size: usize,
    limit: usize,
    after_cr: bool,
    begun: bool,
}

impl EventReader {
    /// Creates a reader that refuses events of more than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            event: Event::default(),
            size: 0,
            limit,
            after_cr: false,
            begun: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next bytes of the stream without a copy, where nothing is left over from earlier ones.
    pub fn push_shared(&mut self, bytes: Bytes) {
        if self.buffer.is_empty() {
            self.searched = 0;
            self.buffer = BytesMut::from(bytes);
        } else {
            self.push(&bytes);
        }
    }

    /// Returns the next whole event, if there is one.
    ///
    /// # Errors
    ///
    /// [`SseError::TooLarge`]; the stream cannot be read on.
    pub fn next_event(&mut self) -> Result<Option<Event>, SseError> {
        while let Some(line) = self.next_line() {
            if line.is_empty() {
                self.size = 0;
                let event = std::mem::take(&mut self.event);
                if event != Event::default() {
                    return Ok(Some(event));
                }
                continue;
            }
            self.size += line.len();
            self.check(self.size)?;
            self.field(&line);
        }
        self.check(self.size + self.buffer.len())?;
        Ok(None)
    }

    fn check(&self, size: usize) -> Result<(), SseError> {
        if size > self.limit {
            return Err(SseError::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Takes a line off the buffer, without its end (LF, CR or CR LF).
    fn next_line(&mut self) -> Option<Bytes> {
        if self.after_cr && !self.buffer.is_empty() {
            self.after_cr = false;
            if self.buffer.first() == Some(&b'\n') {
                self.buffer.advance(1);
            }
        }
        if !self.begun {
            // A part of the mark may be all that has arrived.
            self.begun = self.buffer.len() >= BOM.len() || !BOM.starts_with(&self.buffer);
            if self.buffer.starts_with(BOM) {
                self.buffer.advance(BOM.len());
                self.searched = 0;
            }
        }
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(found) = memchr::memchr2(b'\n', b'\r', unsearched) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + found;
        let line = self.buffer.split_to(end).freeze();
        self.after_cr = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }

    fn field(&mut self, line: &Bytes) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return, // a comment
            Some(colon) => {
                let space = usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], line.slice(colon + 1 + space..))
            }
            None => (&line[..], Bytes::new()),
        };
        let text = || String::from_utf8_lossy(&value).into_owned();
        match name {
            b"data" => self.event.data = Some(join(self.event.data.take(), value)),
            b"id" if !value.contains(&0) => self.event.id = Some(text()),
            b"event" => self.event.event = Some(text()),
            b"retry" => {
                if let Ok(millis) = text().parse() {
                    self.event.retry = Some(millis);
                }
            }
            _ => {}
        }
    }
}

fn join(earlier: Option<Bytes>, value: Bytes) -> Bytes {
    match earlier {
        None => value,
        Some(earlier) => [&earlier[..], &value].join(&b'\n').into(),
    }
}

/// Writes an event whose data is a JSON text. Line ends inside the text start a new `data` line.
#[must_use]
pub fn write_event(id: Option<&str>, data: &[&[u8]]) -> Bytes {
    let size: usize = data.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(size + id.map_or(0, |id| id.len() + 5) + 8);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    for part in data {
        let mut rest = *part;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            out.extend_from_slice(&rest[..end]);
            out.extend_from_slice(b"\ndata: ");
            rest = &rest[end + 1..];
        }
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(b"\n\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<Event> {
        let mut reader = EventReader::new(1 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(event) = reader.next_event().unwrap() {
                events.push(event);
            }
        }
        events
    }

    #[test]
    fn fields_comments_and_line_ends_are_read_as_the_standard_says() {
        let events = read(&[
            b"\xef\xbb\xbf: hello\r\nid: 1\r\ndata: a\r\ndata:b\r\n\r\n",
            b"event:x\ndata\n\nretry: 5\rdata:  c\r\rdata: cut",
        ]);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].id.as_deref(), Some("1"));
        assert_eq!(events[0].data.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(events[1].event.as_deref(), Some("x"));
        assert_eq!(events[1].data.as_deref(), Some(&b""[..]));
        assert_eq!(events[2].retry, Some(5));
        assert_eq!(events[2].data.as_deref(), Some(&b" c"[..]));
    }

    #[test]
    fn a_line_feed_after_a_split_crlf_ends_a_line_of_its_own() {
        let pieces: [&[u8]; 5] = [b"data: a\r", b"\n", b"\n", b"data: b\r\n", b"\r\n"];
        let events = read(&pieces);
        assert_eq!(events, read(&[&pieces.concat()]));
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_at_the_start_only_however_it_arrives() {
        let whole = b"\xef\xbb\xbf\ndata: a\n\n\xef\xbb\xbfdata: b\n\n";
        for cut in 1..4 {
            let pieces: Vec<_> = whole.chunks(cut).collect();
            assert_eq!(read(&pieces).len(), 1, "cut at each {cut}");
        }
        assert!(read(&[b"\n", b"\xef\xbb\xbfdata: c\n\n"]).is_empty());
    }

    #[test]
    fn an_event_over_the_bound_is_refused_before_it_ends() {
        let mut reader = EventReader::new(100);
        reader.push(&[b'x'; 101]);
        assert!(reader.next_event().is_err());
        let mut reader = EventReader::new(100);
        for _ in 0..60 {
            reader.push(b"data\n");
        }
        assert!(reader.next_event().is_err());
    }

    proptest! {
        #[test]
        fn events_survive_any_cut(
            texts in prop::collection::vec("[a-z\\n\\r {}\":]{0,40}", 1..6),
            cuts in prop::collection::vec(1_usize..20, 0..40),
        ) {
            let stream: Vec<u8> = texts.iter()
                .flat_map(|text| write_event(Some("7"), &[text.as_bytes()]))
                .collect();
            let mut rest = &stream[..];
            let mut chunks = Vec::new();
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            let events = read(&chunks);
            prop_assert_eq!(events.len(), texts.len());
            for (event, text) in events.iter().zip(&texts) {
                let expected = text.replace('\r', "\n");
                prop_assert_eq!(event.data.as_deref(), Some(expected.as_bytes()));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let mut reader = EventReader::new(64);
            for chunk in chunks {
                reader.push(&chunk);
                while let Ok(Some(_)) = reader.next_event() {}
            }
        }
    }
}
