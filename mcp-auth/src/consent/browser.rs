use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use mcp_core::{
    Principal, PrincipalKind, SessionKey,
    clock::{SystemWallClock, WallClock},
    http_client::HttpClient,
    secret::Secret,
};
use url::Url;

use crate::{
    jwk::KeySource,
    jwt::{self, Bad, Rules},
    oauth::{Manager, OAuthClient, OAuthError, Provider, Relation},
    session::Sessions,
    vault::Vault,
};

/// The name of the login relation.
const LOGIN: &str = "login";

/// Whether a browser is that of the user whom a consent page is for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Standing {
    /// It is.
    Same,
    /// It is another user's.
    Other,
    /// No one has logged in with it.
    Unknown,
}

/// Finds out who is in front of a browser.
///
/// # Security
///
/// This is what keeps a user from connecting an account to another user's gateway identity, or from being led to do so
/// (MCP 2026-07-28, elicitation, "Identifying the User").
#[async_trait]
pub trait BrowserGuard: fmt::Debug + Send + Sync + 'static {
    /// Says whether the browser with this cookie is that of a principal.
    ///
    /// # Errors
    ///
    /// It cannot be found out now.
    async fn standing(&self, cookie: &Secret, wanted: &Principal) -> Result<Standing, OAuthError>;

    /// Says who has logged in with the browser.
    ///
    /// # Errors
    ///
    /// It cannot be found out now.
    async fn who(&self, cookie: &Secret) -> Result<Option<Principal>, OAuthError>;

    /// Returns where to send the browser to log in; it comes back to `back`, a path below the consent pages.
    ///
    /// # Errors
    ///
    /// There is no way to log in, or not now.
    async fn login(&self, cookie: &Secret, back: &str) -> Result<Url, OAuthError>;

    /// Takes the answer of a login, and returns the browser's new cookie and where it wanted to go.
    ///
    /// # Errors
    ///
    /// The login failed.
    async fn logged_in(
        &self,
        cookie: &Secret,
        query: &[(String, String)],
    ) -> Result<(Secret, String), OAuthError>;
}

/// Takes whoever has the link for the user, for gateways without authentication: the user of this machine, and sessions
/// without a credential. The pages of users who have logged in are refused.
///
/// # Security
///
/// The link is 192 random bits that only the user's client is told. For a gateway that one person uses on one machine.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LinkGuard;

impl LinkGuard {
    /// Makes the guard; it holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl BrowserGuard for LinkGuard {
    async fn standing(&self, _: &Secret, wanted: &Principal) -> Result<Standing, OAuthError> {
        Ok(match wanted.kind() {
            PrincipalKind::Local | PrincipalKind::Session => Standing::Same,
            _ => Standing::Other,
        })
    }

    async fn who(&self, _: &Secret) -> Result<Option<Principal>, OAuthError> {
        Ok(Some(Principal::local()))
    }

    async fn login(&self, _: &Secret, _: &str) -> Result<Url, OAuthError> {
        Err(OAuthError::Unusable("there is no login here"))
    }

    async fn logged_in(
        &self,
        _: &Secret,
        _: &[(String, String)],
    ) -> Result<(Secret, String), OAuthError> {
        Err(OAuthError::Unusable("there is no login here"))
    }
}

/// Has users log in at the issuer that their MCP tokens are of (OpenID Connect), and compares who they are.
pub struct OidcGuard {
    manager: Manager,
    sessions: Sessions,
    vault: Vault,
    keys: Arc<KeySource>,
    rules: Rules,
    tenant_claim: Option<String>,
    wall: Arc<dyn WallClock>,
}

impl OidcGuard {
    /// Logs users in at an issuer, as a client that is registered there with the address `{base}/login`, where `base` is
    /// where the consent pages are.
    ///
    /// # Errors
    ///
    /// The address is neither `https` nor on this machine.
    pub fn new(
        issuer: &str,
        client: OAuthClient,
        base: &Url,
        http: Arc<dyn HttpClient>,
        vault: Vault,
    ) -> Result<Self, mcp_core::ConfigError> {
        let mut redirect = base.clone();
        redirect.set_path(&format!("{}/login", base.path().trim_end_matches('/')));
        let rules = Rules {
            issuer: issuer.to_owned(),
            audiences: vec![client.id.clone()],
            algorithms: jwt::usual_algorithms(),
            types: &["JWT"],
            leeway: Duration::from_secs(30),
        };
        let provider = Provider::oidc(issuer).with_resource_parameter(false);
        let relation = Relation::provider(LOGIN, provider, client);
        let manager = Manager::builder(redirect, Arc::clone(&http), vault.clone())
            .relation(relation)
            .build()?;
        Ok(Self {
            manager,
            sessions: Sessions::new(Arc::clone(vault.store())),
            vault,
            keys: Arc::new(KeySource::of_issuer(issuer, http)),
            rules,
            tenant_claim: None,
            wall: Arc::new(SystemWallClock::new()),
        })
    }

