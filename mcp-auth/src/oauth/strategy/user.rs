use std::{fmt, time::Duration};

use async_trait::async_trait;
use http::StatusCode;
use mcp_core::{
    Consent, Credential, CredentialNeed, CredentialOutcome, CredentialProvider, CredentialRefusal,
    CredentialRetry, Error, Partition,
};
use url::Url;

use super::{super::Manager, STEPS, credential, link};
use crate::{challenge::Challenge, server::VerifiedIdentity};

/// How long a link to the consent page is given out again.
const LINK: Duration = Duration::from_secs(300);

/// Sends the user's own token for a provider (`delegate_oauth`) or for the upstream itself (`proxy_oauth`), and asks
/// for the user's authorisation where there is none. There is no other token to fall back to.
#[derive(Clone)]
pub struct UserOauth {
    manager: Manager,
    relation: String,
    consent: Url,
    links: moka::sync::Cache<(Partition, Vec<String>), String>,
    /// Scopes that an operation was refused for, and how often.
    steps: moka::sync::Cache<(Partition, String), (Vec<String>, u32)>,
    /// The operations that are about to ask for more.
    pending: moka::sync::Cache<(Partition, String), Vec<String>>,
}

impl UserOauth {
    /// Sends the user's token for a known provider (`delegate_oauth`). `consent` is where the routes of the consent
    /// pages are, for instance `https://gw.example/oauth`.
    #[must_use]
    pub fn delegate(manager: Manager, relation: &str, consent: Url) -> Self {
        Self {
            manager,
            relation: relation.to_owned(),
            consent,
            links: brief(),
            steps: brief(),
            pending: brief(),
        }
    }

    /// Runs the upstream's own OAuth for the user (`proxy_oauth`).
    #[must_use]
    pub fn proxy(manager: Manager, relation: &str, consent: Url) -> Self {
        Self::delegate(manager, relation, consent)
    }

    /// Names what a call does, for counting.
    fn operation(need: &CredentialNeed<'_>) -> (Partition, String) {
        let what = need.request.map(|request| {
            let name = request.name().unwrap_or_default();
            format!("{} {name}", request.method())
        });
        (Partition::of(need.principal), what.unwrap_or_default())
    }

    async fn ask(
        &self,
        need: &CredentialNeed<'_>,
        scopes: Vec<String>,
    ) -> Result<CredentialOutcome, Error> {
        let key = (Partition::of(need.principal), scopes);
        let known = match self.links.get(&key) {
            // A ticket is used up when the user has agreed; then another is needed.
            Some(id) if self.manager.look_at_ticket(&id).await.is_ok() => Some(id),
            _ => None,
        };
        let id = match known {
            Some(id) => id,
            None => {
                let identity = need
                    .request
                    .and_then(|request| request.auth_context().get::<VerifiedIdentity>());
                let client = identity.and_then(|own| own.identity().client.as_deref());
                let id = self
                    .manager
                    .ticket(need.principal, &self.relation, &key.1, client)
                    .await?;
                self.links.insert(key, id.clone());
                id
            }
        };
        let url = link(&self.consent, &id);
        let message = format!("Allow access to {} to go on", self.relation);
        Ok(CredentialOutcome::ConsentRequired(Consent::new(
            &id, &message, url,
        )))
    }

    async fn step_up(
        &self,
        need: &CredentialNeed<'_>,
        challenge: &Challenge,
    ) -> Result<CredentialRetry, Error> {
        let operation = Self::operation(need);
        let count = self.steps.get(&operation).map_or(0, |(_, count)| count);
        if count >= STEPS {
            tracing::info!(relation = %self.relation, "more scopes were asked for too often");
            return Ok(CredentialRetry::GiveUp);
        }
        let mut scopes = self
            .manager
            .requested(need.principal, &self.relation)
            .await?;
        for scope in challenge.scopes() {
            if !scopes.iter().any(|own| own == scope) {
                scopes.push(scope.to_owned());
            }
        }
        self.steps
            .insert(operation.clone(), (scopes.clone(), count + 1));
        self.pending.insert(operation, scopes);
        self.manager
            .met(need.principal, &self.relation, challenge.clone());
        Ok(CredentialRetry::Retry)
    }
}

