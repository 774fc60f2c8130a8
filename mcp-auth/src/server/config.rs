use std::{fmt, sync::Arc, time::Duration};

use http::HeaderName;
use mcp_core::{
    AuditSink, ConfigError, Principal,
    clock::{SystemWallClock, WallClock},
};
use moka::sync::Cache;
use serde_json::{Map, Value};

use super::{
    Dpop, ProtectedResource, ResourceServerLayer, Scheme, VerifiedIdentity, revoked::Revoked,
};
use crate::scopes::ScopeHierarchy;

/// This server as an OAuth 2.1 resource server. See the [module](super). Clones share everything.
#[derive(Clone)]
pub struct ResourceServer(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) resource: ProtectedResource,
    pub(super) schemes: Vec<Box<dyn Scheme>>,
    /// The headers other than `Authorization` that the schemes take credentials from, each once.
    pub(super) headers: Vec<HeaderName>,
    pub(super) optional: bool,
    pub(super) dpop: Option<Dpop>,
    pub(super) open: Vec<String>,
    pub(super) required: Vec<String>,
    pub(super) hierarchy: ScopeHierarchy,
    pub(super) audit: Option<Arc<dyn AuditSink>>,
    pub(super) wall: Arc<dyn WallClock>,
    pub(super) verdicts: Cache<[u8; 32], VerifiedIdentity>,
    pub(super) revoked: Revoked,
}

/// Settings of a [`ResourceServer`].
#[must_use]
pub struct ResourceServerBuilder {
    resource: String,
    servers: Vec<String>,
    offered: Vec<String>,
    more: Map<String, Value>,
    schemes: Vec<Box<dyn Scheme>>,
    optional: bool,
    dpop: Option<Dpop>,
    open: Vec<String>,
    required: Vec<String>,
    hierarchy: ScopeHierarchy,
    audit: Option<Arc<dyn AuditSink>>,
    wall: Arc<dyn WallClock>,
    capacity: u64,
}

impl ResourceServer {
    /// Begins with the address of this server as its clients know it, which tokens must be meant for. Behind a
    /// proxy that is the proxy's address.
    pub fn builder(resource: &str) -> ResourceServerBuilder {
        ResourceServerBuilder {
            resource: resource.to_owned(),
            servers: Vec::new(),
            offered: Vec::new(),
            more: Map::new(),
            schemes: Vec::new(),
            optional: false,
            dpop: None,
            open: Vec::new(),
            required: Vec::new(),
            hierarchy: ScopeHierarchy::new(),
            audit: None,
            wall: Arc::new(SystemWallClock::new()),
            capacity: 10_000,
        }
    }

    /// Returns the layer.
    pub fn layer(&self) -> ResourceServerLayer {
        ResourceServerLayer::new(self.clone())
    }

    /// Returns what this server says about itself, and its challenges.
    #[must_use]
    pub fn resource(&self) -> &ProtectedResource {
        &self.0.resource
    }

    /// Refuses a credential by its id (the `jti` of a token, the public part of an API key) from now on, for as
    /// long as given, which should be the longest life of a token. Known to this process only: see
    /// [`ResourceServer::share_revocations`].
    pub fn revoke(&self, id: &str, keep: Duration) {
        self.0.revoked.add_id(id, self.0.wall.now(), keep);
    }

    /// Refuses what a principal was issued up to now, for as long as given, which should be the longest life of a credential. One
    /// that does not say when it was issued, such as an API key, is refused for all of that time. Known to this process
    /// only.
    pub fn revoke_all(&self, principal: &Principal, keep: Duration) {
        let owner = principal.partition();
        let now = self.0.wall.now();
        self.0
            .revoked
            .add_principal(*owner.as_bytes(), now, now, keep);
    }

    /// Invalidates the cached verdicts about a principal's credentials: each is verified again, with its present roles, at its
    /// next request. `keep` should be the longest time for which a verdict is cached. Known to this process only: see
    /// [`SharedRevocations::judge_again`](super::SharedRevocations::judge_again).
    pub fn judge_again(&self, principal: &Principal, keep: Duration) {
        let owner = principal.partition();
        let now = self.0.wall.now();
        self.0.revoked.add_again(*owner.as_bytes(), now, now, keep);
    }
}

