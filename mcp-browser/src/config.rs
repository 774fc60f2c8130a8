use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use mcp_core::{
    AuditSink, ConfigError,
    http_client::{Resolve, SystemResolver},
};

use crate::{
    DriverConfig, OriginPolicy, ProfileStore, Secrets,
    engine::{BrowserLimits, Sandbox},
    proxy::Target,
};

/// Who shares a browser process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// All principals share one browser, each session with a context of its own: cookies, storage, cache and proxy
    /// are apart.
    #[default]
    Shared,
    /// Each principal has a browser process of its own, which ends with its last session.
    PerPrincipal,
}

/// What happens to downloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Downloads {
    /// They are refused.
    #[default]
    Deny,
    /// They are kept in the driver's folder for temporary files until the session ends, and copied into a folder of
    /// the session below this one when they are complete, if they are not larger than this many bytes.
    Keep {
        /// Where the sessions' folders are made.
        folder: PathBuf,
        /// The largest file in bytes.
        max_bytes: u64,
    },
}

/// How sessions are governed. Everything that opens something is off until it is turned on.
#[derive(Clone)]
pub struct BrowserConfig {
    pub(crate) driver: DriverConfig,
    pub(crate) policy: OriginPolicy,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) proxies: BTreeMap<String, Target>,
    pub(crate) isolation: Isolation,
    pub(crate) sandbox: Sandbox,
    pub(crate) limits: BrowserLimits,
    pub(crate) max_sessions: usize,
    pub(crate) max_per_principal: usize,
    pub(crate) max_tabs: usize,
    pub(crate) max_session_bytes: u64,
    pub(crate) idle_timeout: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) action_timeout: Duration,
    pub(crate) navigation_timeout: Duration,
    pub(crate) settle_timeout: Duration,
    pub(crate) max_timeout: Duration,
    pub(crate) dialog_timeout: Duration,
    pub(crate) warm: usize,
    pub(crate) headed: bool,
    pub(crate) evaluate: bool,
    pub(crate) stealth: bool,
    #[cfg(feature = "captcha")]
    pub(crate) captcha_hook: bool,
    pub(crate) ignore_tls_errors: bool,
    pub(crate) allow_anonymous: bool,
    pub(crate) downloads: Downloads,
    pub(crate) uploads: u64,
    pub(crate) profiles: Option<ProfileStore>,
    pub(crate) secrets: Option<Secrets>,
    pub(crate) audit: Option<Arc<dyn AuditSink>>,
}

impl BrowserConfig {
    /// The defaults: every public origin, no private one; 32 sessions, 8 for each principal; 10 minutes idle, an hour
    /// at most; no downloads, no evaluation, no headed mode, no stealth.
    #[must_use]
    pub fn new(driver: DriverConfig) -> Self {
        Self {
            driver,
            policy: OriginPolicy::public(),
            resolver: Arc::new(SystemResolver::new()),
            proxies: BTreeMap::new(),
            isolation: Isolation::Shared,
            sandbox: Sandbox::Auto,
            limits: BrowserLimits::new(),
            max_sessions: 32,
            max_per_principal: 8,
            max_tabs: 10,
            max_session_bytes: 512 << 20,
            idle_timeout: Duration::from_secs(600),
            session_timeout: Duration::from_secs(3600),
            action_timeout: Duration::from_secs(5),
            navigation_timeout: Duration::from_secs(30),
            settle_timeout: Duration::from_secs(3),
            max_timeout: Duration::from_secs(60),
            dialog_timeout: Duration::from_secs(60),
            warm: 0,
            headed: false,
            evaluate: false,
            stealth: false,
            #[cfg(feature = "captcha")]
            captcha_hook: false,
            ignore_tls_errors: false,
            allow_anonymous: false,
            downloads: Downloads::Deny,
            uploads: 0,
            profiles: None,
            secrets: None,
            audit: None,
        }
    }

