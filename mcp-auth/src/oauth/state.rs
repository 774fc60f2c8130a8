//! What is remembered of authorisations that are on their way: sealed in the vault, and gone after ten minutes.

use std::time::Duration;

use mcp_core::{
    Partition, Shared,
    secret::{Secret, SecretName, SecretScope, SecretStore as _},
    store::{Expected, Namespace},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Manager, OAuthError, limits::MAX_FLOW};
use crate::vault::Swapped;

/// How long a user has for the whole way.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

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

    /// Keeps a record of a principal's authorisation. One too many ends an older one.
    pub(super) async fn keep_for(
        &self,
        owner: Partition,
        kind: &'static str,
        id: &str,
        value: &impl Serialize,
    ) -> Result<(), OAuthError> {
        let now = tokio::time::Instant::now();
        for (kind, id) in self.0.flows.admit(owner, kind, id, now) {
            tracing::info!(kind, "an older authorisation ends: too many are open");
            let (scope, name) = (Self::flow_scope()?, Self::flow_name(kind, &id)?);
            self.0.vault.delete(&scope, &name).await?;
        }
        let kept = self.keep(kind, id, value).await;
        if kept.is_err() {
            self.0.flows.release(owner, id);
        }
        kept
    }

    pub(crate) async fn keep(
        &self,
        kind: &str,
        id: &str,
        value: &impl Serialize,
    ) -> Result<(), OAuthError> {
        let text = serde_json::to_string(value)
            .map_err(|_| OAuthError::Unusable("the state of a flow cannot be written"))?;
        if text.len() > MAX_FLOW {
            return Err(OAuthError::Unusable(
                "the authorization server or the scopes have too much to remember",
            ));
        }
        let (scope, name) = (Self::flow_scope()?, Self::flow_name(kind, id)?);
        let secret = Secret::new(text);
        self.0
            .vault
            .write(&scope, &name, &secret, Some(PATIENCE))
            .await?;
        Ok(())
    }

    pub(super) async fn look<T: DeserializeOwned>(
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

    /// Tells those who wait what became of an authorisation.
    pub(super) async fn end(&self, ticket: &str, given: bool) -> Result<(), OAuthError> {
        self.keep("done", ticket, &given).await?;
        self.0.finished.notify_waiters();
        Ok(())
    }

    /// Returns whether the authorisation that a ticket asked for is complete.
    ///
    /// # Errors
    ///
    /// The vault is unavailable.
    pub async fn is_done(&self, ticket: &str) -> Result<bool, OAuthError> {
        Ok(self.look::<bool>("done", ticket).await?.unwrap_or(false))
    }

    /// Waits until the authorisation that a ticket asked for is complete, at most this long, and tells if it is. One that
    /// the user or the server has refused is not waited for.
    ///
    /// # Errors
    ///
    /// The vault is unavailable.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn wait(&self, ticket: &str, longest: Duration) -> Result<bool, OAuthError> {
        Ok(self.outcome(ticket, longest).await?.unwrap_or(false))
    }

    /// As [`Manager::wait`]; `None` if nothing has been decided.
    pub(crate) async fn outcome(
        &self,
        ticket: &str,
        longest: Duration,
    ) -> Result<Option<bool>, OAuthError> {
        let end = tokio::time::Instant::now() + longest;
        loop {
            let finished = self.0.finished.notified();
            let decided = self.look::<bool>("done", ticket).await?;
            if decided.is_some() || tokio::time::Instant::now() >= end {
                return Ok(decided);
            }
            // Another replica may have taken the answer: look from time to time.
            let again = end.min(tokio::time::Instant::now() + Duration::from_millis(500));
            let _ = tokio::time::timeout_at(again, finished).await;
        }
    }
}
