//! One authorisation by the user: ticket, request, answer, tokens.
//!
//! A ticket is what a user is sent to the consent page with. Only when the user has agreed there, it becomes a request
//! with a `state`, which is good for one answer. Both are sealed in the vault and end after ten minutes.

use std::time::Duration;

use mcp_core::{
    Partition, Principal, Shared,
    secret::{Secret, SecretName, SecretScope},
    store::{Expected, Namespace},
};
use oauth2::{AuthUrl, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::{
    Manager, OAuthClient, OAuthError, Relation,
    client::random,
    endpoint::{self, Endpoint},
    relation::Target,
    resource::{self, Protected},
    token::Held,
};
use crate::{
    challenge::Challenge, discovery, discovery::ServerMetadata, net, owner::Owner, vault::Swapped,
};

/// Nobody in particular cannot give an authorisation that is theirs alone.
pub(super) const ANONYMOUS: OAuthError =
    OAuthError::Unusable("an anonymous caller cannot authorise; log in first");

/// How long a user has for the whole way.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a user is sent to the consent page with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(crate) owner: Owner,
    pub(crate) relation: String,
    pub(crate) scopes: Vec<String>,
    /// The OAuth client of the user, whose name the consent page shows.
    pub(crate) client: Option<String>,
    challenge: Option<String>,
}

/// A request that an answer is awaited for.
#[derive(Serialize, Deserialize)]
struct Open {
    ticket: String,
    owner: Owner,
    relation: String,
    verifier: String,
    /// The issuer as validated before the user was sent there (RFC 9207).
    issuer: String,
    demands_issuer: bool,
    metadata: ServerMetadata,
    client_id: String,
    resource: Option<String>,
    requested: Vec<String>,
    /// SHA-256 of the cookie of the browser that was sent away.
    browser: Option<[u8; 32]>,
}

fn print(cookie: &Secret) -> [u8; 32] {
    Sha256::digest(cookie.secret().as_bytes()).into()
}

/// Where a user is sent, and what is remembered of it.
struct Address {
    url: Url,
    state: String,
    verifier: String,
}

/// An authorisation that is complete.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Authorized {
    /// Who has given it.
    pub principal: Principal,
    /// For which upstream.
    pub relation: String,
    /// The ticket that it began with.
    pub ticket: String,
}

impl Manager {
    fn flow_scope() -> Result<SecretScope, OAuthError> {
        let namespace = Namespace::new("oauth-flow")
            .map_err(|_| OAuthError::Unusable("the namespace of flows"))?;
        Ok(SecretScope::new(
            namespace,
            Partition::shared(Shared::by_operator()),
        ))
    }

