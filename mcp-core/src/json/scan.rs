//! One pass over a JSON text that checks it and finds the places of its values.
//!
//! The scanner accepts exactly RFC 8259 (which serde_json's own `IgnoredAny` also accepts, see the tests),
//! with a bound on nesting. It allocates nothing and never recurses.

use std::borrow::Cow;

use super::{JsonError, JsonErrorKind};

/// The deepest nesting of arrays and objects that is accepted.
pub const MAX_DEPTH: u32 = 128;

/// Strings longer than this are searched by larger steps.
const SHORT: usize = 32;

/// Where a value stands in its text: byte offsets, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// A string as it stands in the text, quotes excluded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    pub(crate) escaped: bool,
    /// The span of the raw text, quotes excluded.
    pub(crate) span: Span,
}

impl<'a> Text<'a> {
    /// Returns whether the decoded string is `expected`.
    pub(crate) fn is(&self, expected: &str) -> bool {
        if self.escaped {
            self.decode().is_ok_and(|text| text == expected)
        } else {
            self.raw == expected.as_bytes()
        }
    }

    /// Decodes the string. Fails only on a lone surrogate.
    pub(crate) fn decode(&self) -> Result<Cow<'a, str>, JsonError> {
        let invalid = || JsonError::new(JsonErrorKind::InvalidString, self.span.start as usize);
        let raw = std::str::from_utf8(self.raw).map_err(|_| invalid())?;
        if !self.escaped {
            return Ok(Cow::Borrowed(raw));
        }
        serde_json::from_str(&format!("\"{raw}\""))
            .map(Cow::Owned)
            .map_err(|_| invalid())
    }
}

/// A place in a JSON text, moving forwards over checked values.
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of a text whose encoding is checked first.
    pub(crate) fn new(text: &'a [u8]) -> Result<Self, JsonError> {
        if simdutf8::basic::from_utf8(text).is_err() {
            // The fast check does not say where.
            let at = std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
            return Err(JsonError::new(JsonErrorKind::InvalidUtf8, at));
        }
        if u32::try_from(text.len()).is_err() {
            return Err(JsonError::new(JsonErrorKind::TooLong, u32::MAX as usize));
        }
        Ok(Self { text, at: 0 })
    }

    /// Starts at the beginning of a text that is known to be UTF-8 and shorter than 4 GiB.
    pub(crate) fn trusted(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the first byte of the next value, without moving past it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.space();
        self.text.get(self.at).copied()
    }

    /// Checks that only white space is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected()),
        }
    }

    /// Moves over a string.
    pub(crate) fn string(&mut self) -> Result<Text<'a>, JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.plain_text();
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.error(JsonErrorKind::InvalidString)),
                None => return Err(self.error(JsonErrorKind::UnexpectedEnd)),
            }
        }
        let span = span(start, self.at);
        self.at += 1;
        Ok(Text {
            raw: span.of(self.text),
            escaped,
            span,
        })
    }

    /// Moves over an object; `member` must move over the value of each member it is given.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'a>) -> Result<(), JsonError>,
    ) -> Result<Span, JsonError> {
        let start = self.begin(b'{')?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(span(start, self.at));
        }
        loop {
            self.space();
            let key = self.string()?;
            self.colon()?;
            member(self, key)?;
            if self.next_or(b'}')? {
                return Ok(span(start, self.at));
            }
        }
    }

    /// Moves behind the value of the first member of this name, and returns its place; `None` for no such member, and for
    /// what is no object.
    pub(crate) fn member(&mut self, name: &str) -> Option<Span> {
        self.begin(b'{').ok()?;
        if self.peek() == Some(b'}') {
            return None;
        }
        loop {
            self.space();
            let key = self.string().ok()?;
            self.colon().ok()?;
            let value = self.value().ok()?;
            if key.is(name) {
                return Some(value);
            }
            if self.next_or(b'}').ok()? {
                return None;
            }
        }
    }

    /// Moves over an array; `element` must move over each value.
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<Span, JsonError> {
        let start = self.begin(b'[')?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(span(start, self.at));
        }
        loop {
            element(self)?;
            if self.next_or(b']')? {
                return Ok(span(start, self.at));
            }
        }
    }

    /// Moves over a value of any type and depth.
    pub(crate) fn value(&mut self) -> Result<Span, JsonError> {
        self.space();
        let start = self.at;
        // One bit for each open container, the innermost lowest: set for an object.
        let mut objects: u128 = 0;
        let mut depth = 0;
        loop {
            if let Some(opened) = self.scalar_or_open()? {
                if depth == MAX_DEPTH {
                    return Err(self.error(JsonErrorKind::TooDeep));
                }
                depth += 1;
                objects = objects << 1 | u128::from(opened == b'{');
                let close = opened + 2; // '{' + 2 is '}', '[' + 2 is ']'
                if self.peek() == Some(close) {
                    self.at += 1;
                } else {
                    if opened == b'{' {
                        self.key()?;
                    }
                    continue;
                }
                objects >>= 1;
                depth -= 1;
            }
            // A value has ended: continue with the next one, or close containers until there is one.
            loop {
                if depth == 0 {
                    return Ok(span(start, self.at));
                }
                let in_object = objects & 1 == 1;
                if !self.next_or(if in_object { b'}' } else { b']' })? {
                    if in_object {
                        self.key()?;
                    }
                    break;
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    /// Moves over a scalar, or over the opening bracket of a container, which it then returns.
    fn scalar_or_open(&mut self) -> Result<Option<u8>, JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(|_| None),
            Some(open @ (b'{' | b'[')) => {
                self.at += 1;
                Ok(Some(open))
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| None),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => Err(self.unexpected()),
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        self.space();
        self.string()?;
        self.colon()
    }

    fn colon(&mut self) -> Result<(), JsonError> {
        self.space();
        self.expect(b':')
    }

    fn begin(&mut self, open: u8) -> Result<usize, JsonError> {
        self.space();
        let start = self.at;
        self.expect(open)?;
        Ok(start)
    }

    /// Moves over a comma (`false`) or the closing bracket (`true`).
    #[inline]
    fn next_or(&mut self, close: u8) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Moves over the part of a string that needs no look: up to a quote, an escape or a control character.
    #[inline]
    fn plain_text(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += plain_length(rest);
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let hex = match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) => return Err(self.error(JsonErrorKind::InvalidString)),
            None => return Err(self.error(JsonErrorKind::UnexpectedEnd)),
        };
        self.at += 2;
        match self.text.get(self.at..self.at + hex) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {
                self.at += hex;
                Ok(())
            }
            Some(_) => Err(self.error(JsonErrorKind::InvalidString)),
            None => Err(self.error(JsonErrorKind::UnexpectedEnd)),
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.skip_if(b"-");
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.error(JsonErrorKind::InvalidNumber)),
        }
        if self.skip_if(b".") {
            self.digits()?;
        }
        if self.skip_if(b"eE") {
            self.skip_if(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error(JsonErrorKind::InvalidNumber));
        }
        Ok(())
    }

    fn skip_if(&mut self, any: &[u8]) -> bool {
        let hit = self
            .text
            .get(self.at)
            .is_some_and(|byte| any.contains(byte));
        self.at += usize::from(hit);
        hit
    }

    fn literal(&mut self, word: &[u8]) -> Result<Option<u8>, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.unexpected());
        }
        self.at += word.len();
        Ok(None)
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.text.get(self.at) != Some(&byte) {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn unexpected(&self) -> JsonError {
        self.error(if self.at < self.text.len() {
            JsonErrorKind::UnexpectedByte
        } else {
            JsonErrorKind::UnexpectedEnd
        })
    }

    /// An error at the present place.
    pub(crate) fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError::new(kind, self.at)
    }
}

