use std::{borrow::Cow, fmt};

use mcp_core::ErrorKind;

use crate::call_log;

type Source = Box<dyn std::error::Error + Send + Sync>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:literal, $core:ident;)*) => {
        /// The kinds of [`BrowserError`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum BrowserErrorKind {
            $($(#[$doc])* $kind,)*
        }

        impl BrowserErrorKind {
            /// A fixed name, for logs, audit and answers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            const fn core(self) -> ErrorKind {
                match self { $(Self::$kind => ErrorKind::$core,)* }
            }
        }
    };
}

kinds! {
    /// Node, the Playwright driver or the browser is not where it should be.
    NotInstalled: "not_installed", Unavailable;
    /// Node or the Playwright driver has another version than this crate speaks with.
    WrongVersion: "wrong_version", Unavailable;
    /// The driver or the browser does not start.
    StartFailed: "start_failed", Unavailable;
    /// The driver or the browser ended while it was needed. The session is gone; a new one can be created.
    BrowserGone: "browser_gone", Unavailable;
    /// The session does not exist, has ended, or is another principal's.
    SessionNotFound: "session_not_found", InvalidParams;
    /// The bound on sessions, tabs or the like is reached.
    LimitReached: "limit_reached", Overloaded;
    /// The origin policy or another rule of the operator forbids it.
    Denied: "denied", PermissionDenied;
    /// An argument makes no sense.
    InvalidInput: "invalid_input", InvalidParams;
    /// No element matches, or none that can be acted on.
    ElementNotFound: "element_not_found", InvalidParams;
    /// More than one element matches.
    Ambiguous: "ambiguous", InvalidParams;
    /// The reference is not one of the page's last snapshot.
    StaleReference: "stale_reference", InvalidParams;
    /// The page's renderer ended. Another can be loaded in its place.
    PageCrashed: "page_crashed", Unavailable;
    /// The page could not be loaded.
    Navigation: "navigation", BadUpstream;
    /// It took too long.
    Timeout: "timeout", Timeout;
    /// A dialog of the page is open and has to be answered first.
    DialogOpen: "dialog_open", InvalidParams;
    /// A check of an element does not hold.
    NotAsExpected: "not_as_expected", InvalidParams;
    /// The script of an evaluation threw.
    Script: "script", InvalidParams;
    /// The page, a result or a file is larger than allowed.
    TooLarge: "too_large", TooLarge;
    /// A store cannot be read or written.
    StoreAway: "store_away", Unavailable;
    /// Anything else that the driver reports.
    Driver: "driver", BadUpstream;
}

const INTERRUPTED: &str = "another navigation came in between";

/// Why something in a browser was not done, in words that a model can act on.
#[derive(Debug)]
pub struct BrowserError {
    kind: BrowserErrorKind,
    message: Cow<'static, str>,
    /// What the driver's call log knows of the cause.
    reason: Option<String>,
    source: Option<Source>,
}

impl BrowserError {
    /// Makes an error.
    #[must_use]
    pub fn new(kind: BrowserErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            reason: None,
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> BrowserErrorKind {
        self.kind
    }

    /// What the driver's call log knows of the cause, in a few words.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub(crate) fn map_kind(mut self, kind: BrowserErrorKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn map_message(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.message = change(&self.message).into();
        self
    }

    /// Whether a navigation failed because another one came in between.
    pub(crate) fn is_interruption(&self) -> bool {
        self.kind == BrowserErrorKind::Navigation && self.message.contains(INTERRUPTED)
    }

    pub(crate) fn gone() -> Self {
        Self::new(
            BrowserErrorKind::BrowserGone,
            "the browser ended; this session is gone: create a new one",
        )
    }

