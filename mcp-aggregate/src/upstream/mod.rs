//! Descriptions of upstreams.

mod layers;
mod shared;
mod source;

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use mcp_core::{
    BoxSeam, ConfigCheck, ConfigError, ConfigErrors, IntoSeam, Seam, Timing, UpstreamId,
};
use tower_layer::Layer;

use self::source::{Settings, Source};
pub(crate) use self::{layers::Layers, shared::Shared};
use crate::{
    Lifecycle, SessionScope,
    attempt::Attempt,
    digest::{Digest, Digester, Identity},
    node::{Lists, NodeParts},
};

/// A server behind a gateway, as the operator describes it: a value that is cloned, compared by its
/// [`digest`](Self::digest) and applied as often as wanted. Nothing is started by describing it.
///
/// What is wrong with a description is found when a gateway is built of it, all errors at once.
///
/// # Examples
///
/// ```
/// use mcp_aggregate::{SessionScope, Upstream};
///
/// let files = Upstream::npm("files", "@modelcontextprotocol/server-filesystem")
///     .arg("/data")
///     .scope(SessionScope::PerPrincipal);
/// assert_eq!(files.digest(), files.clone().digest());
/// assert_ne!(files.digest(), files.clone().arg("/more").digest());
/// ```
#[derive(Clone)]
#[must_use]
pub struct Upstream {
    id: String,
    source: Source,
    settings: Settings,
    layers: Layers,
    timing: Option<Timing>,
    list_timeout: Option<Duration>,
    shared_lists: bool,
    /// Settings that the source does not have.
    misplaced: Vec<Misplaced>,
}

/// A setting of another kind of source.
#[derive(Clone, Copy, Debug)]
struct Misplaced {
    setting: &'static str,
    source: &'static str,
}

impl Upstream {
    fn new(id: &str, source: Source) -> Self {
        Self {
            id: id.to_owned(),
            source,
            settings: Settings {
                scope: None,
                message_limit: None,
                one_call_at_a_time: false,
            },
            layers: Layers::default(),
            timing: None,
            list_timeout: None,
            shared_lists: false,
            misplaced: Vec::new(),
        }
    }

    /// Describes a server over Streamable HTTP. The address is the operator's and is reached as it is written.
    #[cfg(feature = "http")]
    pub fn http(id: &str, url: &str) -> Self {
        let http = source::Http {
            url: url.to_owned(),
            headers: Vec::new(),
            credentials: None,
            client: None,
        };
        Self::new(id, Source::Http(Box::new(http)))
    }

    /// Describes a server that a command starts.
    #[cfg(feature = "stdio")]
    pub fn command(id: &str, command: crate::connector::stdio::Command) -> Self {
        Self::new(id, Source::Command(command))
    }

    /// Describes a server in a package of the npm registry, run by `npx`.
    #[cfg(feature = "stdio")]
    pub fn npm(id: &str, package: &str) -> Self {
        let command = crate::connector::stdio::Command::new("npx").args(["-y", package]);
        Self::command(id, command)
    }

    /// Describes a server in a package of the Python registry, run by `uvx`.
    #[cfg(feature = "stdio")]
    pub fn pypi(id: &str, package: &str) -> Self {
        let command = crate::connector::stdio::Command::new("uvx").arg(package);
        Self::command(id, command)
    }

    /// Describes an rmcp server in this process, with a handler of its own for each session.
    #[cfg(feature = "rmcp")]
    pub fn rmcp<H: rmcp::ServerHandler>(
        id: &str,
        make: impl Fn() -> std::io::Result<H> + Send + Sync + 'static,
    ) -> Self {
        // The gateway's own calls have no client that states its context, which rmcp wants stated.
        let state = |mut request: mcp_core::Request| {
            if request.era() == mcp_core::Era::Stateless && !request.is_notification() {
                crate::connector::meta::complete(&mut request);
            }
            request
        };
        let service = mcp_core::rmcp3::RmcpService::per_session(make);
        Self::service(id, tower::util::MapRequest::new(service, state))
    }

    /// Describes any service of the seam in this process.
    pub fn service(id: &str, service: impl Seam) -> Self {
        Self::in_process(id, BoxSeam::new(Attempt::new(id, service)), None)
    }

    /// Describes a service with what starts and ends it.
    pub fn service_with(id: &str, service: impl Seam, lifecycle: Arc<dyn Lifecycle>) -> Self {
        let service = BoxSeam::new(Attempt::new(id, service));
        Self::in_process(id, service, Some(lifecycle))
    }

    fn in_process(id: &str, service: BoxSeam, lifecycle: Option<Arc<dyn Lifecycle>>) -> Self {
        let source = Source::Service {
            service,
            lifecycle,
            identity: Identity::unique(),
        };
        Self::new(id, source)
    }

    /// Adds an argument to the command.
    #[cfg(feature = "stdio")]
    pub fn arg(self, argument: impl Into<std::ffi::OsString>) -> Self {
        self.change_command("args", |command| command.arg(argument))
    }

