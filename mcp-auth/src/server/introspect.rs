use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use mcp_core::{
    Principal,
    clock::{SystemWallClock, WallClock},
    http_client::HttpClient,
    secret::Secret,
};
use moka::{Expiry, future::Cache};
use serde_json::{Map, Value};
use url::Url;

use super::{Identity, Presented, Refusal, Scheme, token::fingerprint};
use crate::{jwt, net};

/// How many tokens are remembered.
const REMEMBERED: u64 = 10_000;

/// Judges opaque tokens by asking the server that issued them (RFC 7662).
///
/// An answer is kept for at most 60 s and not beyond `exp`; that a token is not active for 10 s. Callers with the
/// same token share one question. While the server is away requests are refused with 503.
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
    /// in `aud` is refused, and so is one that names nobody.
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
        }
    }

    /// Sets how long an answer is kept at most. Default is 60 s; zero asks for every request.
    #[must_use]
    pub fn with_longest(mut self, longest: Duration) -> Self {
        self.longest = longest;
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
        // RFC 6749, section 2.3.1: both are form-encoded before they are joined.
        let encode = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let pair = format!(
            "{}:{}",
            encode(&self.client_id),
            encode(self.client_secret.secret())
        );
        let basic =
            HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).map_err(|_| AWAY)?;
        let fields = [("token", token), ("token_type_hint", "access_token")];
        let answer = net::post_form(&self.http, &self.endpoint, &fields, Some(basic))
            .await
            .map_err(|error| {
                tracing::warn!(%error, "a token was not introspected");
                AWAY
            })?;
        if !answer.status.is_success() {
            tracing::warn!(status = %answer.status, "a token was not introspected");
            return Err(AWAY);
        }
        let answer = answer.object().map_err(|_| AWAY)?;
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

    fn read(&self, answer: &Map<String, Value>, now: SystemTime) -> Result<Identity, Refusal> {
        if answer.get("active") != Some(&Value::Bool(true)) {
            return Err(Refusal::invalid("the token is not active"));
        }
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        if text("iss").is_some_and(|issuer| issuer != self.issuer) {
            return Err(Refusal::invalid("the token is of another issuer"));
        }
        let meant = match answer.get("aud") {
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(many)) => many.iter().any(|one| *one == *self.audience),
            _ => false,
        };
        if !meant {
            return Err(Refusal::invalid("the token is not meant for this server"));
        }
        let subject = text("sub")
            .or_else(|| text("username"))
            .or_else(|| text("client_id"))
            .ok_or(Refusal::invalid("the token does not say whom it is about"))?;
        let end = answer.get("exp").and_then(Value::as_u64);
        let end = end.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        if end.is_some_and(|end| now >= end) {
            return Err(Refusal::invalid("the token has expired"));
        }
        let scopes = text("scope").unwrap_or_default();
        let scopes = scopes.split(' ').filter(|scope| !scope.is_empty());
        let principal = Principal::authenticated(&self.issuer, subject).with_scopes(scopes);
        let mut identity = Identity::new(principal);
        let asked_again = now + self.longest;
        identity.expires = match self.longest.is_zero() {
            true => end,
            false => Some(end.map_or(asked_again, |end| end.min(asked_again))),
        };
        identity.remember = !self.longest.is_zero();
        identity.id = text("jti").map(Into::into);
        identity.client = text("client_id").map(Into::into);
        Ok(identity)
    }
}

#[async_trait]
impl Scheme for IntrospectionScheme {
    fn name(&self) -> &'static str {
        "introspection"
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