/// Builds a span; a cursor exists only over texts shorter than 4 GiB.
fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

/// Returns how many bytes there are before the first quote, backslash or control character (RFC 8259, section 7).
#[inline]
fn plain_length(text: &[u8]) -> usize {
    let (near, far) = text.split_at(text.len().min(SHORT));
    let plain = plain_words(near);
    if plain < near.len() || far.is_empty() {
        return plain;
    }
    let blocks = plain_blocks(far);
    plain + blocks + plain_words(&far[blocks..])
}

/// Goes by words of eight bytes.
#[inline]
fn plain_words(text: &[u8]) -> usize {
    let (words, tail) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        if let Some(at) = special_in(*word) {
            return index * 8 + at;
        }
    }
    let plain = tail.iter().position(|byte| is_special(*byte));
    words.len() * 8 + plain.unwrap_or(tail.len())
}

/// Returns how many bytes are in blocks without special bytes: larger steps, each of a few vector instructions.
fn plain_blocks(text: &[u8]) -> usize {
    let (blocks, _) = text.as_chunks::<64>();
    let any = |block: &[u8; 64]| {
        block
            .iter()
            .fold(false, |any, byte| any | is_special(*byte))
    };
    64 * blocks.iter().take_while(|block| !any(block)).count()
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Returns where the first quote, backslash or control character of eight bytes is.
///
/// Subtracting a value from each byte sets the highest bit of those that were smaller, and, by the carry, perhaps of bytes
/// behind them, which do not count.
#[inline]
fn special_in(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    let smaller = |bytes: u64, than: u8| bytes.wrapping_sub(ONES * u64::from(than)) & !bytes;
    let equal = |byte: u8| smaller(word ^ (ONES * u64::from(byte)), 1);
    let special = (smaller(word, 0x20) | equal(b'"') | equal(b'\\')) & HIGHEST;
    (special != 0).then(|| special.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_text_ends_where_a_look_at_each_byte_says(
            bytes in prop::collection::vec(prop_oneof![9 => any::<u8>(), 1 => Just(0x1f)], 0..64),
            plain in 0..200_usize,
        ) {
            let mut text = vec![b' '; plain];
            text.extend(bytes);
            let expected = text.iter().position(|byte| is_special(*byte)).unwrap_or(text.len());
            prop_assert_eq!(plain_length(&text), expected);
            // Bytes over 127 and those next to the special ones are plain.
            let mut plain = [0x80_u8, 0xff, 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f].repeat(plain % 40);
            prop_assert_eq!(plain_length(&plain), plain.len());
            plain.push(0x1f);
            prop_assert_eq!(plain_length(&plain), plain.len() - 1);
        }
    }
}