    /// Reads the tenant from a claim of the ID token: the same as [`JwtScheme::with_tenant_claim`] reads from access tokens, so
    /// that users are the same principals in their browsers and in their conversations. Default is none. A login without
    /// the claim fails.
    ///
    /// [`JwtScheme::with_tenant_claim`]: crate::server::JwtScheme::with_tenant_claim
    #[must_use]
    pub fn with_tenant_claim(mut self, claim: &str) -> Self {
        self.tenant_claim = Some(claim.to_owned());
        self
    }

    /// Uses these sessions, for instance with other timeouts.
    #[must_use]
    pub fn with_sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = sessions;
        self
    }

    /// A browser before its login, as someone whom a login belongs to.
    fn browser(cookie: &Secret) -> Principal {
        use sha2::{Digest as _, Sha256};
        let print = HEXLOWER.encode(&Sha256::digest(cookie.secret().as_bytes()));
        Principal::session(&SessionKey::new(&format!("browser/{print}")))
    }
}

#[async_trait]
impl BrowserGuard for OidcGuard {
    async fn standing(&self, cookie: &Secret, wanted: &Principal) -> Result<Standing, OAuthError> {
        Ok(match self.who(cookie).await? {
            Some(who)
                if wanted.kind() == PrincipalKind::Authenticated
                    && who.issuer() == wanted.issuer()
                    && who.subject() == wanted.subject()
                    // Without a claim for it the tenant is a matter of the gateway's tokens alone.
                    && (self.tenant_claim.is_none() || who.tenant() == wanted.tenant()) =>
            {
                Standing::Same
            }
            Some(_) => Standing::Other,
            None => Standing::Unknown,
        })
    }

    async fn who(&self, cookie: &Secret) -> Result<Option<Principal>, OAuthError> {
        Ok(self.sessions.find(cookie).await?)
    }

    async fn login(&self, cookie: &Secret, back: &str) -> Result<Url, OAuthError> {
        let browser = Self::browser(cookie);
        let ticket = self.manager.ticket(&browser, LOGIN, &[], None).await?;
        self.manager.keep("back", &ticket, &back).await?;
        self.manager.begin(&ticket, Some(cookie)).await
    }

    async fn logged_in(
        &self,
        cookie: &Secret,
        query: &[(String, String)],
    ) -> Result<(Secret, String), OAuthError> {
        const NONE: OAuthError = OAuthError::Unusable("the login brought no ID token");
        let done = self.manager.finish(query, Some(cookie)).await?;
        let token = self.manager.id_token(&done.principal, LOGIN).await?;
        // Nothing else of the login is kept.
        self.manager.forget(&done.principal, LOGIN).await?;
        let token = token.ok_or(NONE)?;
        let verified = jwt::verify(token.secret(), &self.rules, &self.keys, self.wall.now()).await;
        let (claims, _) = verified.map_err(|bad| match bad {
            Bad::Token(reason) => OAuthError::Unusable(reason),
            Bad::Unavailable => OAuthError::Unusable("the issuer's keys cannot be had now"),
        })?;
        let subject = claims.sub.as_deref().unwrap_or_default();
        let mut who = Principal::authenticated(&self.rules.issuer, subject);
        if let Some(claim) = &self.tenant_claim {
            const NONE: OAuthError = OAuthError::Unusable("the ID token does not name its tenant");
            who = who.with_tenant(claims.text(claim).ok_or(NONE)?);
        }
        let back: String = self.manager.take("back", &done.ticket).await?;
        // A new cookie: one that was planted before the login is worth nothing after it.
        Ok((self.sessions.open(&who).await?, back))
    }
}

impl fmt::Debug for OidcGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcGuard")
            .field("issuer", &self.rules.issuer)
            .field("vault", &self.vault)
            .finish_non_exhaustive()
    }
}
