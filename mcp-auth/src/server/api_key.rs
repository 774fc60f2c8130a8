use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use mcp_core::{
    Principal,
    clock::{SystemWallClock, WallClock},
    secret::Secret,
    store::{Namespace, StateStore, StoreError, StoreErrorKind, StoreKey},
};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{Identity, Presented, Refusal, Scheme};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many characters the public and the secret part of a key have: 47 and 256 bits.
const ID_LEN: usize = 8;
const SECRET_LEN: usize = 43;

/// The header in which a key may stand.
const HEADER: &str = "x-api-key";

/// How long a verdict about a key from a store is kept.
const KEEP: Duration = Duration::from_secs(30);

/// What is kept of an API key: never the key itself.
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ApiKeyRecord {
    /// The public part of the key, by which the record is found.
    pub id: String,
    /// Whose key it is.
    pub subject: String,
    /// The tenant, if there are tenants.
    pub tenant: Option<String>,
    /// What it grants.
    pub scopes: Vec<String>,
    /// When it ends; `None` is never.
    pub expires: Option<SystemTime>,
    hash: [u8; 32],
}

impl fmt::Debug for ApiKeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyRecord")
            .field("id", &self.id)
            .field("subject", &self.subject)
            .field("scopes", &self.scopes)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Makes API keys and their records.
///
/// A key is `prefix_id_secret`. Its hash is an HMAC-SHA-256 under a pepper: a key has the entropy of a key, so a slow
/// hash would only help those who flood the server with wrong ones.
#[derive(Clone)]
pub struct ApiKeys {
    prefix: Arc<str>,
    pepper: Secret,
}

impl ApiKeys {
    /// Uses a prefix (by which scanners of source code recognise a key) and a pepper, which must be kept as long as
    /// the records and is not stored with them.
    #[must_use]
    pub fn new(prefix: &str, pepper: Secret) -> Self {
        Self {
            prefix: prefix.into(),
            pepper,
        }
    }

    /// Makes a key for a subject. The key is shown to its owner once and kept nowhere.
    #[must_use]
    pub fn issue<'a>(
        &self,
        subject: &str,
        scopes: impl IntoIterator<Item = &'a str>,
        expires: Option<SystemTime>,
    ) -> (Secret, ApiKeyRecord) {
        let id = random(ID_LEN);
        let key = Secret::new(format!("{}_{id}_{}", self.prefix, random(SECRET_LEN)));
        let record = ApiKeyRecord {
            hash: self.hash(key.secret()),
            id,
            subject: subject.to_owned(),
            tenant: None,
            scopes: scopes.into_iter().map(str::to_owned).collect(),
            expires,
        };
        (key, record)
    }

    fn hash(&self, key: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.pepper.secret().as_bytes())
            .expect("HMAC takes keys of every length");
        mac.update(key.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Returns the public part of a text that has the shape of one of these keys.
    fn id<'a>(&self, key: &'a str) -> Option<&'a str> {
        let rest = key.strip_prefix(&*self.prefix)?.strip_prefix('_')?;
        let (id, secret) = rest.split_once('_')?;
        (id.len() == ID_LEN && secret.len() == SECRET_LEN).then_some(id)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

fn random(len: usize) -> String {
    let mut rng = rand::rng();
    let mut pick = || char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
    (0..len).map(|_| pick()).collect()
}

/// Finds the records of API keys.
#[async_trait]
pub trait ApiKeyStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the record of a key, by the key's public part.
    ///
    /// # Errors
    ///
    /// The store is unavailable. Keys are refused with 503.
    async fn find(&self, id: &str) -> Result<Option<ApiKeyRecord>, StoreError>;
}

/// API keys in memory, for those that stand in a configuration.
#[derive(Debug, Default)]
pub struct MemoryApiKeys(RwLock<HashMap<String, ApiKeyRecord>>);

impl MemoryApiKeys {
    /// Holds these records.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = ApiKeyRecord>) -> Self {
        let records = records
            .into_iter()
            .map(|record| (record.id.clone(), record));
        Self(RwLock::new(records.collect()))
    }

    /// Removes a key and tells if it was there. Verdicts about it end within 30 s.
    pub fn remove(&self, id: &str) -> bool {
        let mut all = self
            .0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.remove(id).is_some()
    }
}

#[async_trait]
impl ApiKeyStore for MemoryApiKeys {
    async fn find(&self, id: &str) -> Result<Option<ApiKeyRecord>, StoreError> {
        let all = self
            .0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(all.get(id).cloned())
    }
}

/// API keys in a [`StateStore`].
#[derive(Clone, Debug)]
pub struct StoredApiKeys {
    store: Arc<dyn StateStore>,
    namespace: Namespace,
}