    /// Sets which origins sessions may reach. Default is [`OriginPolicy::public`].
    #[must_use]
    pub fn with_policy(mut self, policy: OriginPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Resolves names another way. Default is the system's. Its answers are checked like any others.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Lets sessions choose an HTTP proxy by a name: `http://host:port`. Names are still resolved and checked here.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the address is not one of an HTTP proxy.
    pub fn with_proxy(mut self, name: &str, url: &str) -> Result<Self, ConfigError> {
        let target = Target::of_url(url).filter(|target| target.secure == Some(false));
        let target = target.ok_or_else(|| {
            ConfigError::new(
                "proxy",
                url,
                "give http://host:port of a proxy that tunnels with CONNECT",
            )
        })?;
        self.proxies.insert(name.to_owned(), target);
        Ok(self)
    }

    /// Sets who shares a browser process. Default is [`Isolation::Shared`].
    #[must_use]
    pub const fn with_isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets whether browsers run in the system's sandbox. Default is [`Sandbox::Auto`].
    #[must_use]
    pub const fn with_sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Limits each browser process. Default is no limit.
    #[must_use]
    pub const fn with_limits(mut self, limits: BrowserLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Bounds the sessions of all principals and of each. Default is 32 and 8. Zero allows none.
    #[must_use]
    pub const fn with_max_sessions(mut self, all: usize, each: usize) -> Self {
        self.max_sessions = all;
        self.max_per_principal = each;
        self
    }

    /// Bounds the tabs of a session; further popups are closed at once. Default is 10, at least one.
    #[must_use]
    pub const fn with_max_tabs(mut self, tabs: usize) -> Self {
        self.max_tabs = if tabs == 0 { 1 } else { tabs };
        self
    }

    /// Bounds what a session may receive, in bytes. Default is 512 MiB.
    #[must_use]
    pub const fn with_max_session_bytes(mut self, bytes: u64) -> Self {
        self.max_session_bytes = bytes;
        self
    }

    /// Ends sessions that are not used for `idle`, and every session after `total`. Default is 10 minutes and an hour.
    #[must_use]
    pub const fn with_session_timeouts(mut self, idle: Duration, total: Duration) -> Self {
        self.idle_timeout = idle;
        self.session_timeout = total;
        self
    }

    /// Bounds an action and a navigation. Default is 5 s and 30 s.
    #[must_use]
    pub const fn with_timeouts(mut self, action: Duration, navigation: Duration) -> Self {
        self.action_timeout = action;
        self.navigation_timeout = navigation;
        self
    }

    /// Bounds how long is waited after an action for what it set off: requests that began within the page's first turn,
    /// and those that their answers set off. Default is 3 s. Where nothing was set off nothing is waited for; a page that
    /// polls costs nothing.
    #[must_use]
    pub const fn with_settle_timeout(mut self, timeout: Duration) -> Self {
        self.settle_timeout = timeout;
        self
    }

    /// Bounds the timeouts that a call may set for itself. Default is one minute. See
    /// [`Session::with_timeout`](crate::Session::with_timeout).
    #[must_use]
    pub const fn with_max_timeout(mut self, timeout: Duration) -> Self {
        self.max_timeout = timeout;
        self
    }

    /// Dismisses a page's dialog that the caller has not answered for so long; the next answer says so. Default is one
    /// minute.
    #[must_use]
    pub const fn with_dialog_timeout(mut self, timeout: Duration) -> Self {
        self.dialog_timeout = timeout;
        self
    }

    /// Keeps so many contexts ready for new sessions that are like the latest ones: with the same size, device, language
    /// and so on. Sessions with a profile, a video or a window are not among them. Default is none.
    #[must_use]
    pub const fn with_warm_contexts(mut self, contexts: usize) -> Self {
        self.warm = contexts;
        self
    }

    /// Allows headed sessions, which need a display. Default is not.
    #[must_use]
    pub const fn allow_headed(mut self) -> Self {
        self.headed = true;
        self
    }

    /// Allows scripts to be evaluated in pages. Default is not.
    #[must_use]
    pub const fn allow_evaluate(mut self) -> Self {
        self.evaluate = true;
        self
    }

    /// Allows sessions to ask for the stealth profile. Default is not. See [`SessionOptions::stealth`](crate::SessionOptions).
    #[must_use]
    pub const fn allow_stealth(mut self) -> Self {
        self.stealth = true;
        self
    }

    /// Remembers the callbacks that pages pass to captcha widgets from scripts, so that an answer can be handed to
    /// them. Adds a script to every page. Default is not: then only callbacks named in the markup are called.
    #[cfg(feature = "captcha")]
    #[must_use]
    pub const fn with_captcha_callbacks(mut self) -> Self {
        self.captcha_hook = true;
        self
    }

    /// Allows uploads of files up to this many bytes, whose content the caller sends. Default is not.
    #[must_use]
    pub const fn allow_uploads(mut self, max_bytes: u64) -> Self {
        self.uploads = max_bytes;
        self
    }

    /// Lets stateless callers without a credential have sessions, which they all share. Default is not.
    #[must_use]
    pub const fn allow_anonymous(mut self) -> Self {
        self.allow_anonymous = true;
        self
    }

    /// Takes any certificate for any host: for test systems only.
    ///
    /// # Security
    ///
    /// Whoever is on the way can read and change what sessions send.
    #[must_use]
    pub const fn insecure_ignore_tls_errors(mut self) -> Self {
        self.ignore_tls_errors = true;
        self
    }

    /// Sets what happens to downloads. Default is [`Downloads::Deny`].
    #[must_use]
    pub fn with_downloads(mut self, downloads: Downloads) -> Self {
        self.downloads = downloads;
        self
    }

    /// Lets sessions keep cookies and storage under a profile name. Default is not.
    #[must_use]
    pub fn with_profiles(mut self, profiles: ProfileStore) -> Self {
        self.profiles = Some(profiles);
        self
    }

    /// Lets callers have secrets typed that they name and never see. Default is not.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Records every action. An action whose record fails is reported in the log and not undone.
    #[must_use]
    pub fn with_audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(audit);
        self
    }
}

impl fmt::Debug for BrowserConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserConfig")
            .field("driver", &self.driver)
            .field("policy", &self.policy)
            .field("isolation", &self.isolation)
            .field("sandbox", &self.sandbox)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}
