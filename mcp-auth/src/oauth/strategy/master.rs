use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use http::StatusCode;
use mcp_core::{
    CredentialNeed, CredentialOutcome, CredentialProvider, CredentialRefusal, CredentialRetry,
    Error, ErrorKind, Partition, secret::Secret,
};
use moka::{Expiry, future::Cache};
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        EnterpriseIdp, Exchange, Manager, OAuthClient, OAuthError, TokenSet, WorkloadIdentity,
        token::Access,
    },
    STEPS, credential,
};
use crate::{challenge::Challenge, server::VerifiedIdentity};

/// Sends a token of the gateway's own relation to the upstream (`master_oauth`): one that was issued to the gateway,
/// or one that the authorization server has exchanged for the caller's. The caller's own token is never sent.
pub struct MasterOauth {
    manager: Manager,
    way: Way,
    tokens: Cache<[u8; 32], TokenSet>,
    /// Scopes that the upstream asked for beyond the configured ones, and how often it did.
    stepped: Mutex<(Vec<String>, u32)>,
    /// The newest challenge of the upstream that asked for tokens that are bound to a key.
    asked: ArcSwapOption<Challenge>,
}

enum Way {
    Own {
        relation: String,
        scopes: Vec<String>,
    },
    Exchange {
        issuer: String,
        client: OAuthClient,
        wanted: Exchange,
    },
    OnBehalfOf {
        issuer: String,
        client: OAuthClient,
        scopes: Vec<String>,
    },
    Enterprise {
        relation: String,
        idp: EnterpriseIdp,
        login: String,
    },
    Workload {
        relation: String,
        identity: WorkloadIdentity,
        scopes: Vec<String>,
    },
}

/// Ends a token in memory a little before its end; one without an end after five minutes.
struct Ends;

impl Expiry<[u8; 32], TokenSet> for Ends {
    #[allow(clippy::disallowed_types, reason = "the trait of the cache wants it")]
    fn expire_after_create(
        &self,
        _: &[u8; 32],
        tokens: &TokenSet,
        _: std::time::Instant,
    ) -> Option<Duration> {
        let Some(end) = tokens.expires else {
            return Some(Duration::from_secs(300));
        };
        let life = end.duration_since(SystemTime::now()).unwrap_or_default();
        Some(life.saturating_sub(Duration::from_secs(30).min(life / 10)))
    }
}

impl MasterOauth {
    fn new(manager: Manager, way: Way) -> Self {
        Self {
            manager,
            way,
            tokens: Cache::builder()
                .max_capacity(10_000)
                .expire_after(Ends)
                .build(),
            stepped: Mutex::default(),
            asked: ArcSwapOption::empty(),
        }
    }

    /// Takes note of the scopes that an upstream asks the gateway itself for; tells if a token with them is worth a try.
    fn step_up(&self, challenge: &Challenge) -> bool {
        let Way::Own { scopes, .. } = &self.way else {
            // What a caller may do is for the caller's token to say.
            return false;
        };
        let mut stepped = self.stepped.lock().unwrap_or_else(PoisonError::into_inner);
        let (more, count) = &mut *stepped;
        let new: Vec<_> = challenge
            .scopes()
            .filter(|scope| !scopes.iter().chain(&*more).any(|own| own == scope))
            .map(str::to_owned)
            .collect();
        if new.is_empty() || *count >= STEPS {
            return false;
        }
        more.extend(new);
        *count += 1;
        true
    }

    /// Acts as the gateway itself, by a client credentials grant of a relation. An upstream that asks for more scopes is
    /// tried again with them, three times in all.
    #[must_use]
    pub fn client_credentials(manager: Manager, relation: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let relation = relation.to_owned();
        Self::new(manager, Way::Own { relation, scopes })
    }

    /// Exchanges the caller's token at its issuer (RFC 8693) for one that is meant for the upstream.
    #[must_use]
    pub fn exchange(manager: Manager, issuer: &str, client: OAuthClient, wanted: Exchange) -> Self {
        let issuer = issuer.to_owned();
        Self::new(
            manager,
            Way::Exchange {
                issuer,
                client,
                wanted,
            },
        )
    }

    /// Exchanges the caller's token in the manner of Microsoft Entra.
    #[must_use]
    pub fn on_behalf_of(
        manager: Manager,
        issuer: &str,
        client: OAuthClient,
        scopes: &[&str],
    ) -> Self {
        let issuer = issuer.to_owned();
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Self::new(
            manager,
            Way::OnBehalfOf {
                issuer,
                client,
                scopes,
            },
        )
    }

    /// Gets a token through the enterprise's identity provider, from the ID token that the user's authorisation for
    /// the relation `login` has brought.
    #[must_use]
    pub fn enterprise(manager: Manager, relation: &str, idp: EnterpriseIdp, login: &str) -> Self {
        let (relation, login) = (relation.to_owned(), login.to_owned());
        Self::new(
            manager,
            Way::Enterprise {
                relation,
                idp,
                login,
            },
        )
    }

