use std::time::Duration;

use async_trait::async_trait;
use mcp_core::secret::Secret;

use super::{Users, tokens::ACCESS};
use crate::server::{Identity, Presented, Refusal, Scheme};

/// How long a verdict about an access token is remembered.
const KEEP: Duration = Duration::from_secs(30);

/// Judges the access tokens of [`Users`] at a [`ResourceServer`](crate::server::ResourceServer).
///
/// A verdict is remembered for 30 s: other roles, and the end of a login without shared revocations, are known that much
/// later.
#[derive(Clone, Debug)]
pub struct UserScheme(Users);

impl UserScheme {
    /// Accepts the tokens of these users.
    #[must_use]
    pub const fn new(users: Users) -> Self {
        Self(users)
    }
}

#[async_trait]
impl Scheme for UserScheme {
    fn name(&self) -> &'static str {
        "user"
    }

    fn takes(&self, presented: &Presented<'_>) -> bool {
        presented
            .bearer
            .is_some_and(|token| token.starts_with(ACCESS))
    }

    async fn verify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        const WRONG: Refusal =
            Refusal::invalid("the token is unknown or has ended; refresh it or log in again");
        let token = Secret::new(presented.bearer.unwrap_or_default());
        let found = self.0.who(&token).await.map_err(|error| {
            tracing::warn!(%error, "users cannot be looked up");
            Refusal::unavailable("users cannot be looked up now")
        })?;
        let who = found.ok_or(WRONG)?;
        let mut identity = Identity::new(who.principal().clone());
        // Looked up again before long: a login that was ended, or a role that was taken, counts soon.
        identity.expires = Some(who.expires.min(self.0.now() + KEEP));
        identity.id = Some(who.login().into());
        Ok(identity)
    }
}
