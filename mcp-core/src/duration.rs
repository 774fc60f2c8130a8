//! Durations in configuration files: text with units, as in `"10s"`, `"1m 30s"` or `"250ms"`.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Settings {
//!     #[serde(with = "mcp_core::duration")]
//!     pause: Duration,
//! }
//!
//! let read: Settings = serde_json::from_str(r#"{"pause":"1m 30s"}"#)?;
//! assert_eq!(read.pause, Duration::from_secs(90));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes a duration as text.
///
/// # Errors
///
/// The serializer fails.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration.
///
/// # Errors
///
/// The text is not a duration; the error shows it with an example of one.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&Cow::<str>::deserialize(deserializer)?)
}

fn parse<E: Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text).map_err(|error| {
        E::custom(format!(
            "{text:?} is not a duration such as \"10s\" or \"250ms\": {error}"
        ))
    })
}

/// Shows a duration as configuration files write it.
#[must_use]
pub fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// The same where there may be none.
pub mod option {
    use super::{Cow, Deserialize, Deserializer, Duration, Serializer, parse};

    /// Writes a duration as text, or nothing.
    ///
    /// # Errors
    ///
    /// The serializer fails.
    #[allow(clippy::ref_option, reason = "serde calls it so")]
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a duration, or nothing.
    ///
    /// # Errors
    ///
    /// As [`super::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<Cow<'_, str>>::deserialize(deserializer)?
            .map(|text| parse(&text))
            .transpose()
    }
}
