//! The four ways to be someone at an upstream.

mod master;
mod user;

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, header};
use mcp_core::{
    Credential, CredentialNeed, CredentialOutcome, CredentialProvider, Error, ErrorKind,
    clock::WallClock,
};
use url::Url;

use super::{dpop::TokenProof, token::Access};

pub use self::{master::MasterOauth, user::UserOauth};

/// How often more scopes are asked for because of one operation.
const STEPS: u32 = 3;

/// Sends nothing, or what the operator configured, the same for everybody (`bypass_auth`).
///
/// # Security
///
/// With headers, everybody acts at the upstream as the operator. Use it where that is meant.
#[derive(Clone, Debug, Default)]
pub struct BypassAuth(Credential);

impl BypassAuth {
    /// Sends nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Sends these headers with every call of every user.
    #[must_use]
    pub fn with_headers(headers: HeaderMap) -> Self {
        Self(Credential::headers(headers))
    }
}

#[async_trait]
impl CredentialProvider for BypassAuth {
    async fn credential(&self, _: &CredentialNeed<'_>) -> Result<CredentialOutcome, Error> {
        Ok(CredentialOutcome::Ready(self.0.clone()))
    }
}

/// Says how a token is sent: as a bearer's, or with a proof for the key that it is bound to.
pub(super) fn credential(access: &Access, wall: Arc<dyn WallClock>) -> Result<Credential, Error> {
    let bad =
        |error| Error::new(ErrorKind::BadUpstream, "the token cannot be sent").with_source(error);
    let Some(key) = &access.key else {
        return Credential::bearer(access.token.secret()).map_err(bad);
    };
    let text = format!("DPoP {}", access.token.secret());
    let value = HeaderValue::try_from(text).map_err(bad)?;
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
    let proof = TokenProof::new(key.clone(), &access.token, wall);
    Ok(Credential::headers(headers).with_proof(Arc::new(proof)))
}

/// The address of the consent page for a ticket.
pub(crate) fn link(base: &Url, ticket: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/start", base.path().trim_end_matches('/')));
    url.query_pairs_mut().clear().append_pair("ticket", ticket);
    url
}
