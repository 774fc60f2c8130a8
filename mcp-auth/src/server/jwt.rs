use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use mcp_core::{
    Principal,
    clock::{Clock, SystemWallClock, WallClock},
    http_client::HttpClient,
};
use url::Url;

use super::{Identity, Presented, Refusal, Scheme, identity::Bound};
use crate::{
    jwk::KeySource,
    jwt::{self, Bad, Claims, Rules},
};

/// Judges JSON Web Tokens of one issuer (RFC 9068).
///
/// 1. The algorithm must be on the list: by default ES256, ES384, EdDSA, RS256 and PS256. Shared secrets cannot be
///    put on it, and the key decides which algorithms it may be used with.
/// 2. `iss` must be the issuer, `aud` must name this server, `sub` and `exp` must be there.
/// 3. `exp`, `nbf` and `iat` may be off by the leeway, 30 s by default.
/// 4. `typ` must be `at+jwt`, `JWT` or absent. `crit` is refused. Keys in the token's header are not looked at.
///
/// Keys are found through the issuer's metadata and fetched again before they grow old. A key that is not known
/// causes at most one fetch in 30 s, whatever the flood. While the issuer is unavailable its keys are used for 24 hours.
pub struct JwtScheme {
    rules: Rules,
    keys: Arc<KeySource>,
    wall: Arc<dyn WallClock>,
    tenant_claim: Option<String>,
}

impl JwtScheme {
    /// Accepts tokens of an issuer for an audience, which is the address of this server as its clients know it
    /// (RFC 8707).
    #[must_use]
    pub fn new(issuer: &str, audience: &str, client: Arc<dyn HttpClient>) -> Self {
        Self::with_keys(issuer, audience, KeySource::of_issuer(issuer, client))
    }

    /// Accepts tokens of an issuer whose keys are at a known address.
    #[must_use]
    pub fn with_key_address(
        issuer: &str,
        audience: &str,
        keys: Url,
        client: Arc<dyn HttpClient>,
    ) -> Self {
        Self::with_keys(issuer, audience, KeySource::at(keys, client))
    }

    fn with_keys(issuer: &str, audience: &str, keys: KeySource) -> Self {
        Self {
            rules: Rules {
                issuer: issuer.to_owned(),
                audiences: vec![audience.to_owned()],
                algorithms: jwt::usual_algorithms(),
                types: &["at+jwt", "JWT"],
                leeway: Duration::from_secs(30),
            },
            keys: Arc::new(keys),
            wall: Arc::new(SystemWallClock::new()),
            tenant_claim: None,
        }
    }

    /// Accepts another name of this server in `aud`.
    #[must_use]
    pub fn or_audience(mut self, audience: &str) -> Self {
        self.rules.audiences.push(audience.to_owned());
        self
    }

    /// Restricts the algorithms to these names, such as `ES256`. Unknown names and shared secrets are left out.
    #[must_use]
    pub fn with_algorithms<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.rules.algorithms = names
            .into_iter()
            .filter(|name| !name.starts_with("HS"))
            .filter_map(|name| name.parse().ok())
            .collect();
        self
    }

    /// Sets how much the clocks may differ. Default is 30 s.
    #[must_use]
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.rules.leeway = leeway;
        self
    }

    /// Reads the tenant from a claim. Default is none. A token without the claim is refused.
    #[must_use]
    pub fn with_tenant_claim(mut self, claim: &str) -> Self {
        self.tenant_claim = Some(claim.to_owned());
        self
    }

    /// Uses other clocks.
    ///
    /// # Panics
    ///
    /// After the first verification has begun.
    #[must_use]
    pub fn with_clocks(mut self, wall: Arc<dyn WallClock>, clock: Arc<dyn Clock>) -> Self {
        self.wall = wall;
        let keys = Arc::into_inner(self.keys).expect("the clocks are set before the first use");
        self.keys = Arc::new(keys.with_clock(clock));
        self
    }

    fn identity(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let subject = claims.sub.as_deref().unwrap_or_default();
        let scopes = claims.scopes();
        let actors = claims.actors();
        let mut principal = Principal::authenticated(&self.rules.issuer, subject)
            .with_scopes(scopes.iter().map(String::as_str))
            .with_actors(actors.iter().map(String::as_str));
        if let Some(claim) = &self.tenant_claim {
            let tenant = claims
                .text(claim)
                .ok_or(Refusal::invalid("the token does not name its tenant"))?;
            principal = principal.with_tenant(tenant);
        }
        let mut identity = Identity::new(principal);
        identity.expires = claims.expires().map(|end| end + self.rules.leeway);
        identity.issued = claims.issued();
        identity.id = claims.jti.as_deref().map(Into::into);
        identity.client = claims
            .text("client_id")
            .or_else(|| claims.text("azp"))
            .map(Into::into);
        identity.bound_to = Bound::read(claims.rest.get("cnf"))?;
        Ok(identity)
    }
}

#[async_trait]
impl Scheme for JwtScheme {
    fn name(&self) -> &'static str {
        "jwt"
    }

    fn needs_issuer(&self) -> bool {
        true
    }

    fn takes(&self, presented: &Presented<'_>) -> bool {
        presented
            .bearer
            .and_then(jwt::claimed_issuer)
            .is_some_and(|issuer| issuer == self.rules.issuer)
    }

    async fn verify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        let token = presented.bearer.unwrap_or_default();
        let now = self.wall.now();
        match jwt::verify(token, &self.rules, &self.keys, now).await {
            Ok((claims, key)) => {
                let identity = self.identity(&claims)?;
                Ok(identity.with_alive(key.alive.clone()))
            }
            Err(Bad::Token(reason)) => Err(Refusal::invalid(reason)),
            Err(Bad::Unavailable) => Err(Refusal::unavailable(
                "the keys of the token's issuer cannot be had now",
            )),
        }
    }
}

impl fmt::Debug for JwtScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtScheme")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
