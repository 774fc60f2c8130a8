use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use mcp_core::{BoxSeam, ConfigError, Era, IntoSeam, Seam, UpstreamId};
use tower_layer::Layer;

use crate::connector::SessionScope;

/// A server behind a gateway, as the operator describes it. Nothing is started by describing it.
///
/// # Examples
///
/// ```
/// use mcp_aggregate::{SessionScope, Upstream};
///
/// let files = Upstream::npm("files", "@modelcontextprotocol/server-filesystem")?
///     .arg("/data")
///     .session_scope(SessionScope::PerPrincipal);
/// let crm = Upstream::http("crm", "https://crm.example/mcp")?;
/// assert_eq!(crm.id().as_str(), "crm");
/// # let _ = files;
/// # Ok::<(), mcp_core::ConfigError>(())
/// ```
#[must_use]
pub struct Upstream {
    id: UpstreamId,
    source: Source,
    scope: Option<SessionScope>,
    layers: Vec<Wrap>,
    list_timeout: Duration,
    shared_lists: bool,
}

type Wrap = Box<dyn FnOnce(BoxSeam) -> BoxSeam + Send>;
type Shutdown = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

enum Source {
    #[cfg(feature = "http")]
    Http(Box<crate::connector::http::HttpConnectorBuilder>),
    #[cfg(feature = "stdio")]
    Stdio(crate::connector::stdio::Command),
    Service(BoxSeam),
}

/// An upstream that a gateway can call.
pub(crate) struct Connected {
    pub(crate) id: UpstreamId,
    pub(crate) service: BoxSeam,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) list_timeout: Duration,
    /// Whether every client is offered the same lists.
    pub(crate) shared_lists: SharedLists,
}

/// When all clients are offered the same lists by an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedLists {
    Always,
    /// Only clients of revision 2026-07-28, whose lists do not depend on a session.
    Modern,
    #[cfg(any(feature = "http", feature = "stdio"))]
    Never,
}

impl SharedLists {
    /// Returns whether clients of an era are all offered the same.
    pub(crate) fn cover(self, era: Era) -> bool {
        self == Self::Always || (self == Self::Modern && era == Era::Stateless)
    }
}

impl Upstream {
    fn new(id: &str, source: Source) -> Result<Self, ConfigError> {
        Ok(Self {
            id: UpstreamId::new(id)?,
            source,
            scope: None,
            layers: Vec::new(),
            list_timeout: Duration::from_secs(10),
            shared_lists: false,
        })
    }

    /// A server over Streamable HTTP. The address is the operator's and is reached as it is written.
    ///
    /// # Errors
    ///
    /// The id or the address is malformed.
    #[cfg(feature = "http")]
    pub fn http(id: &str, url: &str) -> Result<Self, ConfigError> {
        let parsed = url::Url::parse(url)
            .map_err(|_| ConfigError::new("url", url, "give an absolute http or https address"))?;
        let builder = crate::connector::http::HttpConnector::builder(UpstreamId::new(id)?, parsed);
        Self::new(id, Source::Http(Box::new(builder)))
    }

    /// A server over Streamable HTTP with settings of its own.
    ///
    /// # Errors
    ///
    /// The id is malformed.
    #[cfg(feature = "http")]
    pub fn http_with(
        id: &str,
        connector: crate::connector::http::HttpConnectorBuilder,
    ) -> Result<Self, ConfigError> {
        Self::new(id, Source::Http(Box::new(connector)))
    }

    /// A server that a command starts.
    ///
    /// # Errors
    ///
    /// The id is malformed.
    #[cfg(feature = "stdio")]
    pub fn command(
        id: &str,
        command: crate::connector::stdio::Command,
    ) -> Result<Self, ConfigError> {
        Self::new(id, Source::Stdio(command))
    }

    /// A server in a package of the npm registry, run by `npx`.
    ///
    /// # Errors
    ///
    /// The id is malformed.
    #[cfg(feature = "stdio")]
    pub fn npm(id: &str, package: &str) -> Result<Self, ConfigError> {
        let command = crate::connector::stdio::Command::new("npx").args(["-y", package]);
        Self::command(id, command)
    }

    /// A server in a package of the Python registry, run by `uvx`.
    ///
    /// # Errors
    ///
    /// The id is malformed.
    #[cfg(feature = "stdio")]
    pub fn pypi(id: &str, package: &str) -> Result<Self, ConfigError> {
        let command = crate::connector::stdio::Command::new("uvx").arg(package);
        Self::command(id, command)
    }