    /// Translates what Playwright says. Its first line is kept, and of the call log what tells the cause: the rest is a
    /// stack with paths.
    #[allow(clippy::needless_pass_by_value, reason = "as errors are mapped")]
    pub(crate) fn of(error: playwright_rs::Error) -> Self {
        let whole = error.to_string();
        let (text, log) = call_log::split(&whole);
        let reason = call_log::reason(log);
        let line = text.lines().next().unwrap_or_default();
        let line = line
            .trim_start_matches("Protocol error: ")
            .trim_start_matches("Error: ");
        let line: String = line.chars().take(500).collect();
        let kind = classify(&error, text);
        let message = match kind {
            BrowserErrorKind::Ambiguous => {
                let count = text
                    .split("resolved to ")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next());
                let count = count.unwrap_or("several");
                let matches = call_log::matches(text);
                format!(
                    "the selector matches {count} elements: use a reference from a snapshot, or a narrower selector{matches}"
                )
            }
            BrowserErrorKind::BrowserGone => {
                "the page or its browser ended: open another tab or create a new session".to_owned()
            }
            BrowserErrorKind::StaleReference => {
                "the reference is not on the page any more: take a new snapshot".to_owned()
            }
            BrowserErrorKind::Navigation => match text.split("net::").nth(1) {
                Some(rest) => format!(
                    "the page could not be loaded: {}",
                    rest.split([' ', '\n']).next().unwrap_or_default()
                ),
                None => format!("the page could not be loaded: {INTERRUPTED}; try again"),
            },
            BrowserErrorKind::PageCrashed => {
                "the page crashed: navigate, or reload it, to get a new one".to_owned()
            }
            BrowserErrorKind::Timeout => match &reason {
                Some(reason) => format!("it took too long: {reason}"),
                None => format!("it took too long: {line}"),
            },
            BrowserErrorKind::InvalidInput => {
                format!("the element or the selector does not fit: {line}")
            }
            _ => line,
        };
        let error = Self::new(kind, message);
        Self { reason, ..error }
    }
}

/// The driver's errors have no codes: their texts decide.
fn classify(error: &playwright_rs::Error, text: &str) -> BrowserErrorKind {
    use BrowserErrorKind as K;
    use playwright_rs::Error as P;
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let ended = matches!(
        error,
        P::TargetClosed { .. }
            | P::ChannelClosed
            | P::TransportError(_)
            | P::ConnectionFailed(_)
            | P::Io(_)
    );
    if has(&["strict mode violation"]) {
        K::Ambiguous
    } else if has(&["Target crashed", "Page crashed"]) {
        K::PageCrashed
    } else if ended || has(&["has been closed"]) {
        K::BrowserGone
    } else if has(&["aria-ref"]) {
        K::StaleReference
    } else if has(&["net::ERR_", "interrupted by another navigation"]) {
        K::Navigation
    } else if matches!(
        error,
        P::Timeout(_)
            | P::NavigationTimeout { .. }
            | P::AssertionTimeout(_)
            | P::AssertionFailed(_)
    ) || has(&["Timeout "])
    {
        K::Timeout
    } else if has(&[
        "is not a valid selector",
        "while parsing",
        "Unknown engine",
        "Unexpected token",
        "not an <input>",
        "not a <select>",
        "not editable",
        "Not a checkbox",
        "did not find some options",
        "not an HTMLInputElement",
        "Non-multiple file input",
        "webkitdirectory",
        "did not accept the drop",
        "Unknown key",
        "Invalid timezone",
        "Invalid locale",
    ]) {
        K::InvalidInput
    } else {
        K::Driver
    }
}

impl From<mcp_core::store::StoreError> for BrowserError {
    fn from(error: mcp_core::store::StoreError) -> Self {
        Self::new(BrowserErrorKind::StoreAway, "the store cannot be used").with_source(error)
    }
}

impl From<BrowserError> for mcp_core::Error {
    fn from(error: BrowserError) -> Self {
        Self::new(error.kind.core(), error.to_string()).with_source(error)
    }
}

impl fmt::Display for BrowserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BrowserError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use playwright_rs::Error as P;

    use super::*;

    #[test]
    fn what_the_driver_says_becomes_what_to_do() {
        use BrowserErrorKind as K;
        let cases = [
            (
                "locator.click: Error: strict mode violation: locator('a') resolved to 3 elements:\n  1) <a>",
                K::Ambiguous,
                "3 elements",
            ),
            (
                "page.goto: net::ERR_NAME_NOT_RESOLVED at http://x/\nCall log: /usr/lib/x.js",
                K::Navigation,
                "ERR_NAME_NOT_RESOLVED",
            ),
            (
                "Target page, context or browser has been closed",
                K::BrowserGone,
                "new session",
            ),
            (
                "Invalid frame in aria-ref selector \"aria-ref=f92e8\"",
                K::StaleReference,
                "snapshot",
            ),
            (
                "something\n    at /home/me/driver.js:1",
                K::Driver,
                "something",
            ),
        ];
        for (text, kind, part) in cases {
            let error = BrowserError::of(P::ProtocolError(text.into()));
            assert_eq!(error.kind(), kind, "{text}");
            assert!(
                error.to_string().contains(part) && !error.to_string().contains(".js"),
                "{error}"
            );
        }
    }
}
