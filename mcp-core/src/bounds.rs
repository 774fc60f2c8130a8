//! Limits on what clients and upstreams may take up, in one place.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

macro_rules! bounds {
    ($($(#[$doc:meta])* $field:ident / $setter:ident = $default:literal;)*) => {
        /// Every limit on what clients and upstreams may take up. Each is a count unless it says bytes; none can be
        /// zero.
        ///
        /// In a configuration file what is not named keeps its default, and an unknown name is an error.
        ///
        /// # Examples
        ///
        /// ```
        /// use std::num::NonZeroUsize;
        ///
        /// use mcp_core::Bounds;
        ///
        /// let bounds = Bounds::default().with_sessions(NonZeroUsize::MIN);
        /// assert_eq!(bounds.sessions.get(), 1);
        /// let read: Bounds = serde_json::from_str(r#"{"sessions":1}"#)?;
        /// assert_eq!(read, bounds);
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        #[must_use]
        pub struct Bounds {
            $($(#[$doc])* pub $field: NonZeroUsize,)*
        }

        impl Default for Bounds {
            fn default() -> Self {
                Self { $($field: const { NonZeroUsize::MIN.saturating_add($default - 1) },)* }
            }
        }

        impl Bounds {
            $(
                #[doc = concat!("Sets [`Bounds::", stringify!($field), "`].")]
                pub const fn $setter(mut self, $field: NonZeroUsize) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

bounds! {
    /// Child processes of all upstreams together. Default is 256.
    processes / with_processes = 256;
    /// Child processes that one principal may cause, of all upstreams together. Default is 64.
    processes_per_principal / with_processes_per_principal = 64;
    /// Child processes that may be starting at the same moment. Default is 8.
    starts / with_starts = 8;
    /// Sessions with HTTP upstreams, all together. Default is 10,000.
    upstream_sessions / with_upstream_sessions = 10_000;
    /// Sessions with HTTP upstreams that one principal may cause. Default is 256.
    upstream_sessions_per_principal / with_upstream_sessions_per_principal = 256;
    /// Catalogues kept for clients whose upstreams offer them other entries. Default is 4,096.
    views / with_views = 4_096;
    /// Catalogues of this kind that one principal may cause. Default is 64.
    views_per_principal / with_views_per_principal = 64;
    /// Calls that may wait for an upstream that is starting. Default is 1,024.
    parked_calls / with_parked_calls = 1_024;
    /// Pages that one list of an upstream may have. Default is 1,000.
    list_pages / with_list_pages = 1_000;
    /// Sessions of clients, all together. Default is 10,000.
    sessions / with_sessions = 10_000;
    /// Sessions that one principal may have; sessions without a credential count by the client's address where the
    /// embedder gives one. Default is 1,000.
    sessions_per_principal / with_sessions_per_principal = 1_000;
    /// Calls that may be in flight in one session or connection. Default is 1,024.
    calls_per_session / with_calls_per_session = 1_024;
    /// Resource subscriptions of one session. Default is 256.
    subscriptions / with_subscriptions = 256;
    /// Stateless subscriptions (`subscriptions/listen`) that one principal may have open; those without a credential count
    /// by the client's address where the embedder gives one. Default is 1,000.
    listeners_per_principal / with_listeners_per_principal = 1_000;
    /// Messages in one batch (revision 2025-03-26). Default is 1,000.
    batch / with_batch = 1_000;
    /// Finished streams that a session keeps for a client that comes back. Default is 16.
    replay_streams / with_replay_streams = 16;
    /// Events that one stream keeps for a client that comes back. Default is 256.
    replay_events / with_replay_events = 256;
    /// Bytes of events that one session keeps for a client that comes back, all its streams together. Default is
    /// 1 MiB.
    replay_bytes / with_replay_bytes = 1_048_576;
    /// Events that may wait for a client that is connected and does not read. Default is 64.
    unread_events / with_unread_events = 64;
    /// Largest HTTP request body in bytes. Default is 4 MiB.
    body / with_body = 4_194_304;
    /// Longest line in bytes, over stdio. Default is 16 MiB.
    line / with_line = 16_777_216;
    /// Open HTTP connections. Default is 10,000.
    connections / with_connections = 10_000;
    /// Open HTTP connections of one network address (an IPv6 network of 64 bits); one more is closed at once. Default is
    /// 5,000. Set it to [`Bounds::connections`] behind a proxy, whose connections are all of one address.
    connections_per_peer / with_connections_per_peer = 5_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let bounds = Bounds::default().with_processes(NonZeroUsize::MIN);
        let text = serde_json::to_string(&bounds).unwrap();
        assert_eq!(serde_json::from_str::<Bounds>(&text).unwrap(), bounds);
    }

    #[test]
    fn zero_and_an_unknown_name_are_refused() {
        for (text, expected) in [
            (r#"{"processes":0}"#, "nonzero"),
            (r#"{"process":1}"#, "process"),
            (r#"{"processes":-1}"#, "-1"),
        ] {
            let error = serde_json::from_str::<Bounds>(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
