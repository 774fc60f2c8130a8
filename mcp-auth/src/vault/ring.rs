use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit};
use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::KeyError;

/// Which key wrapped a record. It is made from the key, so that a key is known again wherever it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyId(pub(super) [u8; 8]);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&HEXLOWER.encode_display(&self.0), f)
    }
}

/// A key that wraps the data keys of records. Wiped from memory when dropped; `Debug` shows its id.
#[derive(Clone)]
pub struct VaultKey {
    pub(super) id: KeyId,
    key: Zeroizing<[u8; 32]>,
}

impl VaultKey {
    /// Derives the key from at least 32 random bytes.
    ///
    /// # Errors
    ///
    /// There are fewer than 32 bytes. A passphrase is not a key: stretch it first, for instance with Argon2.
    ///
    /// # Panics
    ///
    /// Never: the lengths asked of HKDF are fixed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() < 32 {
            return Err(KeyError::TooShort(bytes.len()));
        }
        let derive = Hkdf::<Sha256>::new(None, bytes);
        let mut key = Zeroizing::new([0; 32]);
        let mut id = [0; 8];
        let expanded = derive
            .expand(b"mcp-auth/vault/kek/v1", &mut key[..])
            .and_then(|()| derive.expand(b"mcp-auth/vault/kid/v1", &mut id));
        expanded.expect("HKDF has room for 40 bytes");
        Ok(Self { id: KeyId(id), key })
    }

    pub(super) fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.key).into())
    }
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultKey({:?})", self.id)
    }
}

/// The key that new records are wrapped with, and older ones that still open records.
#[derive(Clone, Debug)]
pub struct KeyRing {
    active: VaultKey,
    old: Vec<VaultKey>,
}

impl KeyRing {
    /// Begins a ring with its active key.
    #[must_use]
    pub const fn new(active: VaultKey) -> Self {
        Self {
            active,
            old: Vec::new(),
        }
    }

    /// Adds a key that only opens. Keep it until [`Vault::rotate`](super::Vault::rotate) has gone through.
    #[must_use]
    pub fn with_old(mut self, key: VaultKey) -> Self {
        self.old.push(key);
        self
    }

    pub(super) const fn active(&self) -> &VaultKey {
        &self.active
    }

    pub(super) fn find(&self, id: &KeyId) -> Option<&VaultKey> {
        std::iter::once(&self.active)
            .chain(&self.old)
            .find(|key| key.id == *id)
    }
}
