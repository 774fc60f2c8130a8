use std::fmt;
use std::sync::Arc;

/// The longest encoded key, in bytes.
pub const MAX_KEY_LEN: usize = 1024;

const MAX_NAMESPACE_LEN: usize = 64;

/// Separates the users of one store from each other: 1 to 64 characters of `a-z`, `0-9`, `-` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Namespace`] if it is empty, too long or has another character.
    pub fn new(name: &str) -> Result<Self, KeyError> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if name.is_empty() || name.len() > MAX_NAMESPACE_LEN || !name.bytes().all(valid) {
            return Err(KeyError::Namespace(
                name.chars().take(MAX_NAMESPACE_LEN).collect(),
            ));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one entry: a [`Namespace`] and a list of parts.
///
/// Parts are any text, so they may come from the network. In the written form each part is percent-encoded and
/// ends with `/`, which no encoded part contains: two keys are written alike only if they are alike.
///
/// # Examples
///
/// ```
/// use mcp_core::store::{Namespace, StoreKey};
///
/// let ns = Namespace::new("budget")?;
/// let key = StoreKey::new(&ns, ["alice", "a/b"])?;
/// assert_eq!(key.as_str(), "budget/alice/a%2Fb/");
/// assert_ne!(key, StoreKey::new(&ns, ["alice", "a", "b"])?);
/// # Ok::<(), mcp_core::store::KeyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreKey(Arc<str>);

impl StoreKey {
    /// Joins a namespace and parts.
    ///
    /// # Errors
    ///
    /// [`KeyError::TooLong`] if the written form is longer than [`MAX_KEY_LEN`] bytes.
    pub fn new<P: AsRef<str>>(
        namespace: &Namespace,
        parts: impl IntoIterator<Item = P>,
    ) -> Result<Self, KeyError> {
        encode(namespace, parts).map(|text| Self(text.into()))
    }

    /// Reads a written key back, for implementations of [`StateStore`](super::StateStore).
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`] if it was not written by [`as_str`](Self::as_str).
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed(text.chars().take(MAX_KEY_LEN).collect());
        let (namespace, rest) = text.split_once('/').ok_or_else(malformed)?;
        let namespace = Namespace::new(namespace)?;
        let parts = decode(rest).ok_or_else(malformed)?;
        let key = Self::new(&namespace, parts)?;
        if &*key.0 == text {
            Ok(key)
        } else {
            Err(malformed())
        }
    }

    /// The written form: printable ASCII without spaces, quotes or wildcards.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// The parts, as they were given.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        let rest = self.0.split_once('/').map_or("", |(_, rest)| rest);
        decode(rest).unwrap_or_default()
    }
}

/// The beginning of keys: a [`Namespace`] and the first parts, each complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StorePrefix(Arc<str>);

impl StorePrefix {
    /// Joins a namespace and the first parts; none at all means the whole namespace.
    ///
    /// # Errors
    ///
    /// [`KeyError::TooLong`] if the written form is longer than [`MAX_KEY_LEN`] bytes.
    pub fn new<P: AsRef<str>>(
        namespace: &Namespace,
        parts: impl IntoIterator<Item = P>,
    ) -> Result<Self, KeyError> {
        encode(namespace, parts).map(|text| Self(text.into()))
    }

    /// The written form, which every matching key begins with.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why something cannot be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The name is not 1 to 64 characters of `a-z`, `0-9`, `-` and `.`.
    #[error("namespace {0:?} is not 1 to 64 characters of a-z, 0-9, '-' and '.'")]
    Namespace(String),
    /// The written key has this many bytes, more than [`MAX_KEY_LEN`].
    #[error("key of {0} bytes is longer than {MAX_KEY_LEN}")]
    TooLong(usize),
    /// The text is not a written key.
    #[error("{0:?} is not a written key")]
    Malformed(String),
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@')
}

fn encode<P: AsRef<str>>(
    namespace: &Namespace,
    parts: impl IntoIterator<Item = P>,
) -> Result<String, KeyError> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(64);
    text.push_str(namespace.as_str());
    text.push('/');
    let mut len = text.len();
    for part in parts {
        for &byte in part.as_ref().as_bytes() {
            let width = if is_plain(byte) { 1 } else { 3 };
            len += width;
            if len > MAX_KEY_LEN {
                continue;
            }
            if width == 1 {
                text.push(char::from(byte));
            } else {
                text.push('%');
                text.push(char::from(HEX[usize::from(byte >> 4)]));
                text.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        len += 1;
        text.push('/');
    }
    if len > MAX_KEY_LEN {
        Err(KeyError::TooLong(len))
    } else {
        Ok(text)
    }
}

/// Splits what follows the namespace into parts; `None` if it was not written by [`encode`].
fn decode(rest: &str) -> Option<Vec<String>> {
    if rest.is_empty() {
        return Some(Vec::new());
    }
    rest.strip_suffix('/')?
        .split('/')
        .map(decode_part)
        .collect()
}

fn decode_part(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{KeyError, MAX_KEY_LEN, Namespace, StoreKey, StorePrefix};

    #[test]
    fn namespaces_are_checked() {
        for good in ["a", "budget", "a-b.c9"] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a/b", "a b", "ä", &"a".repeat(65), "a\n", "a*"] {
            assert!(
                matches!(Namespace::new(bad), Err(KeyError::Namespace(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_key_has_a_longest_length() {
        let ns = Namespace::new("n").unwrap();
        let fits = "x".repeat(MAX_KEY_LEN - 3);
        assert_eq!(
            StoreKey::new(&ns, [&fits]).unwrap().as_str().len(),
            MAX_KEY_LEN
        );
        assert_eq!(
            StoreKey::new(&ns, [fits + "x"]),
            Err(KeyError::TooLong(MAX_KEY_LEN + 1))
        );
        assert!(StoreKey::new(&ns, ["\u{0}".repeat(400)]).is_err());
    }

    #[test]
    fn malformed_text_is_not_a_key() {
        for text in [
            "", "ns", "ns/a", "ns/a%2/", "ns/%zz/", "ns/a b/", "ns/%2f/", "ns/%61/", "NS/a/",
            "ns/%FF/",
        ] {
            assert!(StoreKey::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            StoreKey::parse("ns/").unwrap().parts(),
            Vec::<String>::new()
        );
    }

    proptest! {
        #[test]
        fn different_lists_are_written_differently(
            a in proptest::collection::vec("[a/%.\u{0}é]{0,4}", 0..4),
            b in proptest::collection::vec("[a/%.\u{0}é]{0,4}", 0..4),
        ) {
            let ns = Namespace::new("ns").unwrap();
            let (ka, kb) = (StoreKey::new(&ns, &a).unwrap(), StoreKey::new(&ns, &b).unwrap());
            prop_assert_eq!(ka == kb, a == b);
            prop_assert_eq!(ka.parts(), a.clone());
            prop_assert_eq!(StoreKey::parse(ka.as_str()).unwrap(), ka.clone());
            let prefix = StorePrefix::new(&ns, &b).unwrap();
            prop_assert_eq!(ka.as_str().starts_with(prefix.as_str()), a.starts_with(&b));
        }
    }
}
