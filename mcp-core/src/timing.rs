//! Durations, in one place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ConfigCheck;

macro_rules! timing {
    ($($(#[$doc:meta])* $field:ident / $setter:ident = $default:expr, $least:expr;)*) => {
        /// Every duration that a server transport or a gateway goes by.
        ///
        /// In a configuration file each is text with units, as in `"10s"`, `"1m 30s"` or `"250ms"`; what is not
        /// named keeps its default, and an unknown name is an error.
        ///
        /// # Examples
        ///
        /// ```
        /// use std::time::Duration;
        ///
        /// use mcp_core::Timing;
        ///
        /// let timing = Timing::default().with_list(Duration::from_secs(3));
        /// assert_eq!(timing.list, Duration::from_secs(3));
        /// let read: Timing = serde_json::from_str(r#"{"list":"3s"}"#)?;
        /// assert_eq!(read, timing);
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        #[must_use]
        pub struct Timing {
            $($(#[$doc])* #[serde(with = "crate::duration")] pub $field: Duration,)*
            /// Default deadline of a call that has none. Default is none: a call may take as long as its client waits.
            #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
            pub call: Option<Duration>,
        }

        impl Default for Timing {
            fn default() -> Self {
                Self { $($field: $default,)* call: None }
            }
        }

        impl Timing {
            $(
                #[doc = concat!("Sets [`Timing::", stringify!($field), "`].")]
                pub const fn $setter(mut self, $field: Duration) -> Self {
                    self.$field = $field;
                    self
                }
            )*

            /// Sets [`Timing::call`].
            pub const fn with_call(mut self, call: Option<Duration>) -> Self {
                self.call = call;
                self
            }

            /// Collects the settings that are too short to work.
            pub fn check(&self, check: &mut ConfigCheck) {
                $(least(check, stringify!($field), self.$field, $least);)*
                if let Some(call) = self.call {
                    least(check, "call", call, MILLISECOND);
                }
                check.require(
                    self.backoff_first <= self.backoff_longest,
                    "backoff_first",
                    humantime::format_duration(self.backoff_first),
                    "at most backoff_longest",
                );
            }
        }
    };
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

timing! {
    /// Longest time from the start of an upstream to its answered handshake. Default is 60 s.
    start / with_start = Duration::from_secs(60), MILLISECOND;
    /// Longest time that one list of an upstream may take, all its pages together. Default is 10 s.
    list / with_list = Duration::from_secs(10), MILLISECOND;
    /// Longest time that each upstream may take where a request fans out to all of them. Default is 5 s.
    fan_out / with_fan_out = Duration::from_secs(5), MILLISECOND;
    /// Longest time that a client which connects or begins to listen waits for upstreams that are not ready. Default is 2 s.
    settle / with_settle = Duration::from_secs(2), Duration::ZERO;
    /// Longest time for an upstream's process to stop after its input was closed, and again after SIGTERM, before it is
    /// killed; and for a session to end. Default is 2 s.
    stop / with_stop = Duration::from_secs(2), Duration::ZERO;
    /// Time without a call after which an upstream's session or process is stopped. Default is 15 min.
    idle / with_idle = Duration::from_secs(15 * 60), MILLISECOND;
    /// Interval at which an upstream that announces no changes is listed again. Default is 30 s.
    poll / with_poll = Duration::from_secs(30), MILLISECOND;
    /// First delay before another attempt after a failure; doubled, with jitter, up to the longest. Default is 250 ms.
    backoff_first / with_backoff_first = Duration::from_millis(250), MILLISECOND;
    /// Longest delay before another attempt. Default is 30 s.
    backoff_longest / with_backoff_longest = Duration::from_secs(30), MILLISECOND;
    /// Longest time that calls in flight have to finish when something is drained. Default is 30 s; zero waits for none.
    drain / with_drain = Duration::from_secs(30), Duration::ZERO;
    /// Time without a request after which a client's session ends. An open stream keeps it. Default is 30 min.
    session_idle / with_session_idle = Duration::from_secs(30 * 60), SECOND;
    /// Longest time without an event on an open stream before a comment is sent, so that no proxy closes it.
    /// Default is 15 s.
    keep_alive / with_keep_alive = Duration::from_secs(15), Duration::from_millis(10);
    /// Longest time that a client which does not read may hold up its call. Default is 10 s.
    stall / with_stall = Duration::from_secs(10), MILLISECOND;
    /// Time for which a finished stream is kept for a client that comes back with `Last-Event-ID`. Default is 30 s;
    /// zero keeps none.
    replay / with_replay = Duration::from_secs(30), Duration::ZERO;
    /// Longest time to write answers that are ready when a connection over lines ends. Default is 5 s.
    flush / with_flush = Duration::from_secs(5), Duration::ZERO;
    /// Longest time for the head of an HTTP request to arrive, counted from the end of the request before: an idle
    /// connection is closed after it. Default is 60 s.
    request_head / with_request_head = Duration::from_secs(60), MILLISECOND;
    /// Longest time for the body of an HTTP request to arrive. Default is 30 s.
    request_body / with_request_body = Duration::from_secs(30), MILLISECOND;
}

fn least(check: &mut ConfigCheck, key: &'static str, given: Duration, least: Duration) {
    if given < least {
        check.push(crate::ConfigError::new(
            key,
            humantime::format_duration(given),
            format!("at least {}", humantime::format_duration(least)),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigErrors;

    #[test]
    fn what_is_written_is_read_again() {
        for timing in [
            Timing::default(),
            Timing::default()
                .with_call(Some(Duration::from_secs(90)))
                .with_poll(Duration::from_millis(1_500)),
        ] {
            let text = serde_json::to_string(&timing).unwrap();
            assert_eq!(serde_json::from_str::<Timing>(&text).unwrap(), timing);
        }
        let text = serde_json::to_string(&Timing::default()).unwrap();
        assert!(text.contains(r#""idle":"15m""#), "{text}");
    }

    #[test]
    fn a_value_without_a_unit_and_an_unknown_name_are_refused() {
        for (text, expected) in [
            (r#"{"list":"10"}"#, "\"10s\""),
            (r#"{"list":10}"#, "string"),
            (r#"{"lists":"10s"}"#, "lists"),
            (r#"{"call":"soon"}"#, "soon"),
        ] {
            let error = serde_json::from_str::<Timing>(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn durations_too_short_to_work_are_collected() {
        let timing = Timing::default()
            .with_list(Duration::ZERO)
            .with_call(Some(Duration::ZERO))
            .with_drain(Duration::ZERO)
            .with_backoff_longest(Duration::from_millis(1))
            .with_session_idle(Duration::from_millis(999));
        let errors = ConfigErrors::collect(|check| {
            check.below("timing", |check| timing.check(check));
        })
        .unwrap_err();
        let keys: Vec<_> = errors.iter().map(|error| error.key()).collect();
        assert_eq!(
            keys,
            [
                "timing.list",
                "timing.session_idle",
                "timing.call",
                "timing.backoff_first"
            ]
        );
        assert!(
            errors
                .to_string()
                .contains("timing.list = 0s: at least 1ms")
        );
        assert!(ConfigErrors::collect(|check| Timing::default().check(check)).is_ok());
    }
}
