//! Secrets, sealed before they reach a store.
//!
//! Each record is sealed with AES-256-GCM under a data key of its own, which a key of the [`KeyRing`] wraps. Both
//! seals are bound to the namespace, the owner and the name: a record that is moved, swapped or cut does not open.
//! Whoever holds a [`SecretScope`] reaches no other scope by any choice of a name.
//!
//! The vault works over every [`StateStore`]: a file ([`Vault::open_file`] checks its permissions), Redis, PostgreSQL.
//! Records with a time to live are removed by the store.
//!
//! # Losing the key
//!
//! A vault that was written with another key refuses to open, and a record whose key is not in the ring is never
//! overwritten: [`VaultError::WrongKey`], [`VaultError::UnknownKey`].
//!
//! # Security
//!
//! A record that is moved, swapped, changed or cut does not open. An older record of the same place that is put back there
//! (a rollback, for instance by restoring a copy of the store) opens: nothing in it tells that it is old.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//! use mcp_auth::vault::{ValueKey, Vault};
//! use mcp_core::{Partition, Principal, secret::{Secret, SecretName, SecretScope, SecretStore}};
//! use mcp_core::store::{MemoryStore, Namespace};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = ValueKey::new(Secret::new("at least 32 random bytes, please"));
//! let vault = Vault::open(Arc::new(MemoryStore::default()), &key).await?;
//! let scope = SecretScope::new(Namespace::new("plugin")?, Partition::of(&Principal::local()));
//! let name = SecretName::new("token")?;
//! vault.put(&scope, &name, Secret::new("hunter2")).await?;
//! assert_eq!(vault.get(&scope, &name).await?, Some(Secret::new("hunter2")));
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "age")]
pub mod file;
mod key;
#[cfg(feature = "__managers")]
mod managers;
mod record;
mod ring;
mod rotate;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use mcp_core::{
    clock::{SystemWallClock, WallClock},
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{
        Change, Expected, Namespace, StateStore, StoreError, StoreErrorKind, StoreKey, StorePrefix,
        Swap, Version,
    },
};

#[cfg(feature = "keyring")]
pub use self::key::KeyringKey;
#[cfg(feature = "aws")]
pub use self::managers::{AwsCredentials, AwsSecrets};
#[cfg(feature = "azure")]
pub use self::managers::{AzureCredentials, AzureSecrets};
#[cfg(feature = "google")]
pub use self::managers::{GoogleCredentials, GoogleSecrets};
#[cfg(feature = "hashicorp")]
pub use self::managers::{HashicorpLogin, HashicorpSecrets};
#[cfg(feature = "__managers")]
pub use self::managers::{SecretManagerError, SecretManagerErrorKind};
use self::record::Place;
pub use self::{
    key::{CommandKey, FileKey, KeyError, KeyProvider, StoredKey, ValueKey},
    ring::{KeyRing, VaultKey},
    rotate::Rotation,
};

/// How many records a scan reads at once.
const PAGE: usize = 128;

/// What the record says that shows whether the right key is there.
const CHECK: &[u8] = b"this vault opens";

/// Why a vault, or a record in it, does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The vault was written with a key that is not in the ring.
    #[error("the vault was written with another key; give that key, or an empty store")]
    WrongKey,
    /// The record was written with a key that is not in the ring.
    #[error("the record was written with a key that is not in the ring")]
    UnknownKey,
    /// The record is not one of this vault.
    #[error("the record is malformed")]
    Malformed,
    /// The record ends before its seal does, so that it opens for no key.
    #[error("the record is cut short")]
    Short,
    /// The record was changed, or lies where it was not put.
    #[error("the record was changed, or moved from where it was put")]
    Tampered,
    /// The secret is too large to be sealed.
    #[error("the secret is too large")]
    TooLarge,
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VaultError {
    /// Returns whether an error of the vault says that a record is damaged: that no key of any ring would open it.
    #[cfg(feature = "oauth")]
    pub(crate) fn is_damage(error: &StoreError) -> bool {
        let source = std::error::Error::source(error);
        let own = source.and_then(|source| source.downcast_ref::<Self>());
        matches!(own, Some(Self::Short | Self::Tampered))
    }
}

impl From<VaultError> for StoreError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error,
            VaultError::TooLarge => Self::new(StoreErrorKind::Invalid, "the secret is too large"),
            other => Self::new(
                StoreErrorKind::Corrupt,
                "a record of the vault does not open",
            )
            .with_source(other),
        }
    }
}

/// Secrets, sealed in a store. Clones share everything.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn StateStore>,
    ring: Arc<KeyRing>,
    namespace: Namespace,
    wall: Arc<dyn WallClock>,
}

