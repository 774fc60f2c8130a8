//! What the fuzz targets run. Each panics where a promise is broken.

use http::HeaderValue;

use crate::{Challenge, server::fuzz as server, vault::fuzz as vault};

/// Reads challenges: what was read is read again as it is written.
///
/// # Panics
///
/// A promise is broken.
pub fn challenges(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    for challenge in Challenge::parse_all([&value]) {
        let again = Challenge::parse_all([&challenge.to_header()]);
        if challenge.scopes().count() > 0 {
            assert!(
                !again.is_empty(),
                "a challenge with scopes is written as one"
            );
        }
        let _ = challenge.resource_metadata();
    }
}

/// Reads an `Authorization` header and the claims of a token in it, and the same bytes as a proof of possession.
pub fn token(data: &[u8]) {
    server::bearer(data);
    server::proof(data);
}

/// Opens a record of a vault: nothing that was not sealed there opens.
///
/// # Panics
///
/// A promise is broken.
pub fn record(data: &[u8]) {
    vault::record(data);
}

/// Opens a SOPS file, in JSON and in YAML, whose key is known: nothing that was not sealed with it opens.
///
/// # Panics
///
/// A promise is broken.
pub fn secret_file(data: &[u8]) {
    crate::vault::file::fuzz(data);
}
