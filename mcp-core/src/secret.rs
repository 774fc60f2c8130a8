//! Secret values, and where they are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Deserializer};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    Partition,
    store::{Namespace, StoreError},
};

const MAX_NAME_LEN: usize = 256;

/// A text that must not be seen: a token, a password, a key.
///
/// Wiped from memory when the last clone is dropped. `Debug` prints `[redacted]`; there is no `Display` and no
/// `Serialize`. Comparing takes as long for a near miss as for a far one; only the length shows.
///
/// # Examples
///
/// ```
/// use mcp_core::secret::Secret;
///
/// let token = Secret::new("hunter2");
/// assert_eq!(format!("{token:?}"), "[redacted]");
/// assert_eq!(token.secret(), "hunter2");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes a text. A `String` is moved, not copied.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself. Do not log it, and do not keep copies.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// The name of a secret: 1 to 256 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(Arc<str>);

impl SecretName {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// [`SecretNameError`] if it is empty, too long or has a control character.
    pub fn new(name: &str) -> Result<Self, SecretNameError> {
        if name.is_empty() || name.len() > MAX_NAME_LEN || name.chars().any(char::is_control) {
            return Err(SecretNameError(name.chars().take(MAX_NAME_LEN).collect()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot name a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret name {0:?} is not 1 to 256 bytes without control characters")]
pub struct SecretNameError(String);

/// The compartment a secret lies in: one program part's (`namespace`), one owner's.
///
/// Whoever asks for one compartment cannot reach another by any choice of [`SecretName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretScope {
    namespace: Namespace,
    owner: Partition,
}

impl SecretScope {
    /// Joins the part of the program and the owner.
    #[must_use]
    pub const fn new(namespace: Namespace, owner: Partition) -> Self {
        Self { namespace, owner }
    }

    /// Which part of the program the secrets belong to.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Whose secrets they are.
    #[must_use]
    pub const fn owner(&self) -> &Partition {
        &self.owner
    }
}

/// Keeps secrets apart by [`SecretScope`].
///
/// # Cancel safety
///
/// A dropped read has no effect. A dropped write may or may not have happened.
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync + 'static {
    /// Reads one secret.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable, or what it holds cannot be opened.
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError>;

    /// Writes one secret, whatever was there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable or full.
    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError>;

    /// Removes one secret and tells if there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable.
    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError>;

    /// The names of a scope's secrets, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is unavailable.
    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError>;
}

/// Keeps secrets in memory, without a bound; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemorySecretStore(Arc<Mutex<BTreeMap<(SecretScope, SecretName), Secret>>>);

impl MemorySecretStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut BTreeMap<(SecretScope, SecretName), Secret>) -> T,
    ) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl SecretStore for MemorySecretStore {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        Ok(self.with(|all| all.get(&(scope.clone(), name.clone())).cloned()))
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        self.with(|all| all.insert((scope.clone(), name.clone()), secret));
        Ok(())
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        Ok(self.with(|all| all.remove(&(scope.clone(), name.clone())).is_some()))
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        Ok(self.with(|all| {
            all.keys()
                .filter(|(found, _)| found == scope)
                .map(|(_, name)| name.clone())
                .collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, SecretName};

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret:?} {:?}", Some(&secret)),
            "[redacted] Some([redacted])"
        );
        assert_eq!(secret, Secret::from("hunter2".to_owned()));
        assert_ne!(secret, Secret::new("hunter3"));
        assert_ne!(secret, Secret::new("hunter"));
        let read: Secret = serde_json::from_str("\"x\"").unwrap();
        assert_eq!(read.secret(), "x");
    }

    #[test]
    fn names_are_checked() {
        assert!(SecretName::new("GitHub token/é").is_ok());
        for bad in ["", "a\0", "a\n", &"x".repeat(257)] {
            assert!(SecretName::new(bad).is_err());
        }
    }
}
