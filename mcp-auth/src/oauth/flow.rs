//! One authorisation by the user: ticket, request, answer, tokens.
//!
//! A ticket is what a user is sent to the consent page with. Only when the user has agreed there, it becomes a request
//! with a `state`, which is good for one answer. Both are sealed in the vault and end after ten minutes.

use mcp_core::{Principal, secret::Secret};
use oauth2::{AuthUrl, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;
use zeroize::Zeroizing;

use super::{
    DpopKey, Manager, OAuthClient, OAuthError, Relation,
    binding::{Chosen, key_for},
    client::random,
    endpoint::{self, Endpoint},
    relation::Target,
    resource::{self, Protected},
    token::Held,
};
use crate::{challenge::Challenge, discovery, discovery::ServerMetadata, net, owner::Owner};

/// No one in particular cannot give an authorisation that is theirs alone.
pub(super) const ANONYMOUS: OAuthError =
    OAuthError::Unusable("an anonymous caller cannot authorise; log in first");

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

impl Ticket {
    fn challenge(&self) -> Option<Challenge> {
        let value = http::HeaderValue::from_str(self.challenge.as_deref()?).ok()?;
        Challenge::parse_all([&value]).into_iter().next()
    }
}

/// The scopes that will be asked for, as far as they are known before any server is asked.
fn known_scopes(
    relation: &Relation,
    ticket: &Ticket,
    challenge: Option<&Challenge>,
) -> Vec<String> {
    let mut scopes = ticket.scopes.clone();
    let challenged = challenge.into_iter().flat_map(Challenge::scopes);
    scopes.extend(challenged.map(str::to_owned));
    match scopes.is_empty() {
        true => relation.scopes.clone(),
        false => scopes,
    }
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
    /// The key that the tokens are to be bound to, and whether they have to be.
    key: Option<(Zeroizing<String>, bool)>,
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

/// How many scopes a ticket may ask for.
const MAX_SCOPES: usize = 64;

/// How long one of them may be, in bytes.
const MAX_SCOPE: usize = 256;

impl Manager {
    /// Writes a ticket for a user who has to authorise, and returns its id.
    ///
    /// # Errors
    ///
    /// The caller is anonymous, the upstream is not known, there are more than 64 scopes or one of more than 256 bytes, or
    /// the vault is unavailable.
    pub async fn ticket(
        &self,
        principal: &Principal,
        relation: &str,
        scopes: &[String],
        client: Option<&str>,
    ) -> Result<String, OAuthError> {
        self.relation(relation)?;
        // Callers and upstreams choose the scopes, and a ticket is kept beside the tokens.
        if scopes.len() > MAX_SCOPES || scopes.iter().any(|scope| scope.len() > MAX_SCOPE) {
            return Err(OAuthError::Unusable(
                "too many or too long scopes are asked for",
            ));
        }
        let challenge = self.challenge(principal, relation);
        let ticket = Ticket {
            owner: Owner::of(principal).ok_or(ANONYMOUS)?,
            relation: relation.to_owned(),
            scopes: scopes.to_vec(),
            client: client.map(str::to_owned),
            challenge: challenge.and_then(|own| Some(own.to_header().to_str().ok()?.to_owned())),
        };
        let id = random(24);
        self.keep_for(principal.partition(), "ticket", &id, &ticket)
            .await?;
        Ok(id)
    }

    pub(crate) async fn look_at_ticket(&self, id: &str) -> Result<Ticket, OAuthError> {
        self.look("ticket", id)
            .await?
            .ok_or(OAuthError::UnknownState)
    }

    /// Returns the scopes that will be asked for, for the user to see; none if the server is to say.
    #[cfg(feature = "consent")]
    pub(crate) fn scopes_of(&self, ticket: &Ticket) -> Result<Vec<String>, OAuthError> {
        let relation = self.relation(&ticket.relation)?;
        Ok(known_scopes(relation, ticket, ticket.challenge().as_ref()))
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
        let owner = ticket.owner.principal().partition();
        self.0.flows.release(owner, ticket_id);
        let relation = self.relation(&ticket.relation)?;
        let challenge = ticket.challenge();
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
        let key = key_for(relation, &metadata, protected.as_ref(), challenge.as_ref())?;
        let Address {
            mut url,
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
            metadata: metadata.without_lists(),
            client_id: client.id,
            resource,
            requested,
            browser: browser.map(print),
            key: key.as_ref().map(|own| (own.key.write(), own.required)),
        };
        if let Some(own) = &key {
            // RFC 9449, section 10: the code is good for no one without the key.
            url.query_pairs_mut()
                .append_pair("dpop_jkt", own.key.thumbprint());
        }
        self.keep_for(owner, "state", &state, &open).await?;
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
                return Ok((provider.metadata(&self.0.directory).await?, None));
            }
            Target::Mcp(server) => server,
        };
        let Some(protected) = resource::find(&self.0.http, server, challenge).await? else {
            return match relation.legacy {
                true => Ok((
                    resource::of_2025_03_26(&self.0.directory, server).await?,
                    None,
                )),
                false => Err(OAuthError::NoServer(net::shown(server))),
            };
        };
        // A server at which the operator has registered comes first, else the order is the resource's.
        let known = protected.servers.iter().find(|issuer| {
            relation
                .clients
                .iter()
                .any(|(own, _)| discovery::same_issuer(own, issuer))
        });
        let issuer = known.unwrap_or(&protected.servers[0]).clone();
        let metadata = self.0.directory.discover(&issuer).await?;
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
        let mut scopes = known_scopes(relation, ticket, challenge);
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
        let state = param(query, "state").ok_or(OAuthError::UnknownState)?;
        let open: Open = self.take("state", state).await?;
        let owner = open.owner.principal().partition();
        self.0.flows.release(owner, state);
        let same = match (&open.browser, browser) {
            (Some(own), Some(cookie)) => own.ct_eq(&print(cookie)).into(),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if !same {
            // Someone was led to finish what another began.
            return Err(OAuthError::UnknownState);
        }
        match self.complete(&open, query).await {
            Ok(principal) => {
                self.end(&open.ticket, true).await?;
                Ok(Authorized {
                    principal,
                    relation: open.relation,
                    ticket: open.ticket,
                })
            }
            Err(error) => {
                // Whoever waits for the authorisation need not wait for its time to pass.
                if let Err(error) = self.end(&open.ticket, false).await {
                    tracing::debug!(%error, "the end of an authorisation was not written");
                }
                Err(error)
            }
        }
    }

    async fn complete(
        &self,
        open: &Open,
        query: &[(String, String)],
    ) -> Result<Principal, OAuthError> {
        match param(query, "iss") {
            Some(issuer) if issuer != open.issuer => return Err(OAuthError::MixedUp),
            None if open.demands_issuer => return Err(OAuthError::MixedUp),
            _ => {}
        }
        if let Some(code) = param(query, "error") {
            let plain = |c: &char| c.is_ascii_lowercase() || *c == '_';
            let code = code.chars().filter(plain).take(64).collect();
            return Err(OAuthError::NotGiven { code });
        }
        let code = param(query, "code").ok_or(OAuthError::UnknownState)?;
        let held = self.redeem(open, code).await?;
        let principal = open.owner.principal();
        self.store_new(&principal, &open.relation, held).await?;
        Ok(principal)
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
        let key = match &open.key {
            Some((text, required)) => Some(Chosen {
                key: DpopKey::read(text).ok_or(OAuthError::UnknownState)?,
                required: *required,
            }),
            None => None,
        };
        let endpoint = Endpoint {
            key: key.as_ref().map(Chosen::binding),
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
}

/// Returns a parameter. One that comes twice is no one's word (RFC 6749, section 3.1).
fn param<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = query.iter().filter(|(own, _)| own == name);
    let first = found.next().map(|(_, value)| value.as_str());
    first.filter(|_| found.next().is_none())
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
