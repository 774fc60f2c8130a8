use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::client::conn::http1;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use url::Url;

use super::connect::{AddressRule, Connector, Resolve, Rules, SystemResolver, TcpConnector};
use super::idle::Idle;
use super::{GuardedClient, Limits, Plain};
use crate::ConfigError;

const DEFAULT_MAX_BODY: u64 = 4 * 1024 * 1024;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_REDIRECTS: u32 = 3;
const DEFAULT_IDLE: Duration = Duration::from_secs(60);
const DEFAULT_MAX_IDLE: usize = 64;
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// Headers must fit in it, and bodies are read in pieces up to it.
const HTTP1_BUFFER: usize = 256 * 1024;

/// Sets up a [`GuardedClient`].
#[must_use]
pub struct GuardedClientBuilder {
    origins: Vec<Uri>,
    also_allowed: Option<AddressRule>,
    loopback: bool,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
    limits: Limits,
    connect_timeout: Duration,
    idle: Duration,
    max_idle: usize,
}

/// Where TLS comes from.
enum Tls {
    /// The provider of the feature `tls-aws-lc` and the system's roots.
    Default,
    Own(Box<ClientConfig>),
    None,
}

impl GuardedClientBuilder {
    pub(super) fn new() -> Self {
        Self {
            origins: Vec::new(),
            also_allowed: None,
            loopback: false,
            resolver: Arc::new(SystemResolver::new()),
            tls: Tls::Default,
            limits: Limits {
                body: DEFAULT_MAX_BODY,
                total: Some(DEFAULT_TOTAL_TIMEOUT),
                redirects: DEFAULT_REDIRECTS,
            },
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            idle: DEFAULT_IDLE,
            max_idle: DEFAULT_MAX_IDLE,
        }
    }

    /// Allows one origin as written, `http` and private addresses included; path and query are ignored.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if it is not an absolute `http` or `https` address, or holds credentials.
    pub fn allow_origin(mut self, url: &str) -> Result<Self, ConfigError> {
        // The text may hold a password; an error shows no more than where it points.
        let fail = |shown: &str| {
            ConfigError::new(
                "origin",
                shown,
                "an absolute http or https address without credentials",
            )
        };
        let parsed = Url::parse(url).map_err(|_| fail("(unreadable)"))?;
        let shown = parsed.origin().ascii_serialization();
        let clean = parsed.username().is_empty() && parsed.password().is_none();
        if !clean || !matches!(parsed.scheme(), "http" | "https") {
            return Err(fail(&shown));
        }
        self.origins.push(shown.parse().map_err(|_| fail(&shown))?);
        Ok(self)
    }

    /// Uses a TLS configuration of one's own: provider, roots, client certificate. ALPN is set by this client.
    /// Default is the provider of the feature `tls-aws-lc` and the system's roots.
    pub fn with_tls(mut self, config: ClientConfig) -> Self {
        self.tls = Tls::Own(Box::new(config));
        self
    }

    /// Reaches only origins with `http` that were allowed, so that neither a TLS provider nor the system's roots are
    /// needed. Every `https` address is refused.
    pub fn without_tls(mut self) -> Self {
        self.tls = Tls::None;
        self
    }

    /// Resolves names another way. Default is [`SystemResolver`]. Its answers are checked like any others.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Bounds a body read through [`HttpClient::send`](crate::http_client::HttpClient::send), in bytes.
    /// Default is 4 MiB; zero allows empty bodies only.
    pub const fn with_max_body(mut self, bytes: u64) -> Self {
        self.limits.body = bytes;
        self
    }

    /// Bounds the time from sending to the end of the body, redirects included; `None` does not bound it.
    /// Default is 30 s; zero fails every request. Only for `send`.
    pub const fn with_total_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.limits.total = timeout;
        self
    }

    /// Bounds looking up, connecting and the TLS handshake together. Default is 5 s; zero fails every request.
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many redirects `send` follows. Default is 3; zero refuses every redirect.
    pub const fn with_max_redirects(mut self, redirects: u32) -> Self {
        self.limits.redirects = redirects;
        self
    }

    /// How long and how many unused connections are kept for each origin. Default is 60 s and 64.
    pub const fn with_idle_connections(mut self, time: Duration, most: usize) -> Self {
        self.idle = time;
        self.max_idle = most;
        self
    }

    /// Treats further addresses as public, for a closed network in which everything is private.
    ///
    /// # Security
    ///
    /// Whoever can name an address in a discovered document reaches all that the rule admits.
    pub fn insecure_allow_addresses(
        mut self,
        rule: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.also_allowed = Some(Arc::new(rule));
        self
    }

    /// Whether nothing that was allowed needs TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.origins
            .iter()
            .all(|origin| origin.scheme_str() == Some("http"))
    }

    /// Allows this machine as `127.0.0.1`, `[::1]` and `localhost`, on every port and over `http`, for tests and
    /// development.
    ///
    /// # Security
    ///
    /// Whoever can name an address in a discovered document reaches every service of this machine.
    pub const fn insecure_allow_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Builds the client. Reads the system's root certificates unless a TLS configuration was given.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if TLS cannot be set up.
    pub fn build(self) -> Result<GuardedClient, ConfigError> {
        let tls = match self.tls {
            Tls::Default => Some(default_tls()?),
            Tls::Own(config) => Some(*config),
            Tls::None => None,
        };
        let rules = Arc::new(Rules {
            origins: self.origins,
            also_allowed: self.also_allowed,
            loopback: self.loopback,
        });
        let tcp = TcpConnector {
            rules: Arc::clone(&rules),
            resolver: self.resolver,
        };
        let https = tls.map(|mut tls| {
            // The connector sets it, and insists on doing so.
            tls.alpn_protocols.clear();
            HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_only()
                .enable_all_versions()
                .wrap_connector(tcp.clone())
        });
        let connector = Connector {
            tcp,
            https,
            rules: Arc::clone(&rules),
            timeout: self.connect_timeout,
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.idle)
            .http1_max_headers(MAX_HEADERS)
            .http1_max_buf_size(HTTP1_BUFFER)
            .http2_max_header_list_size(MAX_HEADER_BYTES);
        let mut settings = http1::Builder::new();
        settings.max_headers(MAX_HEADERS).max_buf_size(HTTP1_BUFFER);
        let plain = Plain {
            connector: connector.clone(),
            settings,
            idle: Idle::new(self.idle, self.max_idle),
        };
        let unpooled = builder.pool_max_idle_per_host(0).build(connector.clone());
        let client = builder
            .pool_max_idle_per_host(self.max_idle)
            .build(connector);
        Ok(GuardedClient {
            plain: Arc::new(plain),
            client,
            unpooled,
            rules,
            limits: self.limits,
        })
    }
}

impl fmt::Debug for GuardedClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedClientBuilder")
            .field("origins", &self.origins)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn default_tls() -> Result<ClientConfig, ConfigError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        ConfigError::new("tls", "the system's settings", "TLS cannot be set up").with_source(error)
    };
    let provider = default_provider().ok_or_else(|| {
        ConfigError::new(
            "tls",
            "no cryptography provider",
            "enable the feature `tls-aws-lc` or pass a rustls provider",
        )
    })?;
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?
        .with_native_roots()
        .map_err(|error| failed(error.into()))?
        .with_no_client_auth())
}

#[cfg(feature = "tls-aws-lc")]
#[allow(
    clippy::unnecessary_wraps,
    reason = "without the feature there is none"
)]
fn default_provider() -> Option<CryptoProvider> {
    Some(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(not(feature = "tls-aws-lc"))]
fn default_provider() -> Option<CryptoProvider> {
    None
}
