//! What the gateway sends to its servers, and on whose behalf.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use mcp_core::{
    CredentialNeed, CredentialOutcome, CredentialProvider, CredentialRefusal, CredentialRetry,
    Error,
};

use crate::upstream::{Print, print};

/// For whom each token was given out.
pub type Given = HashMap<Print, BTreeSet<String>>;

/// Notes for whom a strategy gives out which token: for calls, and for all that a gateway does beside them.
#[derive(Clone)]
pub(crate) struct Witness {
    inner: Arc<dyn CredentialProvider>,
    given: Arc<Mutex<Given>>,
}

impl Witness {
    pub(crate) fn new(inner: Arc<dyn CredentialProvider>, given: &Arc<Mutex<Given>>) -> Self {
        Self {
            inner,
            given: Arc::clone(given),
        }
    }
}

#[async_trait]
impl CredentialProvider for Witness {
    async fn credential(&self, need: &CredentialNeed<'_>) -> Result<CredentialOutcome, Error> {
        let outcome = self.inner.credential(need).await?;
        if let CredentialOutcome::Ready(credential) = &outcome {
            let value = credential.as_headers().get("authorization");
            let text = value.and_then(|value| value.to_str().ok());
            if let Some(token) = text.and_then(|text| text.strip_prefix("Bearer ")) {
                let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
                let whom = given.entry(print(token)).or_default();
                whom.insert(need.principal.subject().to_owned());
            }
        }
        Ok(outcome)
    }

    async fn refused(
        &self,
        need: &CredentialNeed<'_>,
        refusal: &CredentialRefusal,
    ) -> Result<CredentialRetry, Error> {
        self.inner.refused(need, refusal).await
    }
}
