//! One sealed record: a data key of its own, wrapped by a key of the ring.
//!
//! `1 | end (8) | key id (8) | nonce (12) | wrapped data key (48) | nonce (12) | ciphertext and tag`
//!
//! The end is in milliseconds since 1970, and zero for a record without one. Both seals are bound to it and to where
//! the record lies, so that a record moved to another name, owner or namespace does
//! not open. The data key is used for one seal only, so that its nonce cannot come twice.

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, Generate, Key, KeyInit, Nonce, Payload},
};
use zeroize::Zeroizing;

use super::{KeyRing, VaultError, ring::KeyId};

const FORMAT: u8 = 1;
const NONCE: usize = 12;
const WRAPPED: usize = 48;
const HEAD: usize = 1 + 8 + 8 + NONCE + WRAPPED + NONCE;

/// Where a record lies, as both seals see it.
#[derive(Clone, Debug)]
pub(super) struct Place(Vec<u8>);

impl Place {
    /// Joins the parts of a place, each with its length, so that no two places are alike.
    pub(super) fn new<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut bytes = b"mcp-auth/vault/v1".to_vec();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Self(bytes)
    }

    /// The place as the seal of the data key sees it, which names the key that wraps it too.
    fn for_wrap(&self, end: u64, key: &KeyId) -> Vec<u8> {
        [&self.0, b"/wrap/".as_slice(), &end.to_be_bytes(), &key.0].concat()
    }

    fn for_text(&self, end: u64) -> Vec<u8> {
        [&self.0, b"/text/".as_slice(), &end.to_be_bytes()].concat()
    }
}

/// Seals a text that ends at a time, or at zero never.
pub(super) fn seal(
    ring: &KeyRing,
    place: &Place,
    end: u64,
    text: &[u8],
) -> Result<Vec<u8>, VaultError> {
    let data_key = Key::<Aes256Gcm>::generate();
    let nonce = Nonce::<Aes256Gcm>::generate();
    let payload = Payload {
        msg: text,
        aad: &place.for_text(end),
    };
    let sealed = Aes256Gcm::new(&data_key)
        .encrypt(&nonce, payload)
        .map_err(|_| VaultError::TooLarge)?;
    let key_bytes = Zeroizing::new(<[u8; 32]>::from(data_key));
    let mut record = wrap(ring, place, end, &key_bytes)?;
    record.extend_from_slice(&nonce);
    record.extend_from_slice(&sealed);
    Ok(record)
}

fn wrap(
    ring: &KeyRing,
    place: &Place,
    end: u64,
    data_key: &[u8; 32],
) -> Result<Vec<u8>, VaultError> {
    let key = ring.active();
    let nonce = Nonce::<Aes256Gcm>::generate();
    let aad = place.for_wrap(end, &key.id);
    let payload = Payload {
        msg: data_key,
        aad: &aad,
    };
    let wrapped = key
        .cipher()
        .encrypt(&nonce, payload)
        .map_err(|_| VaultError::TooLarge)?;
    let mut head = Vec::with_capacity(HEAD + 64);
    head.push(FORMAT);
    head.extend_from_slice(&end.to_be_bytes());
    head.extend_from_slice(&key.id.0);
    head.extend_from_slice(&nonce);
    head.extend_from_slice(&wrapped);
    Ok(head)
}

struct Parts<'a> {
    end: u64,
    key: KeyId,
    wrap_nonce: &'a [u8; NONCE],
    wrapped: &'a [u8],
    nonce: &'a [u8; NONCE],
    sealed: &'a [u8],
}

fn split(record: &[u8]) -> Result<Parts<'_>, VaultError> {
    let (format, rest) = record.split_first().ok_or(VaultError::Short)?;
    if *format != FORMAT {
        return Err(VaultError::Malformed);
    }
    let (end, rest) = rest.split_first_chunk::<8>().ok_or(VaultError::Short)?;
    let (key, rest) = rest.split_first_chunk::<8>().ok_or(VaultError::Short)?;
    let (wrap_nonce, rest) = rest.split_first_chunk().ok_or(VaultError::Short)?;
    let (wrapped, rest) = rest.split_at_checked(WRAPPED).ok_or(VaultError::Short)?;
    let (nonce, sealed) = rest.split_first_chunk().ok_or(VaultError::Short)?;
    Ok(Parts {
        end: u64::from_be_bytes(*end),
        key: KeyId(*key),
        wrap_nonce,
        wrapped,
        nonce,
        sealed,
    })
}

