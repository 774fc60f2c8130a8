//! Digests that tell whether a description has changed.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use data_encoding::HEXLOWER;
use mcp_core::Json;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A digest of what a description says. Descriptions with the same digest are interchangeable.
///
/// # Security
///
/// Secrets of the description are part of it: a short secret could be found by trying, so `Debug` shows four bytes only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the bytes of the digest (SHA-256).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns a number that is made of the digest.
    pub(crate) const fn number(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", HEXLOWER.encode_display(&self.0[..4]))
    }
}

/// Computes a [`Digest`] over parts, each with its length, so that parts cannot run into one another.
#[derive(Debug, Default)]
pub(crate) struct Digester(Sha256);

impl Digester {
    pub(crate) fn put(&mut self, part: &[u8]) -> &mut Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// Puts a value, which is the same in every spelling and with its members in any order.
    pub(crate) fn put_json(&mut self, json: &Json) -> &mut Self {
        match json.to_value() {
            Ok(value) => self.put_value(&value),
            // A member that is there twice, of which readers may take either, or nested deeper than is read: equal bytes
            // are the same.
            Err(_) => self.put(json.as_bytes()),
        }
    }

    fn put_value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                self.put(b"object").put_count(members.len());
                for (name, value) in members {
                    self.put(name.as_bytes()).put_value(value);
                }
                self
            }
            Value::Array(elements) => {
                self.put(b"array").put_count(elements.len());
                for element in elements {
                    self.put_value(element);
                }
                self
            }
            scalar => self.put(b"scalar").put(scalar.to_string().as_bytes()),
        }
    }

    fn put_count(&mut self, count: usize) -> &mut Self {
        self.put(&(count as u64).to_be_bytes())
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// What a part of a description is known by: a text that says all about it, or a number of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// The same text means the same part.
    Named(Box<str>),
    /// The same only as its own copies.
    Unique(u64),
}

impl Identity {
    pub(crate) fn named(text: impl Into<Box<str>>) -> Self {
        Self::Named(text.into())
    }

    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Unique(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn put_in(&self, digester: &mut Digester) {
        match self {
            Self::Named(text) => digester.put(b"named").put(text.as_bytes()),
            Self::Unique(number) => digester.put(b"unique").put(&number.to_be_bytes()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(parts: &[&str]) -> Digest {
        let mut digester = Digester::default();
        for part in parts {
            digester.put(part.as_bytes());
        }
        digester.finish()
    }

    #[test]
    fn parts_do_not_run_into_one_another() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["ab", "c"]), digest(&["ab", "c"]));
    }

    #[test]
    fn the_same_value_in_another_spelling_is_the_same() {
        let of = |text: &str| {
            let mut digester = Digester::default();
            digester.put_json(&Json::parse(text.to_owned()).unwrap());
            digester.finish()
        };
        let first = of(r#"{"sampling":{},"roots":{"listChanged":true,"x":[1,2]}}"#);
        for same in [
            r#"{"roots":{"x":[1,2],"listChanged":true},"sampling":{}}"#,
            r#"{ "sampling" : { } , "roots" : { "listChanged" : true , "x" : [ 1 , 2 ] } }"#,
            r#"{"\u0073ampling":{},"roots":{"listChanged":true,"x":[1,2]}}"#,
        ] {
            assert_eq!(of(same), first, "{same}");
        }
        for other in [
            r#"{"sampling":{}}"#,
            r#"{"sampling":{},"roots":{"listChanged":false,"x":[1,2]}}"#,
            r#"{"sampling":{},"roots":{"listChanged":true,"x":[2,1]}}"#,
            r#"{"sampling":{},"roots":{"listChanged":"true","x":[1,2]}}"#,
            r#"{"sampling":{},"roots":{"listChanged":true,"x":[[1],2]}}"#,
        ] {
            assert_ne!(of(other), first, "{other}");
        }
        let deep = format!("{}{}", r#"{"a":"#.repeat(127), "1") + &"}".repeat(127);
        assert_eq!(of(&deep), of(&deep));
    }

    #[test]
    fn of_a_member_that_is_there_twice_both_count() {
        let of = |text: &str| {
            let mut digester = Digester::default();
            digester.put_json(&Json::parse(text.to_owned()).unwrap());
            digester.finish()
        };
        let one = of(r#"{"description":"reads","description":"lists"}"#);
        assert_ne!(
            one,
            of(r#"{"description":"deletes","description":"lists"}"#)
        );
        assert_ne!(one, of(r#"{"description":"lists"}"#));
    }

    #[test]
    fn an_identity_without_a_name_is_its_copies_only() {
        let one = Identity::unique();
        assert_eq!(one, one.clone());
        assert_ne!(one, Identity::unique());
        assert_eq!(Identity::named("a"), Identity::named("a"));
    }
}
