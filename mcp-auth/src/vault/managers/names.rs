//! How a scope and a name become one name of a service, and back.

use mcp_core::{
    ConfigError,
    secret::{SecretName, SecretScope},
    store::{StoreError, StoreErrorKind},
};

use crate::vault::owner_name;

/// What the names of a service may be made of.
#[derive(Debug)]
pub(super) struct Rules {
    /// Stands before the two hexadecimal digits of a byte that is not `plain`. It is not plain itself.
    pub(super) mark: char,
    /// Which bytes stand for themselves.
    pub(super) plain: fn(u8) -> bool,
    /// Between the parts. Cannot be in a part: it has a byte that is not plain, or two marks.
    pub(super) separator: &'static str,
    /// The longest name, in bytes.
    pub(super) longest: usize,
    /// What the service says of a prefix that does not fit.
    pub(super) prefix: &'static str,
    /// Which bytes a prefix may have.
    pub(super) in_prefix: fn(u8) -> bool,
}

/// The names of one store: `{prefix}{separator}{namespace}{separator}{owner}{separator}{name}`.
///
/// Each part is written by [`Rules::escape`], which is injective, and no part has a separator: two secrets with different
/// scopes or names have different names.
#[derive(Clone, Debug)]
pub(super) struct Names {
    rules: &'static Rules,
    prefix: String,
}

impl Rules {
    /// Writes a text in the characters that names may have.
    fn escape(&self, text: &str) -> String {
        let mut name = String::with_capacity(text.len());
        for byte in text.bytes() {
            match (self.plain)(byte) {
                true => name.push(char::from(byte)),
                false => {
                    name.push(self.mark);
                    data_encoding::HEXLOWER.encode_append(&[byte], &mut name);
                }
            }
        }
        name
    }

    /// Reads what [`Self::escape`] wrote; `None` for another text.
    fn unescape(&self, name: &str) -> Option<String> {
        let mut bytes = Vec::with_capacity(name.len());
        let mut rest = name.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if char::from(byte) != self.mark {
                bytes.push(byte);
                continue;
            }
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.extend(data_encoding::HEXLOWER.decode(digits).ok()?);
            rest = tail;
        }
        String::from_utf8(bytes)
            .ok()
            .filter(|text| self.escape(text) == name)
    }
}

impl Names {
    /// Begins all names with `mcp`.
    pub(super) fn new(rules: &'static Rules) -> Self {
        Self {
            rules,
            prefix: "mcp".to_owned(),
        }
    }

    /// Begins all names with another text.
    pub(super) fn with_prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        let rules = self.rules;
        let fits = !prefix.is_empty()
            && prefix.len() <= 64
            && prefix.bytes().all(rules.in_prefix)
            && !prefix.starts_with(['/', rules.mark])
            && !prefix.ends_with(['/', rules.mark])
            // A separator that is made of marks alone would shift the borders between parts.
            && (rules.separator == "/" || !prefix.contains(rules.separator));
        if !fits {
            return Err(ConfigError::new("prefix", prefix, rules.prefix));
        }
        prefix.clone_into(&mut self.prefix);
        Ok(self)
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the names of a scope begin with, the last separator included.
    pub(super) fn folder(&self, scope: &SecretScope) -> String {
        let space = self.rules.escape(scope.namespace().as_str());
        let owner = owner_name(scope.owner());
        let separator = self.rules.separator;
        format!(
            "{}{separator}{space}{separator}{owner}{separator}",
            self.prefix
        )
    }

    /// The name of a secret.
    pub(super) fn name(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<String, StoreError> {
        let name = self.folder(scope) + &self.rules.escape(name.as_str());
        match name.len() <= self.rules.longest {
            true => Ok(name),
            false => Err(StoreError::new(
                StoreErrorKind::Invalid,
                "the secret's name is too long for the secret manager; use a shorter one",
            )),
        }
    }

    /// Reads a name again that lies in a folder; `None` for one that was not written here.
    #[cfg(any(feature = "aws", feature = "azure", feature = "google"))]
    pub(super) fn read(&self, folder: &str, name: &str) -> Option<SecretName> {
        self.read_in(name.strip_prefix(folder)?)
    }

    /// Reads the last part of a name.
    pub(super) fn read_in(&self, last: &str) -> Option<SecretName> {
        SecretName::new(&self.rules.unescape(last)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vault::managers::all_rules;

    #[test]
    fn names_are_escaped_and_read_again() {
        for rules in all_rules() {
            for text in [
                "token", "a/../b", "ä=x y", "=2f", "-2d", "--", ".", "..", "A_b",
            ] {
                let name = rules.escape(text);
                let fits = |b: u8| (rules.plain)(b) || char::from(b) == rules.mark;
                assert!(name.bytes().all(fits), "{name}");
                assert!(!name.contains(rules.separator), "{name}");
                assert_eq!(rules.unescape(&name).as_deref(), Some(text));
            }
            let mark = rules.mark;
            for foreign in ["zz", "", "6", "61", "+6", "2F"] {
                assert_eq!(rules.unescape(&format!("a{mark}{foreign}")), None);
            }
        }
    }

    #[test]
    fn a_prefix_that_would_shift_the_parts_is_refused() {
        for rules in all_rules() {
            let names = Names::new(rules);
            for bad in ["", "a b", "ä", "a--", "-", "/", "a/", "=", &"x".repeat(65)] {
                let ok = names.clone().with_prefix(bad);
                // Dashes mean nothing where parts are paths.
                let harmless = rules.separator == "/" && bad.trim_matches(['a', '-']).is_empty();
                assert!(ok.is_err() || (harmless && !bad.is_empty()), "{bad:?}");
            }
            assert!(names.with_prefix("gateway-1").is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_two_places_have_one_name(
            a in "[a-zA-Z0-9_./=@ä-]{1,8}", b in "[a-zA-Z0-9_./=@ä-]{1,8}",
            c in "[a-zA-Z0-9_./=@ä-]{1,8}", d in "[a-zA-Z0-9_./=@ä-]{1,8}",
        ) {
            for rules in all_rules() {
                let join = |one: &str, other: &str| {
                    [rules.escape(one), rules.escape(other)].join(rules.separator)
                };
                prop_assert_eq!((&a, &b) == (&c, &d), join(&a, &b) == join(&c, &d));
                prop_assert_eq!(rules.unescape(&rules.escape(&a)), Some(a.clone()));
            }
        }
    }
}
