use std::{fmt, sync::Arc};

use crate::ConfigError;

/// The operator's name for an upstream: lower-case letters, digits and single hyphens, at most 32 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId(Arc<str>);

impl UpstreamId {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a name that is empty, too long, or has any other character.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(allowed) {
            return Err(ConfigError::new(
                "id",
                name,
                "use 1 to 32 of the characters a-z, 0-9 and '-'",
            ));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
