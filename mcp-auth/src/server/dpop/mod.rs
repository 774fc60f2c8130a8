//! Tokens that are bound to a key of the client, and the proofs that requests come with (RFC 9449).

mod nonce;
mod proof;
mod replay;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, request::Parts};
use mcp_core::{secret::Secret, store::StateStore};
use url::Url;

use self::{nonce::Nonces, proof::Proof, replay::Replays};
use super::{Refusal, RefusalKind};

pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");
pub(super) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The algorithms that proofs may be signed by.
pub(super) const ALGORITHMS: [&str; 5] = ["ES256", "ES384", "EdDSA", "RS256", "PS256"];

/// How far the date of a proof may be from now, unless another is set (MCP profile of DPoP, "Validity Window").
const WINDOW: Duration = Duration::from_secs(300);

/// How tokens that are bound to a key are taken (DPoP, RFC 9449).
///
/// A request with such a token has `Authorization: DPoP` and one `DPoP` header with a proof. The proof has to be signed by the
/// key that the token is bound to (`cnf.jkt`), and to be about this request: its method, the address of this server or the
/// one with the path of the request, this token (`ath`), a date that is at most 5 minutes away, and an id that no other
/// proof of the key had.
///
/// `content_digest`, which the MCP profile of DPoP adds, is checked where it is there: the body is then read as a whole
/// before anything behind the layer gets it, at most 4 MiB.
///
/// # Security
///
/// A token that is bound is never taken as a bearer's, and one that is not bound never with a proof. Ids of proofs are
/// remembered in this process; replicas remember them together with [`Dpop::with_store`]. Without that, a request that is
/// recorded can be sent once to each replica, as it is, for as long as its date is good.
#[derive(Clone)]
#[must_use]
pub struct Dpop {
    window: Duration,
    required: bool,
    digest_required: bool,
    longest_body: usize,
    nonces: Option<Nonces>,
    replays: Arc<Replays>,
}

/// What a request has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// SHA-256 of the body that the proof is about.
    pub(super) digest: Option<[u8; 32]>,
}

impl Default for Dpop {
    fn default() -> Self {
        Self::new()
    }
}

impl Dpop {
    /// Takes tokens that are bound to a key, and those of bearers too.
    pub fn new() -> Self {
        Self {
            window: WINDOW,
            required: false,
            digest_required: false,
            longest_body: 4 << 20,
            nonces: None,
            replays: Arc::new(Replays::new()),
        }
    }

    /// Refuses bearer tokens that an authorization server has issued. Other credentials, as API keys, go on counting.
    /// Default is to take them.
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Refuses proofs without `content_digest`, as the MCP profile of DPoP demands. Default is to take them, since clients
    /// that know RFC 9449 alone have none.
    pub fn with_content_digest_required(mut self) -> Self {
        self.digest_required = true;
        self
    }

    /// Sets how far the date of a proof may be from now. Default is 5 minutes; 10 seconds at least.
    pub fn with_window(mut self, window: Duration) -> Self {
        self.window = window.clamp(Duration::from_secs(10), Duration::from_secs(3600));
        self
    }

    /// Sets how long a body may be that a digest is about, in bytes. Default is 4 MiB.
    pub fn with_longest_body(mut self, bytes: usize) -> Self {
        self.longest_body = bytes;
        self
    }

    /// Demands a nonce of this server in each proof (RFC 9449, section 9), good for between half the window and the whole
    /// of it. The dates of proofs do not count then. Replicas need the same key, of at least 32 random bytes.
    pub fn with_nonces(mut self, key: Secret) -> Self {
        self.nonces = Some(Nonces::new(key));
        self
    }

    /// Remembers the ids of proofs in a store, so that a request is taken once by all replicas together. While the store is
    /// unavailable requests with proofs are refused with 503.
    pub fn with_store(mut self, store: Arc<dyn StateStore>) -> Self {
        self.replays = Arc::new(Replays::shared(store));
        self
    }

    pub(super) fn is_required(&self) -> bool {
        self.required
    }

    pub(super) fn longest_body(&self) -> usize {
        self.longest_body
    }

    /// Returns the nonce to hand out now, if proofs need one.
    pub(super) fn nonce(&self, now: SystemTime) -> Option<HeaderValue> {
        let nonces = self.nonces.as_ref()?;
        HeaderValue::try_from(nonces.now(now, self.window)).ok()
    }

    /// Checks the proof of a request for a token that is bound to `key`.
    pub(super) async fn check(
        &self,
        parts: &Parts,
        (token, key): (&str, &[u8; 32]),
        resource: &Url,
        now: SystemTime,
    ) -> Result<Shown, Refusal> {
        let mut values = parts.headers.get_all(DPOP).iter();
        let (value, None) = (values.next(), values.next()) else {
            return Err(invalid("the request has more than one DPoP header"));
        };
        let value = value.ok_or(invalid(
            "the request carries no proof for the key of its token",
        ))?;
        let proof = Proof::read(value)?;
        proof.is_signed_by(key)?;
        proof.is_about(parts, token, resource)?;
        match &self.nonces {
            Some(nonces) => {
                let nonce = proof.nonce().unwrap_or_default();
                if !nonces.takes(nonce, now, self.window) {
                    return Err(Refusal::new(
                        RefusalKind::NonceNeeded,
                        "the proof has to contain the nonce in DPoP-Nonce",
                    ));
                }
            }
            None => proof.is_of_now(now, self.window)?,
        }
        let digest = proof.digest()?;
        if digest.is_none() && self.digest_required {
            return Err(invalid("the proof has no content_digest"));
        }
        // Last, so that only requests that would be taken are remembered.
        self.replays
            .first(key, proof.id()?, now, self.window)
            .await?;
        Ok(Shown { digest })
    }
}

/// Refuses a proof.
const fn invalid(reason: &'static str) -> Refusal {
    Refusal::new(RefusalKind::InvalidProof, reason)
}

#[cfg(feature = "__fuzz")]
pub(super) fn fuzz(value: &HeaderValue) -> Result<(), Refusal> {
    let proof = Proof::read(value)?;
    proof.is_of_now(SystemTime::UNIX_EPOCH, WINDOW)?;
    proof.digest().map(drop)
}

impl fmt::Debug for Dpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpop")
            .field("window", &self.window)
            .field("required", &self.required)
            .field("digest_required", &self.digest_required)
            .field("nonces", &self.nonces.is_some())
            .finish_non_exhaustive()
    }
}