/// What became of [`Vault::swap`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Swapped {
    /// The secret was written; this is its version.
    Written(Version),
    /// The secret was removed.
    Deleted,
    /// Another writer was quicker.
    Conflict,
}

impl Vault {
    /// Opens the vault in a store, or begins one.
    ///
    /// # Errors
    ///
    /// There is no key, the store is unavailable, or the vault was written with another key.
    pub async fn open(
        store: Arc<dyn StateStore>,
        key: &dyn KeyProvider,
    ) -> Result<Self, VaultError> {
        Self::open_with_ring(store, KeyRing::new(key.key().await?)).await
    }

    /// Opens the vault in a store with several keys.
    ///
    /// # Errors
    ///
    /// As [`Vault::open`].
    pub async fn open_with_ring(
        store: Arc<dyn StateStore>,
        ring: KeyRing,
    ) -> Result<Self, VaultError> {
        let vault = Self {
            store,
            ring: Arc::new(ring),
            namespace: Namespace::new("vault").map_err(|_| VaultError::Malformed)?,
            wall: Arc::new(SystemWallClock::new()),
        };
        vault.check_key().await?;
        Ok(vault)
    }

    /// Opens the vault in a file of its own, which only its owner may read, or begins one.
    ///
    /// # Errors
    ///
    /// As [`Vault::open`], and others may read the file.
    #[cfg(feature = "redb")]
    pub async fn open_file(
        path: impl Into<std::path::PathBuf>,
        key: &dyn KeyProvider,
    ) -> Result<Self, VaultError> {
        let path = path.into();
        let own = path.clone();
        let prepared = tokio::task::spawn_blocking(move || prepare(&own)).await;
        prepared
            .map_err(|error| KeyError::Unreadable(path.display().to_string(), error.into()))??;
        let store = mcp_core::store::RedbStore::open(&path).await?;
        Self::open(Arc::new(store), key).await
    }

    /// Uses another clock for the ends of records.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    /// Returns the store, for what needs no sealing.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Makes sure that the ring opens what is there, before anything is written.
    async fn check_key(&self) -> Result<(), VaultError> {
        let place = Place::new([b"check".as_slice()]);
        let key = StoreKey::new(
            &Namespace::new("vault-check").map_err(|_| VaultError::Malformed)?,
            ["1"],
        )
        .map_err(|_| VaultError::Malformed)?;
        loop {
            if let Some(found) = self.store.get(&key).await? {
                return match record::open(&self.ring, &place, &found.value) {
                    Ok(text) if *text == CHECK => Ok(()),
                    _ => Err(VaultError::WrongKey),
                };
            }
            let prefix =
                StorePrefix::new::<&str>(&self.namespace, []).map_err(|_| VaultError::Malformed)?;
            if !self.store.scan(&prefix, None, 1).await?.entries.is_empty() {
                // Records without the one that shows their key: someone removed it.
                return Err(VaultError::WrongKey);
            }
            let value = record::seal(&self.ring, &place, 0, CHECK)?.into();
            let change = Change::Put { value, ttl: None };
            match self
                .store
                .compare_and_swap(&key, Expected::Absent, change)
                .await?
            {
                Swap::Conflict(_) => {}
                _ => return Ok(()),
            }
        }
    }