    fn flow_name(kind: &str, id: &str) -> Result<SecretName, OAuthError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
            return Err(OAuthError::UnknownState);
        }
        SecretName::new(&format!("{kind}/{id}")).map_err(|_| OAuthError::UnknownState)
    }

    pub(crate) async fn keep(
        &self,
        kind: &str,
        id: &str,
        value: &impl Serialize,
    ) -> Result<(), OAuthError> {
        let text = serde_json::to_string(value)
            .map_err(|_| OAuthError::Unusable("the state of a flow cannot be written"))?;
        let (scope, name) = (Self::flow_scope()?, Self::flow_name(kind, id)?);
        let secret = Secret::new(text);
        self.0
            .vault
            .write(&scope, &name, &secret, Some(PATIENCE))
            .await?;
        Ok(())
    }

    async fn look<T: DeserializeOwned>(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Option<T>, OAuthError> {
        let (scope, name) = (Self::flow_scope()?, Self::flow_name(kind, id)?);
        let found = self.0.vault.read(&scope, &name).await?;
        Ok(found.and_then(|(text, _)| serde_json::from_str(text.secret()).ok()))
    }

    /// Takes a record out. Of two that try at the same time one gets it.
    pub(crate) async fn take<T: DeserializeOwned>(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<T, OAuthError> {
        let (scope, name) = (Self::flow_scope()?, Self::flow_name(kind, id)?);
        let found = self.0.vault.read(&scope, &name).await?;
        let (text, version) = found.ok_or(OAuthError::UnknownState)?;
        let expected = Expected::Version(version);
        match self.0.vault.swap(&scope, &name, expected, None).await? {
            Swapped::Deleted => {
                serde_json::from_str(text.secret()).map_err(|_| OAuthError::UnknownState)
            }
            _ => Err(OAuthError::UnknownState),
        }
    }

    /// Writes a ticket for a user who has to authorise, and returns its id.
    ///
    /// # Errors
    ///
    /// The caller is anonymous, the upstream is not known, or the vault is away.
    pub async fn ticket(
        &self,
        principal: &Principal,
        relation: &str,
        scopes: &[String],
        client: Option<&str>,
    ) -> Result<String, OAuthError> {
        self.relation(relation)?;
        let challenge = self.challenge(principal, relation);
        let ticket = Ticket {
            owner: Owner::of(principal).ok_or(ANONYMOUS)?,
            relation: relation.to_owned(),
            scopes: scopes.to_vec(),
            client: client.map(str::to_owned),
            challenge: challenge.and_then(|own| Some(own.to_header().to_str().ok()?.to_owned())),
        };
        let id = random(24);
        self.keep("ticket", &id, &ticket).await?;
        Ok(id)
    }

    pub(crate) async fn look_at_ticket(&self, id: &str) -> Result<Ticket, OAuthError> {
        self.look("ticket", id)
            .await?
            .ok_or(OAuthError::UnknownState)
    }

    /// Turns a ticket into a request, and returns the address to send the user's browser to.
    ///
    /// Call it only when the user has agreed, and belongs to the ticket. `browser` is the cookie of the browser that the
    /// answer has to come from.
    ///
    /// # Errors
    ///
    /// The ticket is used or too old, or the authorization server cannot be used.
    pub async fn begin(
        &self,
        ticket_id: &str,
        browser: Option<&Secret>,
    ) -> Result<Url, OAuthError> {
        let ticket: Ticket = self.take("ticket", ticket_id).await?;
        let relation = self.relation(&ticket.relation)?;
        let challenge = ticket.challenge.as_deref().and_then(|text| {
            let value = http::HeaderValue::from_str(text).ok()?;
            Challenge::parse_all([&value]).into_iter().next()
        });
        let (metadata, protected) = self.server_of(relation, challenge.as_ref()).await?;
        if !metadata.has_s256() {
            return Err(OAuthError::NoPkce(metadata.issuer));
        }
        let client = self.client_at(relation, &metadata).await?;
        let requested = self.choose_scopes(
            relation,
            &ticket,
            challenge.as_ref(),
            &metadata,
            protected.as_ref(),
        );
        let resource = resource_of(relation, protected.as_ref());
        let Address {
            url,
            state,
            verifier,
        } = self.address(
            relation,
            &metadata,
            &client,
            &requested,
            resource.as_deref(),
        )?;
        let open = Open {
            ticket: ticket_id.to_owned(),
            owner: ticket.owner,
            relation: ticket.relation,
            verifier,
            issuer: metadata.issuer.clone(),
            demands_issuer: metadata.authorization_response_iss_parameter_supported,
            metadata,
            client_id: client.id,
            resource,
            requested,
            browser: browser.map(print),
        };
        self.keep("state", &state, &open).await?;
        Ok(url)
    }

    /// Finds the authorization server of an upstream.
    pub(super) async fn server_of(
        &self,
        relation: &Relation,
        challenge: Option<&Challenge>,
    ) -> Result<(ServerMetadata, Option<Protected>), OAuthError> {
        let server = match &relation.target {
            Target::Provider(provider) => {
                return Ok((provider.metadata(&self.0.http).await?, None));
            }
            Target::Mcp(server) => server,
        };
        let Some(protected) = resource::find(&self.0.http, server, challenge).await? else {
            return match relation.legacy {
                true => Ok((resource::of_2025_03_26(&self.0.http, server).await?, None)),
                false => Err(OAuthError::NoServer(net::shown(server))),
            };
        };
        // A server at which the operator has registered comes first, else the order is the resource's.
        let known = protected
            .servers
            .iter()
            .find(|issuer| relation.clients.iter().any(|(own, _)| own == *issuer));
        let issuer = known.unwrap_or(&protected.servers[0]).clone();
        let metadata = discovery::discover(&self.0.http, &issuer).await?;
        Ok((metadata, Some(protected)))
    }

    /// Chooses scopes: those of the challenge (and of earlier requests), else all that the resource lists, else the
    /// operator's (MCP 2026-07-28, authorization, "Scope Selection Strategy").
    fn choose_scopes(
        &self,
        relation: &Relation,
        ticket: &Ticket,
        challenge: Option<&Challenge>,
        metadata: &ServerMetadata,
        protected: Option<&Protected>,
    ) -> Vec<String> {
        let mut scopes = ticket.scopes.clone();
        scopes.extend(
            challenge
                .iter()
                .flat_map(|own| own.scopes())
                .map(str::to_owned),
        );
        if scopes.is_empty() {
            scopes.clone_from(&relation.scopes);
        }
        if scopes.is_empty() {
            let listed = protected.and_then(|protected| protected.scopes.clone());
            scopes = listed.unwrap_or_default();
        }
        let offers = |scope: &str| {
            let all = metadata.scopes_supported.as_ref();
            all.is_some_and(|all| all.iter().any(|own| own == scope))
        };
        if offers("offline_access") {
            scopes.push("offline_access".to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        scopes.retain(|scope| seen.insert(scope.clone()));
        scopes
    }

    /// Writes the address to send the user to, and makes its `state` and the verifier of its code.
    fn address(
        &self,
        relation: &Relation,
        metadata: &ServerMetadata,
        client: &OAuthClient,
        scopes: &[String],
        resource: Option<&str>,
    ) -> Result<Address, OAuthError> {
        let missing = || OAuthError::NoEndpoint {
            issuer: metadata.issuer.clone(),
            endpoint: "authorization_endpoint",
        };
        let url = metadata.authorization_endpoint.as_ref();
        let url = url.ok_or_else(missing)?;
        if !net::is_secure(url) {
            return Err(net::FetchError::Insecure(net::shown(url)).into());
        }
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let client = endpoint::client(client)
            .set_auth_uri(AuthUrl::from_url(url.clone()))
            .set_redirect_uri(RedirectUrl::from_url(self.0.config.redirect.clone()));
        let mut request = client
            .authorize_url(|| CsrfToken::new_random_len(24))
            .set_pkce_challenge(challenge)
            .add_scopes(scopes.iter().cloned().map(Scope::new));
        if let Some(resource) = resource {
            request = request.add_extra_param("resource", resource);
        }
        if let Target::Provider(provider) = &relation.target {
            for (name, value) in &provider.extra {
                request = request.add_extra_param(*name, *value);
            }
        } else if scopes.iter().any(|scope| scope == "offline_access") {
            // OpenID Connect Core, section 11: without it the scope may be ignored.
            request = request.add_extra_param("prompt", "consent");
        }
        let (url, state) = request.url();
        Ok(Address {
            url,
            state: state.into_secret(),
            verifier: verifier.into_secret(),
        })
    }

    /// Takes the answer that the user's browser brings back, and stores the tokens.
    ///
    /// # Errors
    ///
    /// The answer belongs to no open request, names another issuer, is an error, or the code is not taken. Nothing of
    /// the answer's text is repeated.
    pub async fn finish(
        &self,
        query: &[(String, String)],
        browser: Option<&Secret>,
    ) -> Result<Authorized, OAuthError> {
        let param = |name: &str| {
            let mut found = query.iter().filter(|(own, _)| own == name);
            let first = found.next().map(|(_, value)| value.as_str());
            // A parameter that comes twice is nobody's word (RFC 6749, section 3.1).
            first.filter(|_| found.next().is_none())
        };
        let open: Open = self
            .take("state", param("state").ok_or(OAuthError::UnknownState)?)
            .await?;
        let same = match (&open.browser, browser) {
            (Some(own), Some(cookie)) => own.ct_eq(&print(cookie)).into(),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if !same {
            // Somebody was led to finish what another began.
            return Err(OAuthError::UnknownState);
        }
        match param("iss") {
            Some(issuer) if issuer != open.issuer => return Err(OAuthError::MixedUp),
            None if open.demands_issuer => return Err(OAuthError::MixedUp),
            _ => {}
        }
        if let Some(code) = param("error") {
            let plain = |c: &char| c.is_ascii_lowercase() || *c == '_';
            let code = code.chars().filter(plain).take(64).collect();
            return Err(OAuthError::NotGiven { code });
        }
        let code = param("code").ok_or(OAuthError::UnknownState)?;
        let held = self.redeem(&open, code).await?;
        let principal = open.owner.principal();
        self.store_new(&principal, &open.relation, held).await?;
        self.keep("done", &open.ticket, &true).await?;
        self.0.finished.notify_waiters();
        Ok(Authorized {
            principal,
            relation: open.relation,
            ticket: open.ticket,
        })
    }

    async fn redeem(&self, open: &Open, code: &str) -> Result<Held, OAuthError> {
        let relation = self.relation(&open.relation)?;
        let client = self.client_at(relation, &open.metadata).await?;
        if client.id != open.client_id {
            return Err(OAuthError::UnknownState);
        }
        let missing = || OAuthError::NoEndpoint {
            issuer: open.issuer.clone(),
            endpoint: "token_endpoint",
        };
        let now = self.now();
        let endpoint = Endpoint {
            http: &self.0.http,
            url: open.metadata.token_endpoint.as_ref().ok_or_else(missing)?,
            issuer: &open.issuer,
            client: &client,
            now,
        };
        let mut more = Vec::new();
        if let Some(resource) = &open.resource {
            more.push(("resource", resource.as_str()));
        }
        let redirect = &self.0.config.redirect;
        let tokens = endpoint.code(code, &open.verifier, redirect, &more).await?;
        Ok(Held {
            tokens,
            issuer: open.issuer.clone(),
            resource: open.resource.clone(),
            requested: open.requested.clone(),
            obtained: now,
            refreshed: None,
        })
    }

    /// Returns whether the authorisation that a ticket asked for is complete.
    ///
    /// # Errors
    ///
    /// The vault is away.
    pub async fn is_done(&self, ticket: &str) -> Result<bool, OAuthError> {
        Ok(self.look::<bool>("done", ticket).await?.unwrap_or(false))
    }

    /// Waits until the authorisation that a ticket asked for is complete, at most this long, and tells if it is.
    ///
    /// # Errors
    ///
    /// The vault is away.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn wait(&self, ticket: &str, longest: Duration) -> Result<bool, OAuthError> {
        let end = tokio::time::Instant::now() + longest;
        loop {
            let finished = self.0.finished.notified();
            if self.is_done(ticket).await? {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= end {
                return Ok(false);
            }
            // Another replica may have taken the answer: look from time to time.
            let again = end.min(tokio::time::Instant::now() + Duration::from_millis(500));
            let _ = tokio::time::timeout_at(again, finished).await;
        }
    }
}

/// What tokens for an upstream are to be meant for.
pub(super) fn resource_of(relation: &Relation, protected: Option<&Protected>) -> Option<String> {
    match &relation.target {
        _ if relation.resource.is_some() => relation.resource.clone(),
        Target::Mcp(server) => Some(match protected {
            Some(protected) => protected.resource.clone(),
            None => resource::canonical(server),
        }),
        Target::Provider(_) => None,
    }
    .filter(|_| match &relation.target {
        Target::Provider(provider) => provider.sends_resource,
        Target::Mcp(_) => true,
    })
}
