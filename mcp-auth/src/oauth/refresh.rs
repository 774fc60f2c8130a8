//! Getting a new access token, once for all who need it.

use std::{sync::Arc, time::Duration};

use mcp_core::{
    AuditOutcome, Principal,
    secret::Secret,
    store::{Change, Expected, Namespace, StateStore, StoreKey, Swap, Version},
};

use super::{
    Manager, OAuthError,
    client::{AHEAD, random},
    endpoint::{Binding, Endpoint},
    manager::{Key, Remembered},
    token::{Access, Held},
};

/// How long one refresher may keep the others off; longer than an exchange may take.
const LEASE: Duration = Duration::from_secs(45);

/// How often those who wait for another replica's refresh look.
const LOOK: Duration = Duration::from_millis(50);

/// A refresh token that was refused this short a time after a refresh is not tried again.
const AGAIN: Duration = Duration::from_secs(30);

impl Manager {
    /// Returns an access token of a user for an upstream; `None` if the user has to authorise (again).
    ///
    /// A token that is about to end is replaced aside, and returned as long as it works. One that is bound to a key
    /// (RFC 9449) is of use only to the credential providers of this module.
    ///
    /// # Errors
    ///
    /// The vault or the authorization server is unavailable, and there is no token that works.
    pub async fn token(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<Option<Secret>, OAuthError> {
        let access = self.access_to(principal, relation).await?;
        Ok(access.map(|own| own.token))
    }

    /// As [`Manager::token`], with the key that the token is bound to.
    pub(crate) async fn access_to(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<Option<Access>, OAuthError> {
        let key = Self::key(principal, relation);
        let found = match self.0.remembered.get(&key) {
            Some(found) => found,
            None => {
                let outcome = AuditOutcome::Succeeded;
                match self.load(&key).await? {
                    Some(found) => {
                        self.record(principal, "credential.read", relation, outcome)
                            .await?;
                        found
                    }
                    None => return Ok(None),
                }
            }
        };
        let now = self.now();
        if !found.held.is_due(now, AHEAD) {
            return Ok(Some(Self::access(&found)));
        }
        if found.held.tokens.refresh.is_none() {
            return Ok(found.held.works(now).then(|| Self::access(&found)));
        }
        if found.held.works(now) {
            let (own, principal, key) = (self.clone(), principal.clone(), key);
            let version = found.version;
            if self.lock_of(&key).try_lock().is_ok() {
                tokio::spawn(async move {
                    if let Err(error) = own.refresh(&principal, &key, version).await {
                        tracing::warn!(relation = %key.1, %error, "a token was not refreshed");
                    }
                });
            }
            return Ok(Some(Self::access(&found)));
        }
        let renewed = self.refresh(principal, &key, found.version).await?;
        Ok(renewed.as_ref().map(Self::access))
    }

    /// Replaces the token that is held under a version, unless someone has done so already.
    ///
    /// `None` if the user has to authorise again.
    pub(super) async fn refresh(
        &self,
        principal: &Principal,
        key: &Key,
        version: Version,
    ) -> Result<Option<Remembered>, OAuthError> {
        let lock = self.lock_of(key);
        let _one = lock.lock().await;
        let end = tokio::time::Instant::now() + LEASE;
        loop {
            let Some(found) = self.load(key).await? else {
                return Ok(None);
            };
            if found.version != version {
                return Ok(Some(found));
            }
            if let Some(lease) = Lease::take(self.0.vault.store(), key).await? {
                // Whoever had the lease before may have written just before giving it back.
                let renewed = match self.load(key).await? {
                    Some(found) if found.version == version => {
                        self.exchange(principal, key, found).await
                    }
                    other => Ok(other),
                };
                lease.give_back().await;
                return renewed;
            }
            if tokio::time::Instant::now() >= end {
                return Err(OAuthError::Unusable(
                    "another replica does not finish its refresh",
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Exchanges the refresh token, and stores what comes.
    async fn exchange(
        &self,
        principal: &Principal,
        key: &Key,
        found: Remembered,
    ) -> Result<Option<Remembered>, OAuthError> {
        match self.ask_for_new(&key.1, &found.held).await {
            Ok(held) => {
                let outcome = AuditOutcome::Succeeded;
                self.record(principal, "credential.refresh", &key.1, outcome)
                    .await?;
                self.replace(key, found.version, Some(held)).await
            }
            Err(error) if error.needs_consent() => {
                let outcome = AuditOutcome::Failed("the refresh token was refused".into());
                self.record(principal, "credential.refresh", &key.1, outcome)
                    .await?;
                // A replica that rotated it in the meantime wrote another version, which then counts.
                self.replace(key, found.version, None).await
            }
            Err(OAuthError::Refused { code }) if code == "invalid_client" => {
                // The server has forgotten the client: register again at the next authorisation.
                self.forget_registration(&found.held.issuer).await?;
                self.replace(key, found.version, None).await
            }
            Err(error) => {
                // Its endpoints may have moved.
                self.0.directory.forget(&found.held.issuer);
                Err(error)
            }
        }
    }

    async fn ask_for_new(&self, relation: &str, held: &Held) -> Result<Held, OAuthError> {
        const NONE: OAuthError = OAuthError::Unusable("there is no refresh token");
        let refresh = held.tokens.refresh.as_ref().ok_or(NONE)?;
        let relation = self.relation(relation)?;
        let metadata = self.metadata_for(relation, &held.issuer).await?;
        let client = self.client_at(relation, &metadata).await?;
        let missing = || OAuthError::NoEndpoint {
            issuer: held.issuer.clone(),
            endpoint: "token_endpoint",
        };
        let now = self.now();
        // What was bound stays bound: to the same key (RFC 9449, section 5).
        let key = held.tokens.key.as_ref().map(|key| Binding {
            key,
            required: true,
        });
        let endpoint = Endpoint {
            key,
            http: &self.0.http,
            url: metadata.token_endpoint.as_ref().ok_or_else(missing)?,
            issuer: &held.issuer,
            client: &client,
            now,
        };
        let granted = held.tokens.scopes.as_ref().unwrap_or(&held.requested);
        let scopes = granted.join(" ");
        let scope = Some(("scope", scopes.as_str()));
        let scope = scope.filter(|(_, own)| relation.scope_at_refresh && !own.is_empty());
        let mut resource = held.resource.clone();
        let mut more: Vec<_> = scope.into_iter().collect();
        more.extend(resource.iter().map(|own| ("resource", own.as_str())));
        let mut tokens = match endpoint.refresh(refresh, &more).await {
            // The parameter is optional (RFC 8707, section 2.2), and some servers refuse it here.
            Err(OAuthError::Refused { code })
                if resource.is_some() && matches!(&*code, "invalid_target" | "invalid_request") =>
            {
                let more: Vec<_> = scope.into_iter().collect();
                let tokens = endpoint.refresh(refresh, &more).await?;
                resource = None;
                tokens
            }
            answer => answer?,
        };
        // A server that does not rotate sends none, and the old one continues.
        tokens.refresh = tokens.refresh.or_else(|| held.tokens.refresh.clone());
        tokens.id = tokens.id.or_else(|| held.tokens.id.clone());
        tokens.scopes = tokens.scopes.or_else(|| held.tokens.scopes.clone());
        Ok(Held {
            tokens,
            refreshed: Some(now),
            resource,
            ..held.clone()
        })
    }

    /// Takes note that an upstream refused the token that is held, and tells if another is worth a try.
    pub(super) async fn was_refused(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<bool, OAuthError> {
        let key = Self::key(principal, relation);
        let used = self.0.remembered.get(&key).map(|used| used.version);
        let Some(found) = self.load(&key).await? else {
            return Ok(used.is_some());
        };
        if used.is_some_and(|used| used != found.version) {
            // Another replica has put a new one there since.
            return Ok(true);
        }
        let fresh = found.held.refreshed.unwrap_or(found.held.obtained);
        let just_now = self
            .now()
            .duration_since(fresh)
            .is_ok_and(|age| age < AGAIN)
            && found.held.refreshed.is_some();
        if found.held.tokens.refresh.is_none() || just_now {
            self.replace(&key, found.version, None).await?;
            return Ok(true);
        }
        self.refresh(principal, &key, found.version).await?;
        Ok(true)
    }

    /// Forgets the tokens of an upstream whose authorization server has changed.
    pub(crate) async fn forget(
        &self,
        principal: &Principal,
        relation: &str,
    ) -> Result<(), OAuthError> {
        let key = Self::key(principal, relation);
        if let Some(found) = self.load(&key).await? {
            self.replace(&key, found.version, None).await?;
        }
        Ok(())
    }
}

/// The right to refresh, which one of all replicas has.
struct Lease {
    store: Arc<dyn StateStore>,
    key: StoreKey,
    version: Version,
}

impl Lease {
    async fn take(store: &Arc<dyn StateStore>, key: &Key) -> Result<Option<Self>, OAuthError> {
        const BAD: OAuthError = OAuthError::Unusable("the name of an upstream is too long");
        let namespace = Namespace::new("oauth-lease").map_err(|_| BAD)?;
        let place = StoreKey::new(&namespace, [&key.0.to_string(), &key.1]).map_err(|_| BAD)?;
        let change = Change::Put {
            value: random(8).into(),
            ttl: Some(LEASE),
        };
        match store
            .compare_and_swap(&place, Expected::Absent, change)
            .await?
        {
            Swap::Written(version) => Ok(Some(Self {
                store: Arc::clone(store),
                key: place,
                version,
            })),
            _ => Ok(None),
        }
    }

    /// Gives the right back. If that fails it ends by itself.
    async fn give_back(self) {
        let expected = Expected::Version(self.version);
        let given = self
            .store
            .compare_and_swap(&self.key, expected, Change::Delete);
        if let Err(error) = given.await {
            tracing::debug!(%error, "a lease ends by its time");
        }
    }
}