    fn place(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<(StoreKey, Place), StoreError> {
        let space = scope.namespace().as_str();
        let owner = scope.owner().to_string();
        let key = StoreKey::new(&self.namespace, [space, &owner, name.as_str()]);
        let key = key.map_err(|error| {
            StoreError::new(StoreErrorKind::Invalid, "the secret's name is too long")
                .with_source(error)
        })?;
        let place = Place::new([space.as_bytes(), owner.as_bytes(), name.as_str().as_bytes()]);
        Ok((key, place))
    }

    /// Reads a secret and its version.
    ///
    /// # Errors
    ///
    /// The store is unavailable, or the record does not open.
    pub async fn read(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<(Secret, Version)>, StoreError> {
        let (key, place) = self.place(scope, name)?;
        let Some(entry) = self.store.get(&key).await? else {
            return Ok(None);
        };
        let text = record::open(&self.ring, &place, &entry.value)?;
        if self
            .left(record::end_of(&entry.value)?)
            .is_some_and(|left| left.is_zero())
        {
            // A store whose clock runs behind, or that was restored from a copy.
            return Ok(None);
        }
        let text = std::str::from_utf8(&text).map_err(|_| VaultError::Malformed)?;
        Ok(Some((Secret::new(text), entry.version)))
    }

    /// Writes a secret that ends after a time.
    ///
    /// # Errors
    ///
    /// The store is unavailable, or the record that is there was written with a key that is not in the ring.
    pub async fn write(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: &Secret,
        ttl: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let (key, place) = self.place(scope, name)?;
        loop {
            let found = self.store.get(&key).await?;
            if let Some(entry) = &found {
                self.may_replace(&entry.value)?;
            }
            let text = secret.secret().as_bytes();
            let value = record::seal(&self.ring, &place, self.end(ttl), text)?.into();
            let change = Change::Put { value, ttl };
            let expected = Expected::from(found.as_ref());
            match self.store.compare_and_swap(&key, expected, change).await? {
                Swap::Written(version) => return Ok(version),
                // Another writer wrote at the same time: the later one wins, as it should.
                Swap::Conflict(_) | Swap::Deleted => {}
                _ => return Err(VaultError::Malformed.into()),
            }
        }
    }

    /// Writes (a secret) or removes (`None`) a secret if it is still what the caller has read.
    ///
    /// # Errors
    ///
    /// As [`Vault::write`].
    pub async fn swap(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        expected: Expected,
        secret: Option<&Secret>,
    ) -> Result<Swapped, StoreError> {
        let (key, place) = self.place(scope, name)?;
        let change = match secret {
            Some(secret) => {
                let value = record::seal(&self.ring, &place, 0, secret.secret().as_bytes())?.into();
                Change::Put { value, ttl: None }
            }
            None => Change::Delete,
        };
        match self.store.compare_and_swap(&key, expected, change).await? {
            Swap::Written(version) => Ok(Swapped::Written(version)),
            Swap::Deleted => Ok(Swapped::Deleted),
            _ => Ok(Swapped::Conflict),
        }
    }

    fn now(&self) -> u64 {
        let since = self.wall.now().duration_since(SystemTime::UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    }

    /// When a record ends that lives for a time; zero is never.
    fn end(&self, ttl: Option<Duration>) -> u64 {
        ttl.map_or(0, |ttl| {
            let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            self.now().saturating_add(millis).max(1)
        })
    }

    /// How long a record has left that ends at a time; `None` is never.
    fn left(&self, end: u64) -> Option<Duration> {
        (end != 0).then(|| Duration::from_millis(end.saturating_sub(self.now())))
    }

    fn may_replace(&self, record: &[u8]) -> Result<(), VaultError> {
        match record::key_of(record) {
            Ok(key) => self.ring.find(&key).map(drop).ok_or(VaultError::UnknownKey),
            // No key opens it: nothing is lost.
            Err(VaultError::Short) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Creates a file for its owner alone, or makes sure that it is one.
#[cfg(feature = "redb")]
fn prepare(path: &std::path::Path) -> Result<(), KeyError> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options
        .open(path)
        .map_err(|error| KeyError::Unreadable(path.display().to_string(), error.into()))?;
    key::check_private(path, &file)
}

/// The owner of secrets, as stores that people look into name it.
#[cfg(any(feature = "age", feature = "__managers"))]
fn owner_name(owner: &mcp_core::Partition) -> String {
    let shared = mcp_core::Partition::shared(mcp_core::Shared::by_operator());
    match *owner == shared {
        true => "shared".to_owned(),
        false => owner.to_string(),
    }
}

#[async_trait]
impl SecretStore for Vault {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        let found = self.read(scope, name).await?;
        Ok(found.map(|(secret, _)| secret))
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        self.write(scope, name, &secret, None).await.map(drop)
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        let (key, _) = self.place(scope, name)?;
        self.store.delete(&key).await
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        let space = scope.namespace().as_str();
        let owner = scope.owner().to_string();
        let prefix = StorePrefix::new(&self.namespace, [space, &owner])
            .map_err(|_| StoreError::from(VaultError::Malformed))?;
        let mut names = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.store.scan(&prefix, cursor, PAGE).await?;
            for (key, _) in page.entries {
                let last = key.parts().pop().unwrap_or_default();
                if let Ok(name) = SecretName::new(&last) {
                    names.push(name);
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl fmt::Debug for Vault {
    /// Says nothing about the store, which may print its entries: owners and names are in their keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "__fuzz")]
pub(crate) mod fuzz {
    use super::{KeyRing, VaultKey, record};

    /// Opens bytes that no one has sealed.
    pub(crate) fn record(data: &[u8]) {
        let key = VaultKey::from_bytes(&[1; 32]).expect("32 bytes are enough");
        let place = record::Place::new([b"fuzz".as_slice()]);
        let opened = record::open(&KeyRing::new(key), &place, data);
        assert!(opened.is_err(), "what was not sealed does not open");
    }
}
