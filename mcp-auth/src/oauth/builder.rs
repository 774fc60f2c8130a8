use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_core::{
    AuditSink, ConfigError,
    clock::{SystemWallClock, WallClock},
    http_client::HttpClient,
};
use moka::sync::Cache;
use tokio::sync::Notify;
use url::Url;

use super::directory::Directory;
use super::{
    AuthorizationLimits, Manager, Relation,
    limits::OpenFlows,
    manager::{Config, Inner},
};
use crate::{net, vault::Vault};

/// How many tokens and challenges are held in memory.
const CAPACITY: u64 = 10_000;

/// How long a token is taken from memory before the vault is asked again.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Settings of a [`Manager`].
#[must_use]
pub struct ManagerBuilder {
    config: Config,
    http: Arc<dyn HttpClient>,
    vault: Vault,
    wall: Arc<dyn WallClock>,
    relations: HashMap<String, Relation>,
    audit: Option<Arc<dyn AuditSink>>,
    limits: AuthorizationLimits,
}

impl Manager {
    /// Begins with the address that authorization servers send users back to, a guarded HTTP client, and the vault.
    pub fn builder(redirect: Url, http: Arc<dyn HttpClient>, vault: Vault) -> ManagerBuilder {
        ManagerBuilder {
            config: Config {
                redirect,
                client_name: "MCP gateway".to_owned(),
                client_document: None,
            },
            http,
            vault,
            wall: Arc::new(SystemWallClock::new()),
            relations: HashMap::new(),
            audit: None,
            limits: AuthorizationLimits::default(),
        }
    }
}

impl ManagerBuilder {
    /// Adds an upstream that users authorise at.
    pub fn relation(mut self, relation: Relation) -> Self {
        self.relations.insert(relation.name.clone(), relation);
        self
    }

    /// Sets the name that authorization servers show to users. Default is `MCP gateway`.
    pub fn client_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.config.client_name);
        self
    }

    /// Names this client by the address of a document, at servers that take that. The document has to be served there:
    /// [`Manager::client_document`].
    pub fn client_document(mut self, url: Url) -> Self {
        self.config.client_document = Some(url);
        self
    }

    /// Records every use of credentials. What cannot be recorded does not happen. Default is not to.
    pub fn audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(sink);
        self
    }

    /// Bounds authorisations that have begun and are not finished.
    pub const fn limits(mut self, limits: AuthorizationLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Uses another clock for dates.
    pub fn wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    /// Checks everything and builds the manager. Nothing is sent.
    ///
    /// # Errors
    ///
    /// The redirect address is neither `https` nor on this machine, or the client's document is not at an `https`
    /// address with a path.
    pub fn build(self) -> Result<Manager, ConfigError> {
        let bad = |option, url: &Url, remedy| ConfigError::new(option, net::shown(url), remedy);
        let redirect = &self.config.redirect;
        if !net::is_secure(redirect) || redirect.fragment().is_some() {
            let remedy = "give an https address, or an http one of this machine";
            return Err(bad("redirect", redirect, remedy));
        }
        if let Some(document) = &self.config.client_document
            && (document.scheme() != "https"
                || document.path() == "/"
                || document.fragment().is_some())
        {
            let remedy = "give an https address with a path and no fragment";
            return Err(bad("client_document", document, remedy));
        }
        Ok(Manager(Arc::new(Inner {
            config: self.config,
            directory: Directory::new(Arc::clone(&self.http)),
            http: self.http,
            vault: self.vault,
            wall: self.wall,
            finished: Notify::new(),
            relations: self.relations,
            flows: OpenFlows::new(self.limits),
            audit: self.audit,
            remembered: Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(REMEMBERED)
                .build(),
            challenges: Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(Duration::from_secs(3600))
                .build(),
            refreshing: Mutex::default(),
        })))
    }
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder")
            .field("relations", &self.relations.len())
            .finish_non_exhaustive()
    }
}
