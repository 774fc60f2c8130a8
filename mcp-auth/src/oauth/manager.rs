use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, Partition, Principal, PrincipalKind, UpstreamId,
    clock::WallClock,
    http_client::HttpClient,
    secret::{Secret, SecretName, SecretScope, SecretStore as _},
    store::{Expected, Namespace, Version},
};
use moka::sync::Cache;
use tokio::sync::Notify;
use url::Url;

use super::directory::Directory;
use super::{
    OAuthError, Relation, UserInfo,
    endpoint::Endpoint,
    limits::OpenFlows,
    provider,
    relation::Target,
    strategy,
    token::{Access, Held},
};
use crate::{
    challenge::Challenge,
    net,
    vault::{Swapped, Vault, VaultError},
};

/// Authorises at upstreams on behalf of users, and keeps and refreshes their tokens. Clones share everything.
///
/// Tokens lie in the [`Vault`], each user's in a compartment of their own. A token is refreshed shortly before it
/// ends, by one of all replicas that share the vault's store, while the others continue with the one they have.
#[derive(Clone)]
pub struct Manager(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) http: Arc<dyn HttpClient>,
    /// The metadata of authorization servers.
    pub(super) directory: Directory,
    pub(super) vault: Vault,
    pub(super) wall: Arc<dyn WallClock>,
    pub(super) finished: Notify,
    pub(super) relations: HashMap<String, Relation>,
    pub(super) audit: Option<Arc<dyn AuditSink>>,
    /// Authorisations that have begun and are not finished.
    pub(super) flows: OpenFlows,
    pub(super) remembered: Cache<Key, Remembered>,
    /// The newest challenges of upstreams, by whom they met.
    pub(super) challenges: Cache<Key, Challenge>,
    /// Held while a token of this process is refreshed.
    pub(super) refreshing: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

pub(super) struct Config {
    pub(super) redirect: Url,
    pub(super) client_name: String,
    pub(super) client_document: Option<Url>,
}

/// Whose token, for which upstream.
pub(super) type Key = (Partition, String);

#[derive(Clone)]
pub(super) struct Remembered {
    pub(super) held: Arc<Held>,
    pub(super) version: Version,
}

impl Manager {
    pub(super) fn now(&self) -> SystemTime {
        self.0.wall.now()
    }

