use url::Url;

use super::{DpopUse, OAuthClient, Provider};

/// How one upstream is authorised at on behalf of its users.
#[derive(Clone, Debug)]
#[must_use]
pub struct Relation {
    pub(super) name: String,
    pub(super) target: Target,
    /// Clients that the operator has registered, by issuer; an empty issuer fits every server.
    pub(super) clients: Vec<(String, OAuthClient)>,
    pub(super) scopes: Vec<String>,
    pub(super) dynamic: bool,
    pub(super) legacy: bool,
    pub(super) resource: Option<String>,
    /// Whether scopes are sent with a refresh too.
    pub(super) scope_at_refresh: bool,
    pub(super) dpop: DpopUse,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    /// An MCP server that says itself who authorises at it.
    Mcp(Url),
    /// A provider that the operator knows.
    Provider(Provider),
}

impl Relation {
    fn new(name: &str, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            target,
            clients: Vec::new(),
            scopes: Vec::new(),
            dynamic: true,
            legacy: false,
            resource: None,
            scope_at_refresh: false,
            dpop: DpopUse::default(),
        }
    }

    /// An MCP server with an authorization server of its own choice, found out as the specification says. The name is
    /// what users see and what tokens are kept under: the upstream's id.
    pub fn mcp(name: &str, server: Url) -> Self {
        Self::new(name, Target::Mcp(server))
    }

    /// A known provider, at which the operator has registered a client.
    pub fn provider(name: &str, provider: Provider, client: OAuthClient) -> Self {
        let scopes = provider.scopes.clone();
        let scope_at_refresh = provider.scope_at_refresh;
        let mut relation = Self::new(name, Target::Provider(provider));
        relation.clients.push((String::new(), client));
        relation.scopes = scopes;
        relation.scope_at_refresh = scope_at_refresh;
        relation
    }

    /// Uses a client that the operator has registered at an issuer. It is used there and nowhere else.
    pub fn with_client(mut self, issuer: &str, client: OAuthClient) -> Self {
        self.clients.push((issuer.to_owned(), client));
        self
    }

    /// Uses a client that the operator has registered, whichever issuer the server names.
    ///
    /// # Security
    ///
    /// The server decides who is shown the client's secret. Name the issuer instead where it is known.
    pub fn with_client_anywhere(mut self, client: OAuthClient) -> Self {
        self.clients.push((String::new(), client));
        self
    }

    /// Asks for these scopes where the server does not say which. Default is what the server lists, or none.
    pub fn with_scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.scopes.extend(scopes.into_iter().map(str::to_owned));
        self
    }

    /// Names the resource that tokens are meant for (RFC 8707). Default is the MCP server's address; for a provider
    /// none.
    pub fn with_resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Sends the scopes that were granted with each refresh too (RFC 6749, section 6, where they are optional). Default is not to,
    /// but for Microsoft Entra, which wants them.
    pub fn with_scope_at_refresh(mut self, sent: bool) -> Self {
        self.scope_at_refresh = sent;
        self
    }

    /// States when tokens are bound to a key (RFC 9449). Default is where the upstream asks for it.
    pub fn with_dpop(mut self, dpop: DpopUse) -> Self {
        self.dpop = dpop;
        self
    }

    /// Does not register clients by itself (RFC 7591). Default is to, where nothing else is there.
    pub fn without_registration(mut self) -> Self {
        self.dynamic = false;
        self
    }

    /// Takes the server's origin for its authorization server where it does not say who that is, as revision
    /// 2025-03-26 did. Default is to refuse.
    pub fn allow_2025_03_26(mut self) -> Self {
        self.legacy = true;
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