impl ResourceServerBuilder {
    /// Names an authorization server by its issuer. Without one there is no metadata document (RFC 9728) and challenges name
    /// none: for servers whose credentials come from elsewhere, as API keys and certificates do. A [`JwtScheme`](super::JwtScheme)
    /// or an [`IntrospectionScheme`](super::IntrospectionScheme) needs one, so that clients find out where to get a token.
    pub fn authorization_server(mut self, issuer: &str) -> Self {
        self.servers.push(issuer.to_owned());
        self
    }

    /// Adds a way to find out who calls. The first that takes a request decides alone.
    pub fn scheme(mut self, scheme: impl Scheme) -> Self {
        self.schemes.push(Box::new(scheme));
        self
    }

    /// Lists the scopes there are, for `scopes_supported`. `offline_access` is left out.
    pub fn scopes_supported<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.offered = scopes.into_iter().map(str::to_owned).collect();
        self
    }

    /// Demands scopes of every request, and asks for them in challenges. Default is none.
    pub fn require<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.required = scopes.into_iter().map(str::to_owned).collect();
        self
    }

    /// States which scopes include others. Default is that each stands for itself.
    pub fn hierarchy(mut self, hierarchy: ScopeHierarchy) -> Self {
        self.hierarchy = hierarchy;
        self
    }

    /// Adds a member to the metadata document, such as `resource_name`.
    pub fn metadata(mut self, member: &str, value: Value) -> Self {
        self.more.insert(member.to_owned(), value);
        self
    }

    /// Lets requests pass that present nothing at all; they are no one's. A wrong credential is still refused.
    /// Default is to refuse them.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Takes tokens that are bound to a key of the client, with a proof for each request (DPoP, RFC 9449), and announces
    /// that. Default is to refuse them.
    pub fn dpop(mut self, dpop: Dpop) -> Self {
        self.dpop = Some(dpop);
        self
    }

    /// Lets requests for this path and all below it pass, and puts no principal into them: pages that browsers open,
    /// health checks. Default is none. What they carry is passed on as it is, credentials included.
    pub fn open_path(mut self, prefix: &str) -> Self {
        self.open.push(prefix.to_owned());
        self
    }

    /// Records refusals, and the first time that each credential is accepted. Default is not to.
    ///
    /// A request whose event cannot be recorded is refused with 503.
    pub fn audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(sink);
        self
    }

    /// Sets how many verdicts are remembered. Default is 10,000; zero remembers none.
    pub fn remembered(mut self, verdicts: u64) -> Self {
        self.capacity = verdicts;
        self
    }

    /// Uses another clock for dates.
    pub fn wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    /// Checks everything and builds the server. Nothing is sent.
    ///
    /// # Errors
    ///
    /// The address is not `https` (or `http` on this machine), a scheme needs an issuer and none was named, no scheme was given, or one names a
    /// header that cannot be.
    pub fn build(self) -> Result<ResourceServer, ConfigError> {
        if self.schemes.is_empty() {
            return Err(ConfigError::new(
                "scheme",
                "none",
                "give at least one scheme, for instance a JwtScheme",
            ));
        }
        if self.servers.is_empty()
            && let Some(scheme) = self.schemes.iter().find(|scheme| scheme.needs_issuer())
        {
            return Err(ConfigError::new(
                "authorization_server",
                scheme.name(),
                "name the issuer of the tokens with authorization_server",
            ));
        }
        let resource = ProtectedResource::new(
            &self.resource,
            &self.servers,
            &self.offered,
            self.required.clone(),
            (self.dpop.as_ref().map(Dpop::is_required), self.more),
        )?;
        let names = self.schemes.iter().flat_map(|scheme| scheme.headers());
        let mut headers: Vec<HeaderName> = Vec::new();
        for name in names {
            let header = HeaderName::try_from(*name).map_err(|_| {
                ConfigError::new("scheme", *name, "name the headers of a scheme as HTTP does")
            })?;
            if !headers.contains(&header) {
                headers.push(header);
            }
        }
        Ok(ResourceServer(Arc::new(Shared {
            resource,
            headers,
            schemes: self.schemes,
            optional: self.optional,
            dpop: self.dpop,
            open: self.open,
            required: self.required,
            hierarchy: self.hierarchy,
            audit: self.audit,
            wall: self.wall,
            verdicts: Cache::new(self.capacity),
            revoked: Revoked::default(),
        })))
    }
}

impl fmt::Debug for ResourceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceServer")
            .field("resource", &self.0.resource.resource().as_str())
            .field("schemes", &self.0.schemes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResourceServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceServerBuilder")
            .field("resource", &self.resource)
            .field("schemes", &self.schemes)
            .finish_non_exhaustive()
    }
}