    /// Acts as the workload that this process is, by the token that its platform has issued to it (RFC 7523, section 2.1):
    /// no client has to be registered. A refusal is not followed by any other grant.
    #[must_use]
    pub fn workload(
        manager: Manager,
        relation: &str,
        identity: WorkloadIdentity,
        scopes: &[&str],
    ) -> Self {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let relation = relation.to_owned();
        Self::new(
            manager,
            Way::Workload {
                relation,
                identity,
                scopes,
            },
        )
    }

    /// Takes note of a challenge that asks for tokens that are bound to a key.
    fn note_dpop(&self, challenges: &[Challenge]) {
        if let Some(asked) = challenges.iter().find(|own| own.is_dpop()) {
            self.asked.store(Some(Arc::new(asked.clone())));
        }
    }

    /// The key under which a token is remembered. What depends on the caller has the caller in it.
    ///
    /// So has what depends on a login: a token does not outlast the login that it was got with.
    async fn key(&self, need: &CredentialNeed<'_>) -> Result<([u8; 32], Option<Secret>), Error> {
        const NONE: OAuthError = OAuthError::Unusable("the user has not logged in there");
        let mut hash = Sha256::new();
        let subject = match &self.way {
            Way::Own { .. } | Way::Workload { .. } => None,
            Way::Exchange { .. } | Way::OnBehalfOf { .. } => Some(inbound(need)?),
            Way::Enterprise { login, .. } => {
                let id = self.manager.id_token(need.principal, login).await?;
                Some(id.ok_or(NONE)?)
            }
        };
        if let Some(subject) = &subject {
            hash.update(Partition::of(need.principal).as_bytes());
            hash.update(subject.secret().as_bytes());
        }
        Ok((hash.finalize().into(), subject))
    }

    async fn fetch(&self, subject: Option<&Secret>) -> Result<TokenSet, OAuthError> {
        const NONE: OAuthError = OAuthError::Unusable("the caller has no token to exchange");
        let asked = self.asked.load_full();
        let asked = asked.as_deref();
        match &self.way {
            Way::Own { relation, scopes } => {
                let mut scopes = scopes.clone();
                let more = self
                    .stepped
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
                    .clone();
                scopes.extend(more);
                self.manager
                    .client_credentials_for(relation, &scopes, asked)
                    .await
            }
            Way::Exchange {
                issuer,
                client,
                wanted,
            } => {
                let subject = subject.ok_or(NONE)?;
                self.manager
                    .exchange_token(issuer, client, subject, wanted)
                    .await
            }
            Way::OnBehalfOf {
                issuer,
                client,
                scopes,
            } => {
                let subject = subject.ok_or(NONE)?;
                self.manager
                    .on_behalf_of(issuer, client, subject, scopes)
                    .await
            }
            Way::Enterprise { relation, idp, .. } => {
                let id = subject.ok_or(NONE)?;
                self.manager
                    .enterprise_managed_for(relation, idp, id, asked)
                    .await
            }
            Way::Workload {
                relation,
                identity,
                scopes,
            } => {
                let token = identity.token().await?;
                self.manager
                    .workload_identity_for(relation, &token, scopes, asked)
                    .await
            }
        }
    }
}

/// The caller's token, for its issuer and no one else.
fn inbound(need: &CredentialNeed<'_>) -> Result<Secret, Error> {
    need.request
        .and_then(|request| request.auth_context().get::<VerifiedIdentity>())
        .filter(|identity| identity.principal() == need.principal)
        .and_then(VerifiedIdentity::token)
        .map(|token| token.for_exchange().clone())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::PermissionDenied,
                "this upstream needs a caller who came with a token",
            )
        })
}

#[async_trait]
impl CredentialProvider for MasterOauth {
    async fn credential(&self, need: &CredentialNeed<'_>) -> Result<CredentialOutcome, Error> {
        let (key, subject) = self.key(need).await?;
        let fetched = self
            .tokens
            .try_get_with(key, self.fetch(subject.as_ref()))
            .await;
        match fetched {
            Ok(tokens) => {
                let credential = credential(&Access::from(&tokens), self.manager.wall())?;
                Ok(CredentialOutcome::Ready(credential))
            }
            Err(error) => {
                tracing::warn!(upstream = %need.upstream, %error, "no token of the gateway's own");
                let kind = match error.is_transient() {
                    true => ErrorKind::Unavailable,
                    false => ErrorKind::PermissionDenied,
                };
                Err(
                    Error::new(kind, "there is no credential for this upstream now")
                        .with_source(error),
                )
            }
        }
    }

    async fn refused(
        &self,
        need: &CredentialNeed<'_>,
        refusal: &CredentialRefusal,
    ) -> Result<CredentialRetry, Error> {
        let challenges = Challenge::parse_all(&refusal.challenges);
        self.note_dpop(&challenges);
        if refusal.status != StatusCode::UNAUTHORIZED {
            let asked = challenges.into_iter().find(|own| {
                let known = own.is_bearer() || own.is_dpop();
                known && own.param("error") == Some("insufficient_scope")
            });
            if !asked.is_some_and(|own| self.step_up(&own)) {
                return Ok(CredentialRetry::GiveUp);
            }
        }
        let (key, _) = self.key(need).await?;
        self.tokens.invalidate(&key).await;
        Ok(CredentialRetry::Retry)
    }
}

impl fmt::Debug for MasterOauth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterOauth").finish_non_exhaustive()
    }
}
