//! Persistent sessions: cookies and storage, encrypted at rest.

use std::{fmt, sync::Arc};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Generate, Nonce, Payload},
};
use mcp_core::{
    Partition,
    secret::Secret,
    store::{Namespace, StateStore, StoreKey},
};
use playwright_rs::StorageState;
use sha2::{Digest, Sha256};

use crate::{BrowserError, BrowserErrorKind};

/// The largest state that is kept, in bytes.
const MAX_STATE: usize = 8 * 1024 * 1024;
const VERSION: u8 = 1;

/// Keeps what sessions with a profile name had: cookies, local storage and IndexedDB, each principal's apart.
///
/// # Security
///
/// States are sealed with AES-256-GCM under a key derived from the one that the operator gives (SHA-256 over a label
/// and the key, which therefore has to have the entropy itself: 32 random bytes), with the place of the state bound
/// in, so that whoever can write to the store cannot give one principal the state of another.
#[derive(Clone)]
pub struct ProfileStore {
    store: Arc<dyn StateStore>,
    namespace: Namespace,
    cipher: Arc<Aes256Gcm>,
}

impl ProfileStore {
    /// Keeps states in a namespace of a store.
    ///
    /// # Errors
    ///
    /// [`BrowserErrorKind::InvalidInput`] if the key has fewer than 32 bytes.
    pub fn new(
        store: Arc<dyn StateStore>,
        namespace: Namespace,
        key: &Secret,
    ) -> Result<Self, BrowserError> {
        if key.secret().len() < 32 {
            return Err(BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "the key of the profiles is too short: give at least 32 random bytes",
            ));
        }
        let derived = Sha256::new_with_prefix(b"mcp-browser profile key v1\0")
            .chain_update(key.secret())
            .finalize();
        Ok(Self {
            store,
            namespace,
            cipher: Arc::new(Aes256Gcm::new(&derived)),
        })
    }

    fn key(&self, owner: Partition, name: &str) -> Result<StoreKey, BrowserError> {
        check_name(name)?;
        StoreKey::new(&self.namespace, [owner.to_string().as_str(), name]).map_err(|error| {
            BrowserError::new(
                BrowserErrorKind::InvalidInput,
                "the profile's name is too long",
            )
            .with_source(error)
        })
    }

    pub(crate) async fn load(
        &self,
        owner: Partition,
        name: &str,
    ) -> Result<Option<StorageState>, BrowserError> {
        let key = self.key(owner, name)?;
        let Some(entry) = self.store.get(&key).await? else {
            return Ok(None);
        };
        let plain = self.open(&key, &entry.value).ok_or_else(|| {
            BrowserError::new(
                BrowserErrorKind::StoreAway,
                "the profile cannot be opened: it was sealed with another key, or changed",
            )
        })?;
        serde_json::from_slice(&plain).map(Some).map_err(|error| {
            BrowserError::new(BrowserErrorKind::StoreAway, "the profile cannot be read")
                .with_source(error)
        })
    }

    pub(crate) async fn save(
        &self,
        owner: Partition,
        name: &str,
        state: &StorageState,
    ) -> Result<(), BrowserError> {
        let key = self.key(owner, name)?;
        let plain = serde_json::to_vec(state).map_err(|error| {
            BrowserError::new(BrowserErrorKind::StoreAway, "the profile cannot be written")
                .with_source(error)
        })?;
        if plain.len() > MAX_STATE {
            return Err(BrowserError::new(
                BrowserErrorKind::TooLarge,
                format!(
                    "the profile has {} bytes, more than {MAX_STATE}",
                    plain.len()
                ),
            ));
        }
        self.store
            .put(&key, self.seal(&key, &plain)?.into(), None)
            .await?;
        Ok(())
    }

    /// Forgets a principal's profile and tells if there was one.
    ///
    /// # Errors
    ///
    /// [`BrowserErrorKind::StoreAway`], or `InvalidInput` for an impossible name.
    pub async fn delete(&self, owner: Partition, name: &str) -> Result<bool, BrowserError> {
        Ok(self.store.delete(&self.key(owner, name)?).await?)
    }

    fn seal(&self, key: &StoreKey, plain: &[u8]) -> Result<Vec<u8>, BrowserError> {
        let nonce = Nonce::<Aes256Gcm>::generate();
        let payload = Payload {
            msg: plain,
            aad: key.as_str().as_bytes(),
        };
        let sealed = self.cipher.encrypt(&nonce, payload).map_err(|_| {
            BrowserError::new(BrowserErrorKind::StoreAway, "the profile cannot be sealed")
        })?;
        Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, key: &StoreKey, stored: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = stored.split_first()?;
        let (nonce, sealed) = rest.split_at_checked(12)?;
        let nonce = Nonce::<Aes256Gcm>::try_from(nonce)
            .ok()
            .filter(|_| *version == VERSION)?;
        self.cipher
            .decrypt(
                &nonce,
                Payload {
                    msg: sealed,
                    aad: key.as_str().as_bytes(),
                },
            )
            .ok()
    }
}

fn check_name(name: &str) -> Result<(), BrowserError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(BrowserError::new(
        BrowserErrorKind::InvalidInput,
        "profile is not 1 to 64 letters, digits, '-', '_' and '.'",
    ))
}

impl fmt::Debug for ProfileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileStore")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::{Principal, store::MemoryStore};
    use playwright_rs::Cookie;

    use super::*;

    fn profiles(store: &Arc<MemoryStore>, key: &str) -> ProfileStore {
        let namespace = Namespace::new("profiles").unwrap();
        ProfileStore::new(
            Arc::<MemoryStore>::clone(store),
            namespace,
            &Secret::new(key),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn states_are_sealed_and_bound_to_their_place() {
        let store = Arc::new(MemoryStore::new());
        let key = "k".repeat(32);
        let (alice, bob) = (
            Principal::authenticated("i", "alice").partition(),
            Principal::local().partition(),
        );
        let profiles_a = profiles(&store, &key);
        let state = StorageState::default().cookies(vec![
            Cookie::new("sid", "s3cr3t")
                .domain("shop.example")
                .path("/")
                .expires(-1.0)
                .http_only(false)
                .secure(false)
                .same_site("Lax"),
        ]);
        profiles_a.save(alice, "shop", &state).await.unwrap();
        let back = profiles_a.load(alice, "shop").await.unwrap().unwrap();
        assert_eq!(back.cookies[0].value, "s3cr3t");
        assert!(profiles_a.load(bob, "shop").await.unwrap().is_none());
        let place = profiles_a.key(alice, "shop").unwrap();
        let sealed = store.get(&place).await.unwrap().unwrap().value;
        assert!(!sealed.windows(6).any(|part| part == b"s3cr3t"));
        // Another key, another place, a changed byte: none opens.
        assert!(
            profiles(&store, &"x".repeat(32))
                .load(alice, "shop")
                .await
                .is_err()
        );
        store
            .put(&profiles_a.key(bob, "shop").unwrap(), sealed.clone(), None)
            .await
            .unwrap();
        assert!(profiles_a.load(bob, "shop").await.is_err());
        let mut changed = sealed.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        store.put(&place, changed.into(), None).await.unwrap();
        assert!(profiles_a.load(alice, "shop").await.is_err());
        assert!(profiles_a.save(alice, "../x", &state).await.is_err());
        assert!(
            ProfileStore::new(store, Namespace::new("p").unwrap(), &Secret::new("short")).is_err()
        );
    }
}
