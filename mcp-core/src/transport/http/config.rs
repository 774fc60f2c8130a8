use url::Url;

use crate::{Bounds, ConfigError, Timing};

/// Settings of the HTTP transport.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HttpConfig {
    pub(super) hosts: Names,
    pub(super) origins: Vec<Origin>,
    pub(super) single_user: bool,
    pub(super) timing: Timing,
    pub(super) bounds: Bounds,
}

/// Host names without port, in lower case.
#[derive(Clone, Debug)]
pub(super) enum Names {
    Any,
    Only(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Only(
            ["localhost", "127.0.0.1", "[::1]"]
                .map(str::to_owned)
                .to_vec(),
        )
    }
}

/// A scheme, host and port that a browser's page may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin(pub(super) String);

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

    /// Sets the durations: [`Timing::session_idle`], [`Timing::keep_alive`], [`Timing::stall`] and
    /// [`Timing::replay`] are the transport's.
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Sets the limits: [`Bounds::body`], [`Bounds::sessions`], [`Bounds::sessions_per_principal`],
    /// [`Bounds::calls_per_session`], [`Bounds::subscriptions`], [`Bounds::batch`] and those of the replay buffers are
    /// the transport's.
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
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