/// Chooses among several challenges of `Bearer` and `DPoP` the one that says most: that asks for scopes where they are
/// missing, else that names a document, else the first. Of two that say as much a `DPoP` one is better.
fn choose(challenges: Vec<Challenge>, status: StatusCode) -> Option<Challenge> {
    let says = |own: &Challenge| match status {
        StatusCode::FORBIDDEN => own.param("error") == Some("insufficient_scope"),
        _ => own.resource_metadata_all().next().is_some(),
    };
    let mut own: Vec<_> = challenges
        .into_iter()
        .filter(|own| own.is_bearer() || own.is_dpop())
        .collect();
    own.sort_by_key(Challenge::is_bearer);
    let best = own.iter().position(says).unwrap_or_default();
    (!own.is_empty()).then(|| own.swap_remove(best))
}

/// A memory that forgets by itself.
fn brief<K, V>() -> moka::sync::Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    moka::sync::Cache::builder()
        .max_capacity(10_000)
        .time_to_live(LINK)
        .build()
}

#[async_trait]
impl CredentialProvider for UserOauth {
    async fn credential(&self, need: &CredentialNeed<'_>) -> Result<CredentialOutcome, Error> {
        let operation = Self::operation(need);
        if let Some(scopes) = self.pending.remove(&operation) {
            return self.ask(need, scopes).await;
        }
        let access = self.manager.access_to(need.principal, &self.relation);
        match access.await {
            Ok(Some(access)) => {
                let credential = credential(&access, self.manager.wall())?;
                Ok(CredentialOutcome::Ready(credential))
            }
            // An MCP server says best itself what it wants; it may even want nothing.
            Ok(None)
                if self.manager.asks_first(&self.relation)
                    && !self.manager.was_met(need.principal, &self.relation) =>
            {
                Ok(CredentialOutcome::Ready(Credential::none()))
            }
            Ok(None) => self.ask(need, Vec::new()).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn refused(
        &self,
        need: &CredentialNeed<'_>,
        refusal: &CredentialRefusal,
    ) -> Result<CredentialRetry, Error> {
        let challenges = Challenge::parse_all(&refusal.challenges);
        let chosen = choose(challenges, refusal.status);
        if refusal.status == StatusCode::FORBIDDEN {
            return match chosen {
                Some(own) if own.param("error") == Some("insufficient_scope") => {
                    self.step_up(need, &own).await
                }
                _ => Ok(CredentialRetry::GiveUp),
            };
        }
        let challenge = chosen.unwrap_or_else(Challenge::bearer);
        let moved = self
            .manager
            .has_moved(need.principal, &self.relation, &challenge)
            .await?;
        self.manager.met(need.principal, &self.relation, challenge);
        if moved {
            self.manager.forget(need.principal, &self.relation).await?;
            return Ok(CredentialRetry::Retry);
        }
        match self
            .manager
            .was_refused(need.principal, &self.relation)
            .await
        {
            Ok(_) => Ok(CredentialRetry::Retry),
            Err(error) if error.is_transient() => Err(error.into()),
            Err(error) => {
                tracing::info!(relation = %self.relation, %error, "the user has to authorise again");
                Ok(CredentialRetry::Retry)
            }
        }
    }
}

impl fmt::Debug for UserOauth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserOauth")
            .field("relation", &self.relation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_challenge_that_says_most_is_chosen() {
        let value = r#"Bearer, Bearer realm="x", Bearer resource_metadata="https://a.example/m""#;
        let value = format!(r#"{value}, Bearer error="insufficient_scope", scope="s""#);
        let all = Challenge::parse_all([&HeaderValue::try_from(value).unwrap()]);
        let chosen = choose(all.clone(), StatusCode::UNAUTHORIZED).unwrap();
        assert!(chosen.resource_metadata().is_some());
        let chosen = choose(all, StatusCode::FORBIDDEN).unwrap();
        assert_eq!(chosen.param("scope"), Some("s"));
        assert_eq!(choose(Vec::new(), StatusCode::UNAUTHORIZED), None);
    }
}