    /// An rmcp server in this process, with a handler of its own for each session.
    ///
    /// # Errors
    ///
    /// The id is malformed.
    #[cfg(feature = "rmcp")]
    pub fn rmcp<H: rmcp::ServerHandler>(
        id: &str,
        make: impl Fn() -> std::io::Result<H> + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        // The gateway's own calls have no client that states its facts, which rmcp wants stated.
        let state = |mut request: mcp_core::Request| {
            if request.era() == Era::Stateless && !request.is_notification() {
                crate::connector::meta::complete(&mut request);
            }
            request
        };
        let service = mcp_core::rmcp3::RmcpService::per_session(make);
        Self::service(id, tower::util::MapRequest::new(service, state))
    }

    /// Any service of the seam.
    ///
    /// # Errors
    ///
    /// The id is malformed.
    pub fn service(id: &str, service: impl Seam) -> Result<Self, ConfigError> {
        Self::new(id, Source::Service(BoxSeam::new(service)))
    }

    /// Adds an argument to the command. Nothing happens for an upstream without one.
    #[cfg(feature = "stdio")]
    pub fn arg(mut self, argument: impl Into<std::ffi::OsString>) -> Self {
        if let Source::Stdio(command) = self.source {
            self.source = Source::Stdio(command.arg(argument));
        }
        self
    }

    /// Sets a variable of the command's environment. Nothing happens for an upstream without a command.
    #[cfg(feature = "stdio")]
    pub fn env(
        mut self,
        name: impl Into<std::ffi::OsString>,
        value: impl Into<std::ffi::OsString>,
    ) -> Self {
        if let Source::Stdio(command) = self.source {
            self.source = Source::Stdio(command.env(name, value));
        }
        self
    }

    /// Sets who shares a session or a process. Default is one session for each of a client's over HTTP, and one
    /// process for each principal.
    pub fn session_scope(mut self, scope: SessionScope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Adds a layer inside the gateway's own layers. The first is the outermost.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxSeam> + Send + 'static,
        IntoSeam<L::Service>: Seam,
    {
        self.layers.push(Box::new(move |inner| {
            BoxSeam::new(IntoSeam::new(layer.layer(inner)))
        }));
        self
    }

    /// Sets how long listing may take before the lists are served without this upstream. Default is 10 s.
    pub fn with_list_timeout(mut self, timeout: Duration) -> Self {
        self.list_timeout = timeout;
        self
    }

    /// States that every client is offered the same lists, so that they are read once for all.
    pub fn with_shared_lists(mut self) -> Self {
        self.shared_lists = true;
        self
    }

    /// Returns the operator's name for the upstream.
    #[must_use]
    pub fn id(&self) -> &UpstreamId {
        &self.id
    }

    /// Prepares the upstream. Nothing is started.
    pub(crate) fn connect(self) -> Result<Connected, ConfigError> {
        let (mut service, shutdown, own_lists): (_, Option<Shutdown>, _) = match self.source {
            Source::Service(service) => (service, None, SharedLists::Modern),
            #[cfg(feature = "http")]
            Source::Http(builder) => {
                let scope = self.scope.unwrap_or(SessionScope::PerSession);
                let connector = builder.with_scope(scope).build()?;
                let ending = connector.clone();
                let lists = match (scope, connector.has_credentials()) {
                    (_, true) => SharedLists::Never,
                    (SessionScope::Shared, false) => SharedLists::Always,
                    (_, false) => SharedLists::Modern,
                };
                let shutdown: Shutdown = Arc::new(move || {
                    let ending = ending.clone();
                    Box::pin(async move { ending.shutdown().await })
                });
                (BoxSeam::new(connector), Some(shutdown), lists)
            }
            #[cfg(feature = "stdio")]
            Source::Stdio(command) => {
                let scope = self.scope.unwrap_or(SessionScope::PerPrincipal);
                let connector =
                    crate::connector::stdio::StdioConnector::new(self.id.clone(), command)
                        .with_scope(scope);
                let ending = connector.clone();
                let lists = match scope {
                    SessionScope::Shared => SharedLists::Always,
                    _ => SharedLists::Never,
                };
                let shutdown: Shutdown = Arc::new(move || {
                    let ending = ending.clone();
                    Box::pin(async move { ending.shutdown().await })
                });
                (BoxSeam::new(connector), Some(shutdown), lists)
            }
        };
        for wrap in self.layers.into_iter().rev() {
            service = wrap(service);
        }
        Ok(Connected {
            id: self.id,
            service,
            shutdown,
            list_timeout: self.list_timeout,
            shared_lists: match self.shared_lists {
                true => SharedLists::Always,
                false => own_lists,
            },
        })
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("id", &self.id)
            .field("scope", &self.scope)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}
