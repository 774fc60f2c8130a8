//! Signing keys of an issuer, kept fresh.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use mcp_core::{
    clock::{Clock, SystemClock},
    http_client::HttpClient,
};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::{alive::Alive, discovery, net};

/// How many keys of one issuer are kept.
const MAX_KEYS: usize = 100;

/// The smallest RSA modulus that is accepted, in bytes (RFC 7518, section 3.3).
const MIN_RSA: usize = 256;

/// A key that signatures of one issuer are checked with.
pub(crate) struct Key {
    pub(crate) decoding: DecodingKey,
    pub(crate) alive: Alive,
    algorithms: Vec<Algorithm>,
    /// The key as it was published, by which it is known again.
    source: Value,
}

impl Key {
    /// Returns whether the key may check signatures of an algorithm.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Reads a published key. Only public signature keys are keys; a shared secret in public is not one.
    pub(crate) fn read(source: &Value) -> Option<(Option<String>, Self)> {
        let jwk: Jwk = serde_json::from_value(source.clone()).ok()?;
        let signs = matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        let family: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => &[],
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            AlgorithmParameters::RSA(key) if modulus_len(&key.n) >= MIN_RSA => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            _ => &[],
        };
        let named = jwk.common.key_algorithm.map(signature_algorithm);
        let algorithms: Vec<_> = family
            .iter()
            .copied()
            .filter(|own| named.is_none_or(|named| named == Some(*own)))
            .collect();
        if !signs || algorithms.is_empty() {
            return None;
        }
        let key = Self {
            decoding: DecodingKey::from_jwk(&jwk).ok()?,
            alive: Alive::new(),
            algorithms,
            source: source.clone(),
        };
        Some((jwk.common.key_id, key))
    }
}

fn modulus_len(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

fn signature_algorithm(algorithm: KeyAlgorithm) -> Option<Algorithm> {
    algorithm.to_string().parse().ok()
}

#[derive(Default)]
struct KeySet {
    /// Keys of one id differ in their type (RFC 7517, section 4.5).
    by_id: HashMap<String, Vec<Arc<Key>>>,
    without_id: Vec<Arc<Key>>,
    fetched: Option<Instant>,
    fresh_for: Duration,
}

impl KeySet {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let fits = |key: &&Arc<Key>| key.allows(algorithm);
        match id {
            Some(id) => {
                let all = self.by_id.get(id).map(Vec::as_slice).unwrap_or_default();
                all.iter().rfind(fits).cloned()
            }
            // Without an id a key is only chosen if there is no choice.
            None => {
                let mut all = self.all().filter(fits);
                let first = all.next()?;
                all.next().is_none().then(|| Arc::clone(first))
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.by_id.values().flatten().chain(&self.without_id)
    }

    /// Reads a document (RFC 7517, section 5), taking over the keys that were there before.
    fn read(document: &serde_json::Map<String, Value>, before: &Self) -> Option<Self> {
        let mut set = Self::default();
        for source in document.get("keys")?.as_array()?.iter().take(MAX_KEYS) {
            let known = before.all().find(|key| key.source == *source);
            let id = source.get("kid").and_then(Value::as_str).map(str::to_owned);
            let (id, key) = match known {
                Some(known) => (id, Arc::clone(known)),
                None => match Key::read(source) {
                    Some((id, key)) => (id, Arc::new(key)),
                    None => continue,
                },
            };
            match id {
                Some(id) => set.by_id.entry(id).or_default().push(key),
                None => set.without_id.push(key),
            }
        }
        for old in before.all() {
            if !set.all().any(|new| Arc::ptr_eq(new, old)) {
                old.alive.end();
            }
        }
        Some(set)
    }
}

/// Where the keys are.
#[derive(Clone, Debug)]
enum Source {
    /// To be found out from the issuer's metadata.
    Issuer(String),
    /// Named by the operator.
    Address(Url),
}

/// How often keys are fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The shortest time between two fetches that unknown keys cause.
    pub(crate) cool_down: Duration,
    /// The same while there are no keys at all, so that a start is not held up.
    pub(crate) first: Duration,
    /// How long keys are used while the issuer is unavailable.
    pub(crate) stale: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            cool_down: Duration::from_secs(30),
            first: Duration::from_secs(5),
            stale: Duration::from_secs(24 * 3600),
        }
    }
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The issuer has none of this id and algorithm.
    Unknown,
    /// The issuer cannot be asked.
    Unavailable,
}