    /// Adds arguments to the command.
    #[cfg(feature = "stdio")]
    pub fn args<A: Into<std::ffi::OsString>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.change_command("args", |command| command.args(arguments))
    }

    /// Sets a variable of the command's environment. Its value is kept out of logs and errors.
    #[cfg(feature = "stdio")]
    pub fn env(
        self,
        name: impl Into<std::ffi::OsString>,
        value: impl Into<std::ffi::OsString>,
    ) -> Self {
        self.change_command("env", |command| command.env(name, value))
    }

    #[cfg(feature = "stdio")]
    fn change_command(
        mut self,
        setting: &'static str,
        change: impl FnOnce(crate::connector::stdio::Command) -> crate::connector::stdio::Command,
    ) -> Self {
        match self.source {
            Source::Command(command) => self.source = Source::Command(change(command)),
            _ => self.misplaced.push(Misplaced {
                setting,
                source: "a command",
            }),
        }
        self
    }

    /// Adds a header to every request to the server. Its value is kept out of logs and errors. The protocol's own
    /// headers win.
    #[cfg(feature = "http")]
    pub fn header(self, name: &str, value: &str) -> Self {
        let header = (name.to_owned(), value.to_owned());
        self.change_http("headers", |http| http.headers.push(header))
    }

    /// Sets where credentials for the server come from. Default is none. Lists are then read for each principal.
    #[cfg(feature = "http")]
    pub fn credentials(self, provider: Arc<dyn mcp_core::CredentialProvider>) -> Self {
        self.change_http("credentials", |http| {
            http.credentials = Some((Identity::unique(), provider));
        })
    }

    /// Sets the HTTP client. Default is one that reaches this address as it is written.
    #[cfg(feature = "http")]
    pub fn client(self, client: mcp_core::http_client::GuardedClient) -> Self {
        self.change_http("client", |http| {
            http.client = Some((Identity::unique(), client));
        })
    }

    #[cfg(feature = "http")]
    fn change_http(
        mut self,
        setting: &'static str,
        change: impl FnOnce(&mut source::Http),
    ) -> Self {
        if let Source::Http(http) = &mut self.source {
            change(http);
        } else {
            self.misplaced.push(Misplaced {
                setting,
                source: "an address",
            });
        }
        self
    }

    /// Sets who shares a session or a process. Default is one session for each of a client's over HTTP, and one
    /// process for each principal.
    pub fn scope(mut self, scope: SessionScope) -> Self {
        self.settings.scope = Some(scope);
        self
    }

    /// Sets the largest message that is accepted from the server, in bytes. Default is 16 MiB.
    pub fn message_limit(mut self, bytes: NonZeroUsize) -> Self {
        self.settings.message_limit = Some(bytes);
        self
    }

    /// Lets one call at a time reach the server, from all clients together. For servers that lose what is written at the same
    /// moment. Default is all at once. Pings and listeners run beside calls.
    pub fn one_call_at_a_time(mut self) -> Self {
        self.settings.one_call_at_a_time = true;
        self
    }

    /// Adds a layer inside the gateway's own layers. The first is the outermost.
    ///
    /// The digest knows the layer as itself: a description that is made again with a layer made again differs. Use
    /// [`layer_named`](Self::layer_named) for a layer that is known by its configuration.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxSeam> + Send + Sync + 'static,
        IntoSeam<L::Service>: Seam,
    {
        self.layers.push(Identity::unique(), layer);
        self
    }

    /// Adds a layer as [`layer`](Self::layer) does, known in the digest by `identity`: the same text means the same
    /// layer, whose state is then kept when the description is applied again.
    pub fn layer_named<L>(mut self, identity: &str, layer: L) -> Self
    where
        L: Layer<BoxSeam> + Send + Sync + 'static,
        IntoSeam<L::Service>: Seam,
    {
        self.layers.push(Identity::named(identity), layer);
        self
    }

    /// Sets the durations for this upstream. Default is those of the gateway.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = Some(timing);
        self
    }

    /// Sets how long one list of the server may take ([`Timing::list`]). Default is the gateway's, 10 s.
    pub fn list_timeout(mut self, timeout: Duration) -> Self {
        self.list_timeout = Some(timeout);
        self
    }

    /// States that every client is offered the same lists, whatever its capabilities and credentials, so that they are
    /// read once for all.
    pub fn shared_lists(mut self) -> Self {
        self.shared_lists = true;
        self
    }

    /// Returns the operator's name for the upstream.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the digest over source, settings and the identity of the layers. A gateway keeps the sessions, processes
    /// and lists of an upstream whose digest stays the same.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digester = Digester::default();
        self.source.put_in(&mut digester);
        let settings = format!(
            "{:?} {:?} {:?} {}",
            self.settings, self.timing, self.list_timeout, self.shared_lists
        );
        digester.put(settings.as_bytes());
        self.layers.put_in(&mut digester);
        digester.finish()
    }

    /// Checks the description and prepares what a node is made of. Nothing is started.
    pub(crate) fn prepare(&self, shared: &Shared) -> Result<NodeParts, ConfigErrors> {
        ConfigErrors::collect(|check| check.below(&self.id, |check| self.prepare_in(shared, check)))
            .map(|parts| parts.expect("a description without errors can be prepared"))
    }

    fn prepare_in(&self, shared: &Shared, check: &mut ConfigCheck) -> Option<NodeParts> {
        for misplaced in &self.misplaced {
            check.push(ConfigError::new(
                misplaced.setting,
                "set",
                format!("only for an upstream with {}", misplaced.source),
            ));
        }
        let mut timing = self.timing.as_ref().unwrap_or(&shared.timing).clone();
        if let Some(list) = self.list_timeout {
            timing = timing.with_list(list);
        }
        check.below("timing", |check| timing.check(check));
        let id = check.take(UpstreamId::new(&self.id))?;
        let connected = self
            .source
            .connect(&id, &self.settings, &timing, shared, check)?;
        let mut sharing = connected.sharing;
        if self.shared_lists {
            sharing.lists = Lists::Everyone;
        }
        Some(NodeParts {
            id,
            digest: self.digest(),
            sharing,
            timing,
            has_layers: !self.layers.is_empty(),
            service: self.layers.around(connected.service),
            lifecycle: connected.lifecycle,
        })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("id", &self.id)
            .field("digest", &self.digest())
            .field("settings", &self.settings)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "full"))]
mod tests;
