use std::{num::NonZeroUsize, time::Duration};

use url::Url;

use crate::ConfigError;

/// Settings of the HTTP transport. Every value that cannot work is refused when it is set.
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpConfig {
    pub(super) hosts: Names,
    pub(super) origins: Vec<Origin>,
    pub(super) body_limit: usize,
    pub(super) sessions: NonZeroUsize,
    pub(super) idle: Duration,
    pub(super) keep_alive: Duration,
    pub(super) single_user: bool,
}

/// Host names without port, in lower case.
#[derive(Clone, Debug)]
pub(super) enum Names {
    Any,
    Only(Vec<String>),
}

/// A scheme, host and port that a browser's page may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin(pub(super) String);

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            hosts: Names::Only(
                ["localhost", "127.0.0.1", "[::1]"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            origins: Vec::new(),
            body_limit: 4 << 20,
            sessions: NonZeroUsize::MIN.saturating_add(9_999),
            idle: Duration::from_secs(30 * 60),
            keep_alive: Duration::from_secs(15),
            single_user: false,
        }
    }
}

impl HttpConfig {
    /// Accepts requests for another `Host`, a name or address without port.
    ///
    /// Default is `localhost`, `127.0.0.1` and `[::1]`, on any port: a page of the attacker's that has its name
    /// point at this machine (DNS rebinding) sends its own name. Origins of accepted hosts are accepted too.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a value that is not a host.
    pub fn with_allowed_host(mut self, host: &str) -> Result<Self, ConfigError> {
        let refuse = || {
            ConfigError::new(
                "host",
                host,
                "give a name or address without scheme and port, IPv6 in brackets",
            )
        };
        let parsed = url::Host::parse(host).map_err(|_| refuse())?;
        if let Names::Only(hosts) = &mut self.hosts {
            hosts.push(parsed.to_string());
        }
        Ok(self)
    }

    /// Accepts browser requests from another origin, for instance `https://app.example`.
    ///
    /// Default is origins whose host is an accepted host.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a value that is not an origin.
    pub fn with_allowed_origin(mut self, origin: &str) -> Result<Self, ConfigError> {
        let parsed = Url::parse(origin).ok().filter(|url| {
            url.has_host() && url.path() == "/" && url.query().is_none() && url.fragment().is_none()
        });
        let Some(url) = parsed else {
            return Err(ConfigError::new(
                "origin",
                origin,
                "give a scheme, a host and an optional port, nothing after them",
            ));
        };
        self.origins
            .push(Origin(url.origin().ascii_serialization()));
        Ok(self)
    }

    /// Accepts requests for every `Host`.
    ///
    /// # Security
    ///
    /// Only behind a proxy that checks `Host` itself: otherwise any web page can reach this server through
    /// DNS rebinding. `Origin` is checked all the same.
    pub fn insecure_allow_any_host(mut self) -> Self {
        self.hosts = Names::Any;
        self
    }

    /// Sets the largest request body in bytes. Default is 4 MiB.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for 0.
    pub fn with_body_limit(mut self, bytes: usize) -> Result<Self, ConfigError> {
        if bytes == 0 {
            return Err(ConfigError::new(
                "body_limit",
                "0",
                "give the largest body to accept, in bytes",
            ));
        }
        self.body_limit = bytes;
        Ok(self)
    }

    /// Sets how many sessions of the session era may be open. Default is 10,000; one more is refused with 503
    /// unless the one that has been idle longest can be ended.
    pub fn with_max_sessions(mut self, sessions: NonZeroUsize) -> Self {
        self.sessions = sessions;
        self
    }

    /// Sets after how long without a request a session ends. Default is 30 minutes. An open stream keeps its
    /// session.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for less than a second.
    pub fn with_session_idle(mut self, idle: Duration) -> Result<Self, ConfigError> {
        if idle < Duration::from_secs(1) {
            return Err(ConfigError::new(
                "session_idle",
                format!("{idle:?}"),
                "give at least a second",
            ));
        }
        self.idle = idle;
        Ok(self)
    }

    /// Sets after how long without an event a comment is sent on an open stream, so that no proxy closes it.
    /// Default is 15 s.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for less than 10 ms.
    pub fn with_keep_alive(mut self, interval: Duration) -> Result<Self, ConfigError> {
        if interval < Duration::from_millis(10) {
            return Err(ConfigError::new(
                "keep_alive",
                format!("{interval:?}"),
                "give at least 10 ms",
            ));
        }
        self.keep_alive = interval;
        Ok(self)
    }

    /// Takes every request that carries no [`Principal`](crate::Principal) for the user who started the process,
    /// instead of one principal for each session.
    ///
    /// # Security
    ///
    /// For a server on loopback that one user runs for themselves.
    pub fn single_user(mut self) -> Self {
        self.single_user = true;
        self
    }
}