fn unwrap(
    ring: &KeyRing,
    place: &Place,
    parts: &Parts<'_>,
) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let key = ring.find(&parts.key).ok_or(VaultError::UnknownKey)?;
    let aad = place.for_wrap(parts.end, &parts.key);
    let payload = Payload {
        msg: parts.wrapped,
        aad: &aad,
    };
    let bytes = key
        .cipher()
        .decrypt(parts.wrap_nonce.into(), payload)
        .map(Zeroizing::new)
        .map_err(|_| VaultError::Tampered)?;
    let bytes: [u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| VaultError::Malformed)?;
    Ok(Zeroizing::new(bytes))
}

/// Opens a record.
pub(super) fn open(
    ring: &KeyRing,
    place: &Place,
    record: &[u8],
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let parts = split(record)?;
    let data_key = unwrap(ring, place, &parts)?;
    let payload = Payload {
        msg: parts.sealed,
        aad: &place.for_text(parts.end),
    };
    Aes256Gcm::new((&*data_key).into())
        .decrypt(parts.nonce.into(), payload)
        .map(Zeroizing::new)
        .map_err(|_| VaultError::Tampered)
}

/// Returns which key a record needs.
pub(super) fn key_of(record: &[u8]) -> Result<KeyId, VaultError> {
    split(record).map(|parts| parts.key)
}

/// Returns when a record ends; zero is never.
pub(super) fn end_of(record: &[u8]) -> Result<u64, VaultError> {
    split(record).map(|parts| parts.end)
}

/// Wraps the data key of a record by the active key; what is sealed with it stays as it is.
pub(super) fn rewrap(ring: &KeyRing, place: &Place, record: &[u8]) -> Result<Vec<u8>, VaultError> {
    let parts = split(record)?;
    let data_key = unwrap(ring, place, &parts)?;
    let mut renewed = wrap(ring, place, parts.end, &data_key)?;
    renewed.extend_from_slice(parts.nonce);
    renewed.extend_from_slice(parts.sealed);
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::vault::VaultKey;

    fn ring(byte: u8) -> KeyRing {
        KeyRing::new(VaultKey::from_bytes(&[byte; 32]).unwrap())
    }

    fn place(parts: &[&str]) -> Place {
        Place::new(parts.iter().map(|part| part.as_bytes()))
    }

    #[test]
    fn a_record_opens_only_where_it_was_sealed() {
        let record = seal(&ring(1), &place(&["ns", "alice", "token"]), 0, b"secret").unwrap();
        let opened = open(&ring(1), &place(&["ns", "alice", "token"]), &record).unwrap();
        assert_eq!(&opened[..], b"secret");
        for other in [
            place(&["ns", "bob", "token"]),
            place(&["other", "alice", "token"]),
            place(&["ns", "alice", "token2"]),
            place(&["ns", "alicetoken"]),
            place(&["n", "salice", "token"]),
        ] {
            let error = open(&ring(1), &other, &record).unwrap_err();
            assert!(matches!(error, VaultError::Tampered), "{other:?}");
        }
        let error = open(&ring(2), &place(&["ns", "alice", "token"]), &record).unwrap_err();
        assert!(matches!(error, VaultError::UnknownKey));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let own = place(&["a"]);
        let record = seal(&ring(1), &own, 7, b"secret").unwrap();
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert!(open(&ring(1), &own, &changed).is_err(), "byte {at}");
            assert!(open(&ring(1), &own, &record[..at]).is_err(), "cut at {at}");
        }
        let mut longer = record;
        longer.push(0);
        assert!(open(&ring(1), &own, &longer).is_err());
    }

    #[test]
    fn no_nonce_and_no_data_key_comes_twice() {
        let own = place(&["a"]);
        let mut seen = HashSet::new();
        for _ in 0..2_000 {
            let record = seal(&ring(1), &own, 7, b"the same text").unwrap();
            let parts = split(&record).unwrap();
            assert!(seen.insert(parts.wrap_nonce.to_vec()));
            assert!(seen.insert(parts.nonce.to_vec()));
            assert!(seen.insert(parts.sealed.to_vec()));
        }
    }

    #[test]
    fn parts_of_two_records_do_not_fit_together() {
        let own = place(&["a"]);
        let one = seal(&ring(1), &own, 7, b"one").unwrap();
        let two = seal(&ring(1), &own, 7, b"two").unwrap();
        let cut = 1 + 8 + 8 + NONCE + WRAPPED;
        let mixed = [&one[..cut], &two[cut..]].concat();
        assert!(matches!(
            open(&ring(1), &own, &mixed),
            Err(VaultError::Tampered)
        ));
    }

    proptest! {
        #[test]
        fn nothing_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(&ring(1), &place(&["a"]), &bytes).is_err());
        }
    }
}
