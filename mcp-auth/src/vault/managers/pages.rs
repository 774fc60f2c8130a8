//! Lists that come in pages, with an end that no server can put off.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::SecretManagerError;

/// How many pages a list may have.
const MAX_PAGES: usize = 4_000;

/// The tokens of the pages that were read.
#[derive(Debug)]
pub(super) struct Pages {
    service: &'static str,
    seen: HashSet<[u8; 32]>,
}

impl Pages {
    pub(super) fn new(service: &'static str) -> Self {
        Self {
            service,
            seen: HashSet::new(),
        }
    }

    /// Makes sure that the next page is another one, and not one too many.
    pub(super) fn next(&mut self, token: &str) -> Result<(), SecretManagerError> {
        let is_new = self.seen.insert(Sha256::digest(token.as_bytes()).into());
        match is_new && self.seen.len() < MAX_PAGES {
            true => Ok(()),
            false => Err(SecretManagerError::malformed(self.service)
                .with_code(Some("the list does not end"))),
        }
    }
}