/// The keys of one issuer.
pub(crate) struct KeySource {
    source: Source,
    client: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    pace: Pace,
    set: ArcSwap<KeySet>,
    /// Held while keys are fetched; when that was last tried.
    tried: Mutex<Option<Instant>>,
    refreshing: AtomicBool,
}

impl KeySource {
    pub(crate) fn of_issuer(issuer: &str, client: Arc<dyn HttpClient>) -> Self {
        Self::new(Source::Issuer(issuer.to_owned()), client)
    }

    pub(crate) fn at(url: Url, client: Arc<dyn HttpClient>) -> Self {
        Self::new(Source::Address(url), client)
    }

    fn new(source: Source, client: Arc<dyn HttpClient>) -> Self {
        Self {
            source,
            client,
            clock: Arc::new(SystemClock::new()),
            pace: Pace::default(),
            set: ArcSwap::default(),
            tried: Mutex::new(None),
            refreshing: AtomicBool::new(false),
        }
    }

    pub(crate) fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Finds a key, asking the issuer where it is not known, within the pace.
    pub(crate) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<Key>, NoKey> {
        let now = self.clock.now();
        let set = self.set.load_full();
        let age = set.fetched.map(|fetched| now - fetched);
        let usable = age.is_some_and(|age| age <= set.fresh_for.max(self.pace.stale));
        if let Some(key) = set.find(id, algorithm)
            && usable
        {
            if age.is_some_and(|age| age > set.fresh_for) {
                self.refresh_aside();
            }
            return Ok(key);
        }
        self.fetch_again(set.fetched).await;
        let set = self.set.load();
        match (set.find(id, algorithm), set.fetched) {
            (Some(key), Some(fetched))
                if self.clock.now() - fetched <= set.fresh_for.max(self.pace.stale) =>
            {
                Ok(key)
            }
            (None, Some(_)) => Err(NoKey::Unknown),
            _ => Err(NoKey::Unavailable),
        }
    }

    /// Fetches unless someone has done so since the caller looked, or it is too early.
    async fn fetch_again(&self, seen: Option<Instant>) {
        let mut tried = self.tried.lock().await;
        let fetched = self.set.load().fetched;
        if fetched != seen {
            return;
        }
        let now = self.clock.now();
        let wait = match fetched {
            Some(_) => self.pace.cool_down,
            None => self.pace.first,
        };
        if tried.is_some_and(|last| now - last < wait) {
            return;
        }
        *tried = Some(now);
        self.fetch().await;
    }

    /// Fetches while the keys at hand continue being used.
    fn refresh_aside(self: &Arc<Self>) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let seen = own.set.load().fetched;
            own.fetch_again(seen).await;
            own.refreshing.store(false, Ordering::Release);
        });
    }

    async fn fetch(&self) {
        let fetched = async {
            let url = match &self.source {
                Source::Address(url) => url.clone(),
                Source::Issuer(issuer) => {
                    let metadata = discovery::discover(&self.client, issuer)
                        .await
                        .map_err(|error| error.to_string())?;
                    metadata
                        .jwks_uri
                        .ok_or("the issuer's metadata has no jwks_uri")?
                }
            };
            let answer = net::get(&self.client, &url)
                .await
                .map_err(|error| error.to_string())?;
            let document = answer.object().map_err(|error| error.to_string())?;
            let mut set = KeySet::read(&document, &self.set.load())
                .ok_or("the document has no list `keys`")?;
            set.fetched = Some(self.clock.now());
            set.fresh_for = freshness(&answer.headers);
            self.set.store(Arc::new(set));
            Ok::<(), String>(())
        };
        if let Err(error) = fetched.await {
            tracing::warn!(source = ?self.source, %error, "signing keys were not fetched");
        }
    }
}

/// How long a document stays fresh: 80 % of `max-age`, from 5 minutes to 24 hours.
fn freshness(headers: &http::HeaderMap) -> Duration {
    let max_age = net::max_age(headers).map_or(300, |age| age.as_secs());
    Duration::from_secs((max_age / 5).saturating_mul(4).clamp(300, 24 * 3600))
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
