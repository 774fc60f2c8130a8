//! What goes through a client and comes back: sealed, so that it is of use to its owner only, and only as it was made.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use mcp_core::{Partition, secret::Secret};
use sha2::{Digest as _, Sha256};

/// Length of a tag in bytes.
const TAG: usize = 16;

/// The longest text that is opened, in bytes.
const LONGEST: usize = 16 << 10;

/// Seals texts for one principal and one use.
pub(crate) struct Sealer(Hmac<Sha256>);

impl Sealer {
    /// Makes a sealer of a key of any length. Replicas need the same one.
    pub(crate) fn new(key: &Secret) -> Self {
        Self::from_bytes(&Sha256::digest(key.secret()).into())
    }

    /// Makes a sealer of a key that this process makes up.
    pub(crate) fn random() -> Self {
        Self::from_bytes(&rand::random())
    }

    fn from_bytes(key: &[u8; 32]) -> Self {
        // HMAC pads a key with zeros to the hash's block, which is 64 bytes for SHA-256 (RFC 2104, section 2).
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        Self(Hmac::<Sha256>::new(&block.into()))
    }

    /// Returns the tag of a text, in base64url.
    pub(crate) fn tag(&self, usage: &str, owner: Partition, text: &str) -> String {
        let tag = self.mac(usage, owner, text).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(&tag[..TAG])
    }

    /// Returns whether a tag is that of the text.
    pub(crate) fn verify(&self, usage: &str, owner: Partition, text: &str, tag: &str) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(tag) else {
            return false;
        };
        tag.len() == TAG
            && self
                .mac(usage, owner, text)
                .verify_truncated_left(&tag)
                .is_ok()
    }

    /// Seals a text: opaque to a client, not secret from it.
    pub(crate) fn seal(&self, usage: &str, owner: Partition, text: &str) -> String {
        let tag = self.tag(usage, owner, text);
        format!("{tag}.{}", URL_SAFE_NO_PAD.encode(text))
    }

    /// Opens what was sealed for this owner and use.
    pub(crate) fn open(&self, usage: &str, owner: Partition, sealed: &str) -> Option<String> {
        if sealed.len() > LONGEST {
            return None;
        }
        let (tag, text) = sealed.split_once('.')?;
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        self.verify(usage, owner, &text, tag).then_some(text)
    }

    fn mac(&self, usage: &str, owner: Partition, text: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(owner.as_bytes());
        mac.update(&(usage.len() as u64).to_be_bytes());
        mac.update(usage.as_bytes());
        mac.update(text.as_bytes());
        mac
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::Principal;
    use proptest::prelude::*;

    use super::*;

    fn owner(name: &str) -> Partition {
        Principal::authenticated("i", name).partition()
    }

    #[test]
    fn only_the_owner_opens_a_seal_for_the_use_it_was_made_for() {
        let sealer = Sealer::random();
        let sealed = sealer.seal("cursor", owner("alice"), "7:3");
        assert_eq!(
            sealer.open("cursor", owner("alice"), &sealed).unwrap(),
            "7:3"
        );
        assert!(sealer.open("cursor", owner("bob"), &sealed).is_none());
        assert!(sealer.open("tasks", owner("alice"), &sealed).is_none());
        assert!(
            Sealer::random()
                .open("cursor", owner("alice"), &sealed)
                .is_none()
        );
    }

    #[test]
    fn processes_with_the_same_key_open_each_others_seals() {
        let key = || Sealer::new(&Secret::new("a key that replicas share"));
        let sealed = key().seal("cursor", owner("alice"), "x");
        assert_eq!(key().open("cursor", owner("alice"), &sealed).unwrap(), "x");
    }

    proptest! {
        #[test]
        fn no_other_text_opens(text in ".{0,40}", other in ".{0,80}") {
            let sealer = Sealer::random();
            let sealed = sealer.seal("u", owner("a"), &text);
            prop_assert_eq!(sealer.open("u", owner("a"), &sealed), Some(text));
            prop_assume!(other != sealed);
            prop_assert_eq!(sealer.open("u", owner("a"), &other), None);
        }
    }
}
