use std::{
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use mcp_core::{
    Principal,
    clock::{SystemWallClock, WallClock},
    http_client::HttpClient,
    secret::Secret,
};
use moka::{Expiry, future::Cache};
use oauth2::{
    AccessToken, ClientId, ClientSecret, IntrospectionUrl, TokenIntrospectionResponse as _,
    basic::BasicErrorResponse,
};
use tokio::sync::Semaphore;
use url::Url;

use super::{Identity, Presented, Refusal, Scheme, identity::Bound, token::fingerprint};
use crate::{
    jwt,
    wire::{Client, Introspected, Wire},
};

/// How much the clocks may differ.
const LEEWAY: Duration = Duration::from_secs(30);

/// The longest time that an answer is kept, whatever is set.
const LONGEST: Duration = Duration::from_secs(3600);

/// How many tokens are asked about at once, and how long a request waits to be among them.
const AT_ONCE: usize = 32;
const TURN: Duration = Duration::from_secs(5);

/// How many tokens are remembered.
const REMEMBERED: u64 = 10_000;

/// Judges opaque tokens by asking the server that issued them (RFC 7662).
///
/// An answer is kept for at most 60 s and not beyond `exp`; that a token is not active for 10 s. Callers with the
/// same token share one request. While the server is unavailable requests are refused with 503.
///
/// At most 32 tokens are asked about at once, so that made-up tokens do not flood the server; a request that waits longer
/// than 5 s for its turn is refused with 503. Put an [`AttemptLimitLayer`](crate::edge::AttemptLimitLayer) outside where anybody can
/// reach the endpoint.
///
/// Many servers do not introspect tokens that are JSON Web Tokens, so these are left to a
/// [`JwtScheme`](super::JwtScheme) unless [`with_web_tokens`](Self::with_web_tokens) is set.
pub struct IntrospectionScheme {
    issuer: String,
    endpoint: Url,
    audience: String,
    client_id: String,
    client_secret: Secret,
    http: Arc<dyn HttpClient>,
    wall: Arc<dyn WallClock>,
    longest: Duration,
    web_tokens: bool,
    verdicts: Cache<[u8; 32], Verdict>,
    turns: Semaphore,
}

#[derive(Clone)]
struct Verdict {
    answer: Result<Identity, Refusal>,
    keep: Duration,
}

struct Keep;

impl Expiry<[u8; 32], Verdict> for Keep {
    #[allow(clippy::disallowed_types, reason = "the trait of the cache wants it")]
    fn expire_after_create(
        &self,
        _: &[u8; 32],
        verdict: &Verdict,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(verdict.keep)
    }
}

impl IntrospectionScheme {
    /// Asks an endpoint as a client with a secret. `audience` is this server's address; an answer that names others
    /// in `aud` is refused, and so is one that names no one.
    #[must_use]
    pub fn new(
        issuer: &str,
        endpoint: Url,
        audience: &str,
        client: (&str, Secret),
        http: Arc<dyn HttpClient>,
    ) -> Self {
        Self {
            issuer: issuer.to_owned(),
            endpoint,
            audience: audience.to_owned(),
            client_id: client.0.to_owned(),
            client_secret: client.1,
            http,
            wall: Arc::new(SystemWallClock::new()),
            longest: Duration::from_secs(60),
            web_tokens: false,
            verdicts: Cache::builder()
                .max_capacity(REMEMBERED)
                .expire_after(Keep)
                .build(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Sets how many tokens are asked about at once. Default is 32.
    #[must_use]
    pub fn with_concurrency(mut self, number: NonZeroUsize) -> Self {
        self.turns = Semaphore::new(number.get().min(Semaphore::MAX_PERMITS));
        self
    }

    /// Sets how long an answer is kept at most, up to an hour. Default is 60 s; zero asks for every request.
    #[must_use]
    pub fn with_longest(mut self, longest: Duration) -> Self {
        self.longest = longest.min(LONGEST);
        self
    }

    /// Asks about tokens that look like JSON Web Tokens too. Default is no.
    #[must_use]
    pub fn with_web_tokens(mut self) -> Self {
        self.web_tokens = true;
        self
    }

    /// Uses another clock for dates.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    async fn ask(&self, token: &str) -> Result<Verdict, Refusal> {
        const AWAY: Refusal =
            Refusal::unavailable("the server that knows the token cannot be asked now");
        let turn = tokio::time::timeout(TURN, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| AWAY)?.map_err(|_| AWAY)?;
        let client = Client::new(ClientId::new(self.client_id.clone()))
            .set_client_secret(ClientSecret::new(self.client_secret.secret().to_owned()))
            .set_introspection_url(IntrospectionUrl::from_url(self.endpoint.clone()));
        let wire = Wire::new(&self.http, &self.endpoint);
        let token = AccessToken::new(token.to_owned());
        let request = client
            .introspect(&token)
            .set_token_type_hint("access_token");
        let answer = request.request_async(&wire).await.map_err(|error| {
            let code = |refusal: &BasicErrorResponse| refusal.error().as_ref().to_owned();
            let error = wire.failed(error, code, "an answer of its protocol");
            tracing::warn!(%error, "a token was not introspected");
            AWAY
        })?;
        let now = self.wall.now();
        let answer = self.read(&answer, now);
        let keep = match &answer {
            Ok(identity) => identity
                .expires
                .and_then(|end| end.duration_since(now).ok())
                .map_or(self.longest, |left| left.min(self.longest)),
            Err(_) => Duration::from_secs(10).min(self.longest),
        };
        Ok(Verdict { answer, keep })
    }

    fn read(&self, answer: &Introspected, now: SystemTime) -> Result<Identity, Refusal> {
        if !answer.active() {
            return Err(Refusal::invalid("the token is not active"));
        }
        if answer.iss().is_some_and(|issuer| issuer != self.issuer) {
            return Err(Refusal::invalid("the token is of another issuer"));
        }
        let audiences = answer.aud().into_iter().flatten();
        if !audiences.into_iter().any(|own| *own == self.audience) {
            return Err(Refusal::invalid("the token is not meant for this server"));
        }
        let client = answer.client_id().map(|id| id.as_str());
        let (kind, subject) = [
            ("", answer.sub()),
            ("#username", answer.username()),
            ("#client", client),
        ]
        .into_iter()
        .find_map(|(kind, subject)| Some((kind, subject.filter(|own| !own.is_empty())?)))
        .ok_or(Refusal::invalid("the token does not say whom it is about"))?;
        // Names that users choose and ids that clients register are no subjects: an issuer of their own, which no real
        // one can be (RFC 8414, section 2 forbids the fragment), keeps them out of the partition of a subject.
        let issuer = format!("{}{kind}", self.issuer);
        let end = answer.exp().map(SystemTime::from);
        if end.is_some_and(|end| now >= end) {
            return Err(Refusal::invalid("the token has expired"));
        }
        if answer
            .nbf()
            .is_some_and(|begin| SystemTime::from(begin) > now + LEEWAY)
        {
            return Err(Refusal::invalid("the token is not valid yet"));
        }
        let scopes = answer.scopes().into_iter().flatten();
        let scopes = scopes.map(|scope| scope.as_str());
        let principal = Principal::authenticated(&issuer, subject).with_scopes(scopes);
        let mut identity = Identity::new(principal);
        let asked_again = now + self.longest;
        identity.expires = match self.longest.is_zero() {
            true => end,
            false => Some(end.map_or(asked_again, |end| end.min(asked_again))),
        };
        identity.issued = answer.iat().map(SystemTime::from);
        identity.remember = !self.longest.is_zero();
        identity.id = answer.jti().map(Into::into);
        identity.client = client.map(Into::into);
        // RFC 8705, section 3.2; RFC 9449, section 6.2.
        identity.bound_to = Bound::read(answer.extra_fields().cnf.as_ref())?;
        Ok(identity)
    }
}

#[async_trait]
impl Scheme for IntrospectionScheme {
    fn name(&self) -> &'static str {
        "introspection"
    }

    fn needs_issuer(&self) -> bool {
        true
    }

    fn takes(&self, presented: &Presented<'_>) -> bool {
        presented
            .bearer
            .is_some_and(|token| self.web_tokens || jwt::claimed_issuer(token).is_none())
    }

    async fn verify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        let token = presented.bearer.unwrap_or_default();
        let verdict = self
            .verdicts
            .try_get_with(fingerprint(token), self.ask(token))
            .await
            .map_err(|refusal| Refusal::clone(&refusal))?;
        let identity = verdict.answer?;
        // An answer that was kept may have outlived the token.
        match identity.holds(self.wall.now()) {
            true => Ok(identity),
            false => Err(Refusal::invalid("the token has expired")),
        }
    }
}

impl fmt::Debug for IntrospectionScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionScheme")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
