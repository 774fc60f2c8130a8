//! Configuration errors: one setting that is not allowed, and all of them at once.

use std::{borrow::Cow, error::Error, fmt};

use crate::UpstreamId;

/// How many characters of a value are shown.
const LONGEST: usize = 256;

type Source = Box<dyn Error + Send + Sync>;

/// A setting whose value is not allowed: the setting's key, the value given and what is allowed.
///
/// Constructors and builders return one; a reader of a whole configuration collects them in [`ConfigErrors`].
///
/// # Security
///
/// The value is shown as it was given, its first 256 characters. Pass `"[redacted]"` for a secret.
#[derive(Debug)]
pub struct ConfigError {
    key: Cow<'static, str>,
    given: Box<str>,
    allowed: Cow<'static, str>,
    source: Option<Source>,
}

impl ConfigError {
    /// Creates an error for the setting named `key`.
    #[must_use]
    pub fn new(
        key: impl Into<Cow<'static, str>>,
        given: impl fmt::Display,
        allowed: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            key: key.into(),
            given: cut(given),
            allowed: allowed.into(),
            source: None,
        }
    }

    /// Sets the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the error with its key below another: `url` below `upstreams.crm` is `upstreams.crm.url`.
    #[must_use]
    pub fn below(mut self, key: &str) -> Self {
        self.key = join(key, &self.key).into();
        self
    }

    /// Returns the key of the setting, dotted where it is part of another.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the value that was given.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }

    /// Returns what is allowed, or what to do.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.given, self.allowed)
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Every error of a configuration, at least one.
///
/// Returned by what reads or builds from a whole configuration. [`ConfigErrors::collect`] gathers them.
///
/// # Examples
///
/// ```
/// use mcp_core::{ConfigError, ConfigErrors};
///
/// let errors = ConfigErrors::collect(|errors| {
///     errors.below("upstreams.crm", |errors| {
///         errors.push(ConfigError::new("url", "ftp://crm", "an http or https address"));
///         errors.push(ConfigError::new("timing.list", "0s", "at least 1ms"));
///     });
/// })
/// .unwrap_err();
/// assert_eq!(errors.iter().count(), 2);
/// assert_eq!(errors.iter().next().unwrap().key(), "upstreams.crm.url");
/// ```
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Runs a check and returns its value, or all errors that it has collected.
    ///
    /// # Errors
    ///
    /// Any error was collected.
    pub fn collect<T>(check: impl FnOnce(&mut ConfigCheck) -> T) -> Result<T, Self> {
        let mut errors = ConfigCheck::default();
        let value = check(&mut errors);
        match errors.found.is_empty() {
            true => Ok(value),
            false => Err(Self(errors.found)),
        }
    }

    /// Returns the errors in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl IntoIterator for ConfigErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    /// Writes one error on each line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            let line = if number == 0 { "" } else { "\n" };
            write!(f, "{line}{error}")?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.first().and_then(Error::source)
    }
}

/// Collects the errors of a configuration while it is checked. Made by [`ConfigErrors::collect`].
#[derive(Debug, Default)]
pub struct ConfigCheck {
    prefix: String,
    found: Vec<ConfigError>,
}

impl ConfigCheck {
    /// Adds an error; its key is below the keys of [`ConfigCheck::below`].
    pub fn push(&mut self, error: ConfigError) {
        self.found.push(match self.prefix.is_empty() {
            true => error,
            false => error.below(&self.prefix),
        });
    }

    /// Adds the errors of a result and returns its value.
    pub fn take<T>(&mut self, result: Result<T, impl Into<ConfigErrors>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(errors) => {
                for error in errors.into() {
                    self.push(error);
                }
                None
            }
        }
    }

    /// Adds an error unless `allowed_if` holds.
    pub fn require(
        &mut self,
        allowed_if: bool,
        key: &'static str,
        given: impl fmt::Display,
        allowed: &'static str,
    ) {
        if !allowed_if {
            self.push(ConfigError::new(key, given, allowed));
        }
    }

    /// Runs a part of the check whose keys are below `key`.
    pub fn below<T>(&mut self, key: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        let longer = join(&self.prefix, key);
        let prefix = std::mem::replace(&mut self.prefix, longer);
        let value = check(self);
        self.prefix = prefix;
        value
    }

    /// Returns whether an error was found so far.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        !self.found.is_empty()
    }
}

impl ConfigError {
    /// Two upstreams have the same id.
    #[must_use]
    pub fn duplicate_upstream(id: &UpstreamId) -> Self {
        Self::new("upstreams", id, "ids must differ")
    }
}

fn cut(given: impl fmt::Display) -> Box<str> {
    let mut given = given.to_string();
    if let Some((at, _)) = given.char_indices().nth(LONGEST) {
        given.truncate(at);
        given.push('…');
    }
    given.into()
}

fn join(prefix: &str, key: &str) -> String {
    match (prefix.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_collected_with_dotted_keys() {
        let errors = ConfigErrors::collect(|check| {
            check.require(true, "fine", 1, "anything");
            check.below("upstreams", |check| {
                check.below("crm", |check| {
                    let bad: Result<(), _> =
                        Err(ConfigError::new("url", "x", "an http or https address"));
                    assert!(check.take(bad).is_none());
                });
                check.require(false, "count", 0, "at least 1");
            });
            check.push(ConfigError::new("listen", "8080", "host:port"));
        })
        .unwrap_err();
        assert_eq!(
            errors.to_string(),
            "upstreams.crm.url = x: an http or https address\n\
             upstreams.count = 0: at least 1\n\
             listen = 8080: host:port"
        );
        let nested = ConfigErrors::collect(|check| {
            check.below("gateway", |check| check.take::<()>(Err(errors)));
        });
        let keys: Vec<_> = nested
            .unwrap_err()
            .into_iter()
            .map(|error| error.key().to_owned())
            .collect();
        assert_eq!(
            keys,
            [
                "gateway.upstreams.crm.url",
                "gateway.upstreams.count",
                "gateway.listen"
            ]
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let error = ConfigError::new("url", "ü".repeat(10_000), "shorter");
        assert_eq!(error.given().chars().count(), LONGEST + 1);
    }

    #[test]
    fn a_check_without_errors_returns_its_value() {
        let value = ConfigErrors::collect(|check| check.take(Ok::<_, ConfigError>(7)));
        assert_eq!(value.unwrap(), Some(7));
    }

    #[test]
    fn the_cause_is_kept() {
        let cause = std::io::Error::other("no such file");
        let error = ConfigError::new("tls", "system roots", "readable").with_source(cause);
        let errors = ConfigErrors::from(error);
        assert_eq!(errors.source().unwrap().to_string(), "no such file");
    }
}
