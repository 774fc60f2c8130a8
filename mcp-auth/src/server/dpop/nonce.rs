use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mcp_core::secret::Secret;
use sha2::Sha256;

/// Nonces that say when they were handed out, so that none has to be remembered.
#[derive(Clone)]
pub(super) struct Nonces {
    key: Secret,
}

impl Nonces {
    pub(super) const fn new(key: Secret) -> Self {
        Self { key }
    }

    /// Returns the nonce of a time: the same for half a window.
    pub(super) fn now(&self, now: SystemTime, window: Duration) -> String {
        self.of(slot(now, window))
    }

    /// Returns whether a nonce is that of this half of a window, or of the one before.
    pub(super) fn takes(&self, nonce: &str, now: SystemTime, window: Duration) -> bool {
        let slot = slot(now, window);
        [slot, slot.saturating_sub(1)].into_iter().any(|slot| {
            let own = self.of(slot);
            subtle::ConstantTimeEq::ct_eq(own.as_bytes(), nonce.as_bytes()).into()
        })
    }

    fn of(&self, slot: u64) -> String {
        // A key of any length will do.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.secret().as_bytes()) else {
            return String::new();
        };
        mac.update(b"dpop nonce");
        mac.update(&slot.to_be_bytes());
        URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..18])
    }
}

fn slot(now: SystemTime, window: Duration) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let half = (window / 2).as_secs().max(1);
    since.unwrap_or_default().as_secs() / half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_one_half_of_the_window_and_the_next() {
        let nonces = Nonces::new(Secret::new("k"));
        let window = Duration::from_secs(300);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let nonce = nonces.now(at(1500), window);
        for (time, takes) in [
            (1500, true),
            (1649, true),
            (1799, true),
            (1800, false),
            (1499, false),
        ] {
            assert_eq!(nonces.takes(&nonce, at(time), window), takes, "{time}");
        }
        assert!(!nonces.takes("", at(1500), window));
        assert!(!Nonces::new(Secret::new("l")).takes(&nonce, at(1500), window));
    }
}