impl StoredApiKeys {
    /// Keeps records in a namespace of a store.
    #[must_use]
    pub const fn new(store: Arc<dyn StateStore>, namespace: Namespace) -> Self {
        Self { store, namespace }
    }

    /// Adds a record; it is removed when the key expires.
    ///
    /// # Errors
    ///
    /// The store is unavailable, or the key has expired already.
    pub async fn add(&self, record: &ApiKeyRecord, now: SystemTime) -> Result<(), StoreError> {
        let text = serde_json::to_vec(record).map_err(|error| {
            StoreError::new(StoreErrorKind::Invalid, "the record cannot be written")
                .with_source(error)
        })?;
        let left = record
            .expires
            .map(|end| end.duration_since(now).unwrap_or_default());
        self.store
            .put(&self.key(&record.id)?, text.into(), left)
            .await?;
        Ok(())
    }

    /// Removes a key and tells if it was there. Verdicts about it end within 30 s.
    ///
    /// # Errors
    ///
    /// The store is unavailable.
    pub async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.store.delete(&self.key(id)?).await
    }

    fn key(&self, id: &str) -> Result<StoreKey, StoreError> {
        StoreKey::new(&self.namespace, [id]).map_err(|error| {
            StoreError::new(StoreErrorKind::Invalid, "the id of the key is too long")
                .with_source(error)
        })
    }
}

#[async_trait]
impl ApiKeyStore for StoredApiKeys {
    async fn find(&self, id: &str) -> Result<Option<ApiKeyRecord>, StoreError> {
        let Some(entry) = self.store.get(&self.key(id)?).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&entry.value)
            .map(Some)
            .map_err(|error| {
                StoreError::new(
                    StoreErrorKind::Corrupt,
                    "the record of an API key is malformed",
                )
                .with_source(error)
            })
    }
}

/// Judges API keys, as bearer tokens or in the header `X-API-Key`.
pub struct ApiKeyScheme {
    issuer: String,
    keys: ApiKeys,
    store: Arc<dyn ApiKeyStore>,
    wall: Arc<dyn WallClock>,
}

impl ApiKeyScheme {
    /// Accepts the keys in a store. `issuer` names who vouches for their subjects and must not be that of an
    /// authorization server unless its subjects are the same people.
    #[must_use]
    pub fn new(issuer: &str, keys: ApiKeys, store: Arc<dyn ApiKeyStore>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            keys,
            store,
            wall: Arc::new(SystemWallClock::new()),
        }
    }

    /// Uses another clock for dates.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    /// Returns the key of a request: the bearer token if it has the shape of one, else the header.
    fn key<'a>(&self, presented: &Presented<'a>) -> Option<&'a str> {
        let of_header = || presented.headers.get(HEADER)?.to_str().ok();
        presented
            .bearer
            .filter(|token| self.keys.id(token).is_some())
            .or_else(of_header)
    }
}

#[async_trait]
impl Scheme for ApiKeyScheme {
    fn name(&self) -> &'static str {
        "api-key"
    }

    fn headers(&self) -> &'static [&'static str] {
        &[HEADER]
    }

    fn takes(&self, presented: &Presented<'_>) -> bool {
        self.key(presented).is_some()
    }

    async fn verify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        const WRONG: Refusal = Refusal::invalid("the API key is not known, or has expired");
        let key = self.key(presented).unwrap_or_default();
        let id = self.keys.id(key).ok_or(WRONG)?;
        let found = self.store.find(id).await.map_err(|error| {
            tracing::warn!(%error, "API keys cannot be looked up");
            Refusal::unavailable("API keys cannot be looked up now")
        })?;
        // An unknown key costs as much as a wrong one.
        let expected = found.as_ref().map_or([0; 32], |record| record.hash);
        let same: bool = self.keys.hash(key).ct_eq(&expected).into();
        let record = found.filter(|_| same).ok_or(WRONG)?;
        let now = self.wall.now();
        if record.expires.is_some_and(|end| now >= end) {
            return Err(WRONG);
        }
        let mut principal = Principal::authenticated(&self.issuer, &record.subject)
            .with_scopes(record.scopes.iter().map(String::as_str));
        if let Some(tenant) = &record.tenant {
            principal = principal.with_tenant(tenant);
        }
        let mut identity = Identity::new(principal);
        // Looked up again before long: a key that was removed ends soon.
        let again = now + KEEP;
        identity.expires = Some(record.expires.map_or(again, |end| end.min(again)));
        identity.id = Some(record.id.into());
        Ok(identity)
    }
}

impl fmt::Debug for ApiKeyScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyScheme")
            .field("issuer", &self.issuer)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