    /// Returns the relation of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn relation(&self, name: &str) -> Result<&Relation, OAuthError> {
        const UNKNOWN: OAuthError = OAuthError::Unusable("no such upstream can be authorised at");
        self.0.relations.get(name).ok_or(UNKNOWN)
    }

    /// Returns the names of all relations, in order.
    #[must_use]
    pub fn relations(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.relations.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Returns where authorization servers send users back to.
    #[must_use]
    pub fn redirect(&self) -> &Url {
        &self.0.config.redirect
    }

    /// Returns the document that names this client at authorization servers that take one (client id metadata
    /// document), to be served at its own address.
    #[must_use]
    pub fn client_document(&self) -> Option<serde_json::Value> {
        let url = self.0.config.client_document.as_ref()?;
        Some(serde_json::json!({
            "client_id": url,
            "client_name": self.0.config.client_name,
            "redirect_uris": [self.0.config.redirect],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }))
    }

    pub(super) fn key(principal: &Principal, relation: &str) -> Key {
        (principal.partition(), relation.to_owned())
    }

    pub(super) fn challenge(&self, principal: &Principal, relation: &str) -> Option<Challenge> {
        self.0.challenges.get(&Self::key(principal, relation))
    }

    pub(super) fn met(&self, principal: &Principal, relation: &str, challenge: Challenge) {
        self.0
            .challenges
            .insert(Self::key(principal, relation), challenge);
    }

    pub(super) fn was_met(&self, principal: &Principal, relation: &str) -> bool {
        self.0
            .challenges
            .contains_key(&Self::key(principal, relation))
    }

    /// Where the tokens of a user for an upstream lie.
    pub(super) fn place(key: &Key) -> Result<(SecretScope, SecretName), OAuthError> {
        let namespace = Namespace::new("oauth-token")
            .map_err(|_| OAuthError::Unusable("the namespace of tokens"))?;
        let name = SecretName::new(&key.1)
            .map_err(|_| OAuthError::Unusable("the name of an upstream is too long"))?;
        Ok((SecretScope::new(namespace, key.0), name))
    }

    /// Reads what is held, from the vault.
    pub(super) async fn load(&self, key: &Key) -> Result<Option<Remembered>, OAuthError> {
        let (scope, name) = Self::place(key)?;
        let found = match self.0.vault.read(&scope, &name).await {
            // No key opens it: the user has to authorise again, and then it is written over.
            Err(error) if VaultError::is_damage(&error) => {
                tracing::error!(relation = %key.1, %error, "the stored tokens of a user are damaged");
                None
            }
            found => found?,
        };
        let Some((text, version)) = found else {
            self.0.remembered.invalidate(key);
            return Ok(None);
        };
        let held = Held::read(&text).ok_or(OAuthError::Unusable("stored tokens are malformed"))?;
        let found = Remembered {
            held: Arc::new(held),
            version,
        };
        self.0.remembered.insert(key.clone(), found.clone());
        Ok(Some(found))
    }

    /// Stores the tokens of a new authorisation, whatever was there.
    pub(super) async fn store_new(
        &self,
        principal: &Principal,
        relation: &str,
        held: Held,
    ) -> Result<(), OAuthError> {
        if principal.kind() == PrincipalKind::Anonymous {
            // All anonymous callers are one, and none of them owns what another has given.
            return Err(super::flow::ANONYMOUS);
        }
        let key = Self::key(principal, relation);
        let (scope, name) = Self::place(&key)?;
        self.record(
            principal,
            "credential.write",
            relation,
            AuditOutcome::Succeeded,
        )
        .await?;
        let version = self
            .0
            .vault
            .write(&scope, &name, &held.write(), None)
            .await?;
        let held = Arc::new(held);
        self.0.challenges.invalidate(&key);
        self.0.remembered.insert(key, Remembered { held, version });
        Ok(())
    }

    /// Replaces what is held if it is still what was read.
    pub(super) async fn replace(
        &self,
        key: &Key,
        version: Version,
        held: Option<Held>,
    ) -> Result<Option<Remembered>, OAuthError> {
        let (scope, name) = Self::place(key)?;
        let text = held.as_ref().map(Held::write);
        let expected = Expected::Version(version);
        self.0.remembered.invalidate(key);
        match (
            self.0
                .vault
                .swap(&scope, &name, expected, text.as_ref())
                .await?,
            held,
        ) {
            (Swapped::Written(version), Some(held)) => {
                let new = Remembered {
                    held: Arc::new(held),
                    version,
                };
                self.0.remembered.insert(key.clone(), new.clone());
                Ok(Some(new))
            }
            (Swapped::Deleted, _) => Ok(None),
            // Another writer was quicker, and what they wrote counts.
            _ => self.load(key).await,
        }
    }

    pub(super) async fn record(
        &self,
        principal: &Principal,
        action: &'static str,
        relation: &str,
        outcome: AuditOutcome,
    ) -> Result<(), OAuthError> {
        let Some(sink) = &self.0.audit else {
            return Ok(());
        };
        let mut event = AuditEvent::new(self.now(), principal.clone(), action, outcome);
        event.target = Some(relation.into());
        event.upstream = UpstreamId::new(relation).ok();
        sink.record(&event).await.map_err(|error| {
            tracing::error!(%error, action, "a credential access was not recorded");
            OAuthError::Unusable("the use of credentials cannot be recorded now")
        })
    }

    /// Returns whether a user has authorised at an upstream.
    ///
    /// # Errors
    ///
    /// The vault is unavailable.
    pub async fn has_authorized(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<bool, OAuthError> {
        Ok(self.load(&Self::key(principal, relation)).await?.is_some())
    }

    /// Forgets a user's tokens for an upstream, and has its server forget them (RFC 7009). Tells if there were any.
    ///
    /// # Errors
    ///
    /// The vault is unavailable, or the server did not take the revocation; the tokens are forgotten here all the same.
    pub async fn revoke(&self, principal: &Principal, relation: &str) -> Result<bool, OAuthError> {
        let key = Self::key(principal, relation);
        let Some(found) = self.load(&key).await? else {
            // A damaged record goes as well: no one else could remove it.
            let (scope, name) = Self::place(&key)?;
            return Ok(self.0.vault.delete(&scope, &name).await?);
        };
        self.record(
            principal,
            "credential.revoke",
            relation,
            AuditOutcome::Succeeded,
        )
        .await?;
        let (scope, name) = Self::place(&key)?;
        self.0.vault.delete(&scope, &name).await?;
        self.0.remembered.invalidate(&key);
        self.revoke_at_server(self.relation(relation)?, &found.held)
            .await?;
        Ok(true)
    }

    async fn revoke_at_server(&self, relation: &Relation, held: &Held) -> Result<(), OAuthError> {
        let metadata = self.metadata_for(relation, &held.issuer).await?;
        let Some(url) = &metadata.revocation_endpoint else {
            return Ok(());
        };
        let way = match &relation.target {
            Target::Provider(provider) => provider.revocation,
            Target::Mcp(_) => provider::Revocation::Standard,
        };
        let client = self.client_at(relation, &metadata).await?;
        let endpoint = Endpoint {
            http: &self.0.http,
            url,
            issuer: &held.issuer,
            client: &client,
            now: self.now(),
            key: None,
        };
        let tokens = &held.tokens;
        // The refresh token first: with it goes the family, at most servers.
        if let Some(refresh) = &tokens.refresh
            && way != provider::Revocation::GitHub
        {
            provider::revoke(way, &endpoint, refresh, true).await?;
        }
        match provider::revoke(way, &endpoint, &tokens.access, false).await {
            // Many servers cannot revoke an access token that explains itself (RFC 7009, section 2.2.1).
            Err(OAuthError::Refused { .. }) if tokens.refresh.is_some() => Ok(()),
            other => other,
        }
    }

    /// Returns the endpoints of the issuer that tokens are of, and of no other.
    pub(super) async fn metadata_for(
        &self,
        relation: &Relation,
        issuer: &str,
    ) -> Result<crate::discovery::ServerMetadata, OAuthError> {
        match &relation.target {
            Target::Provider(provider) => {
                let metadata = provider.metadata(&self.0.directory).await?;
                match crate::discovery::same_issuer(&metadata.issuer, issuer) {
                    true => Ok(metadata),
                    false => Err(OAuthError::MixedUp),
                }
            }
            Target::Mcp(server) => match self.0.directory.discover(issuer).await {
                Ok(metadata) => Ok(metadata),
                Err(_) if relation.legacy && net::shown(server) == issuer => {
                    super::resource::of_2025_03_26(&self.0.directory, server).await
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Asks the provider who the user is at its place.
    ///
    /// # Errors
    ///
    /// The user has not authorised, the relation is not that of a provider, or the provider does not answer.
    pub async fn user_info(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<UserInfo, OAuthError> {
        const NONE: OAuthError = OAuthError::Unusable("the user has not authorised there");
        let own = self.relation(relation)?;
        let Target::Provider(provider) = &own.target else {
            return Err(OAuthError::Unusable("only providers tell who a user is"));
        };
        let access = self.access_to(principal, relation).await?.ok_or(NONE)?;
        let metadata = provider.metadata(&self.0.directory).await?;
        let credential = strategy::credential(&access, self.wall())
            .map_err(|_| OAuthError::Unusable("the access token cannot be sent"))?;
        provider::user_info(&self.0.http, &provider.user, &metadata, &credential).await
    }

    /// Stores a refresh token that was got elsewhere, for instance by an administrator's tool.
    ///
    /// # Errors
    ///
    /// The relation is not known, or the vault is unavailable.
    pub async fn import(
        &self,
        principal: &Principal,
        relation: &str,
        issuer: &str,
        tokens: super::TokenSet,
    ) -> Result<(), OAuthError> {
        let own = self.relation(relation)?;
        let held = Held {
            requested: tokens.scopes.clone().unwrap_or_default(),
            tokens,
            issuer: issuer.to_owned(),
            resource: super::flow::resource_of(own, None),
            obtained: self.now(),
            refreshed: None,
        };
        self.store_new(principal, relation, held).await
    }

    /// The lock that one refresh of this process holds.
    pub(super) fn lock_of(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self
            .0
            .refreshing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() > 1024 {
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        Arc::clone(all.entry(key.clone()).or_default())
    }

    /// The access token alone, as it is sent.
    pub(super) fn access(found: &Remembered) -> Access {
        Access::from(&found.held.tokens)
    }

    pub(super) fn wall(&self) -> Arc<dyn WallClock> {
        Arc::clone(&self.0.wall)
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("relations", &self.relations())
            .finish_non_exhaustive()
    }
}

/// What the strategies ask.
impl Manager {
    /// Returns the ID token that a user's authorisation has brought.
    pub(crate) async fn id_token(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<Option<Secret>, OAuthError> {
        let key = Self::key(principal, relation);
        let found = match self.0.remembered.get(&key) {
            Some(found) => Some(found),
            None => self.load(&key).await?,
        };
        Ok(found.and_then(|found| found.held.tokens.id.clone()))
    }

    /// Returns whether a user has authorised at an upstream and was asked for all of these scopes.
    #[cfg(feature = "consent")]
    pub(crate) async fn covers(
        &self,
        principal: &Principal,
        relation: &str,
        scopes: &[String],
    ) -> Result<bool, OAuthError> {
        let found = self.load(&Self::key(principal, relation)).await?;
        let has = |held: &Held| scopes.iter().all(|scope| held.requested.contains(scope));
        Ok(found.is_some_and(|found| has(&found.held)))
    }

    /// Returns all scopes that a user was asked for.
    pub(super) async fn requested(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<Vec<String>, OAuthError> {
        let found = self.load(&Self::key(principal, relation)).await?;
        Ok(found
            .map(|found| found.held.requested.clone())
            .unwrap_or_default())
    }

    /// Returns whether an MCP server now names other issuers than the one that the user's tokens are of.
    pub(super) async fn has_moved(
        &self,
        principal: &Principal,
        relation: &str,
        challenge: &Challenge,
    ) -> Result<bool, OAuthError> {
        let Target::Mcp(server) = &self.relation(relation)?.target else {
            return Ok(false);
        };
        let Some(found) = self.load(&Self::key(principal, relation)).await? else {
            return Ok(false);
        };
        let protected = super::resource::find(&self.0.http, server, Some(challenge)).await?;
        Ok(protected.is_some_and(|own| !own.names(&found.held.issuer)))
    }
}
