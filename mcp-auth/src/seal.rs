//! Texts that go through other hands and come back unchanged.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use mcp_core::secret::Secret;
use sha2::{Digest as _, Sha256};

/// Signs texts for one purpose each.
#[derive(Clone)]
pub(crate) struct Sealer([u8; 32]);

impl Sealer {
    /// Takes a key of any length.
    pub(crate) fn new(key: &Secret) -> Self {
        Self(Sha256::digest(key.secret()).into())
    }

    fn mac(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    pub(crate) fn sign(&self, purpose: &str, parts: &[&[u8]]) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(purpose, parts).finalize().into_bytes())
    }

    /// Checks in constant time.
    pub(crate) fn fits(&self, purpose: &str, parts: &[&[u8]], signature: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(signature)
            .is_ok_and(|bytes| self.mac(purpose, parts).verify_slice(&bytes).is_ok())
    }
}
