//! Proof of possession by a client (RFC 9449): a key that tokens are bound to, and a proof for each request.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, ThumbprintHash},
};
use mcp_core::{
    CredentialProof, Error, ErrorKind, ProvenRequest, clock::WallClock, secret::Secret,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{OAuthError, client::random};
use crate::challenge::Challenge;

pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
pub(crate) const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The one algorithm that keys are made for. Every server that knows DPoP is expected to take it.
pub(super) const ALGORITHM: &str = "ES256";

/// How many servers' nonces one key remembers, and how long one may be, in bytes.
const MAX_NONCES: usize = 16;
const MAX_NONCE: usize = 1024;

/// When tokens are bound to a key (RFC 9449). See [`Relation::with_dpop`](super::Relation::with_dpop).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DpopUse {
    /// Where the upstream asks for it, by a `DPoP` challenge or in its metadata (RFC 9728, section 2), and the
    /// authorization server takes ES256.
    #[default]
    WhereAsked,
    /// Always: a token that is not bound is not used.
    Always,
    /// Never.
    Never,
}

/// A P-256 key that tokens are bound to, made for one authorisation. Clones share it, and the nonces that servers have
/// given.
///
/// It is kept in the vault beside the tokens, and shown to no one.
#[derive(Clone)]
pub struct DpopKey(Arc<Inner>);

struct Inner {
    pkcs8: Zeroizing<Vec<u8>>,
    signing: EncodingKey,
    public: Jwk,
    thumbprint: String,
    /// The newest nonce of each server, by its origin.
    nonces: Mutex<HashMap<String, String>>,
}

#[derive(Serialize)]
struct Claims<'a> {
    jti: String,
    htm: &'a str,
    htu: String,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    /// Of the MCP profile of DPoP.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_digest: Option<String>,
}

impl DpopKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, OAuthError> {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let made = made.map_err(|_| OAuthError::Unusable("no key can be made for DPoP"))?;
        Self::from_pkcs8(Zeroizing::new(made.as_ref().to_vec()))
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, OAuthError> {
        const BAD: OAuthError = OAuthError::Unusable("a stored DPoP key is malformed");
        let signing = EncodingKey::from_ec_der(&pkcs8);
        let public = Jwk::from_encoding_key(&signing, Algorithm::ES256).map_err(|_| BAD)?;
        // What names the key beside the key itself says nothing to anybody.
        let public = Jwk {
            common: jsonwebtoken::jwk::CommonParameters::default(),
            algorithm: public.algorithm,
        };
        let thumbprint = public.thumbprint(ThumbprintHash::SHA256).map_err(|_| BAD)?;
        Ok(Self(Arc::new(Inner {
            pkcs8,
            signing,
            public,
            thumbprint,
            nonces: Mutex::default(),
        })))
    }

    /// Returns the thumbprint that bound tokens have in `cnf.jkt` (RFC 7638, SHA-256, base64url).
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// Writes the key for the vault.
    pub(super) fn write(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&*self.0.pkcs8))
    }

    /// Reads what [`DpopKey::write`] has written.
    pub(super) fn read(text: &str) -> Option<Self> {
        let pkcs8 = Zeroizing::new(STANDARD.decode(text).ok()?);
        Self::from_pkcs8(pkcs8).ok()
    }

    /// Signs a proof for one request.
    fn sign(
        &self,
        (method, uri): (&Method, &Uri),
        now: SystemTime,
        (ath, content_digest): (Option<&str>, Option<String>),
    ) -> Option<HeaderValue> {
        let nonces = self.0.nonces.lock();
        let nonces = nonces.unwrap_or_else(PoisonError::into_inner);
        let nonce = nonces.get(&origin(uri)).cloned();
        drop(nonces);
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let claims = Claims {
            jti: random(16),
            htm: method.as_str(),
            htu: format!("{}{}", origin(uri), uri.path()),
            iat: since.unwrap_or_default().as_secs(),
            ath,
            nonce,
            content_digest,
        };
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("dpop+jwt".to_owned());
        header.jwk = Some(self.0.public.clone());
        let proof = jsonwebtoken::encode(&header, &claims, &self.0.signing).ok()?;
        HeaderValue::try_from(proof).ok()
    }

    /// Signs a proof for a request to a token endpoint (RFC 9449, section 5).
    pub(crate) fn for_token(&self, uri: &Uri, now: SystemTime) -> Option<HeaderValue> {
        self.sign((&Method::POST, uri), now, (None, None))
    }

    /// Keeps the nonce that an answer brings, if any (RFC 9449, section 8). Tells if it is another than before.
    pub(crate) fn note(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let value = headers.get(NONCE).and_then(|value| value.to_str().ok());
        let Some(nonce) = value.filter(|own| !own.is_empty() && own.len() <= MAX_NONCE) else {
            return false;
        };
        let nonces = self.0.nonces.lock();
        let mut nonces = nonces.unwrap_or_else(PoisonError::into_inner);
        let origin = origin(uri);
        if nonces.len() >= MAX_NONCES && !nonces.contains_key(&origin) {
            nonces.clear();
        }
        nonces.insert(origin, nonce.to_owned()).as_deref() != Some(nonce)
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("thumbprint", &self.0.thumbprint)
            .finish_non_exhaustive()
    }
}

impl PartialEq for DpopKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.thumbprint == other.0.thumbprint
    }
}

impl Eq for DpopKey {}

fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |own| own.as_str());
    format!("{scheme}://{authority}")
}

/// Proves for each request to an upstream that the sender holds the key of an access token.
pub(super) struct TokenProof {
    key: DpopKey,
    ath: String,
    wall: Arc<dyn WallClock>,
}

impl TokenProof {
    pub(super) fn new(key: DpopKey, access: &Secret, wall: Arc<dyn WallClock>) -> Self {
        let ath = URL_SAFE_NO_PAD.encode(Sha256::digest(access.secret().as_bytes()));
        Self { key, ath, wall }
    }
}

impl CredentialProof for TokenProof {
    fn prove(&self, request: &ProvenRequest<'_>) -> Result<HeaderMap, Error> {
        let digest = STANDARD.encode(Sha256::digest(request.body));
        let digest = Some(format!("sha-256=:{digest}:"));
        let about = (request.method, request.uri);
        let ath = Some(self.ath.as_str());
        let signed = self.key.sign(about, self.wall.now(), (ath, digest));
        let value = signed.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "the proof for the token's key cannot be signed",
            )
        })?;
        Ok(HeaderMap::from_iter([(DPOP, value)]))
    }

    fn answered(&self, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> bool {
        let new = self.key.note(uri, headers);
        new && status == StatusCode::UNAUTHORIZED
            && Challenge::of_headers(headers)
                .iter()
                .any(|own| own.is_dpop() && own.param("error") == Some("use_dpop_nonce"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mcp_core::clock::SystemWallClock;
    use serde_json::Value;

    use super::*;

    fn claims(headers: &HeaderMap) -> (Value, Value) {
        let proof = headers[DPOP].to_str().unwrap();
        let mut parts = proof.split('.');
        let mut next = || -> Value {
            let part = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
            serde_json::from_slice(&part).unwrap()
        };
        (next(), next())
    }

    #[test]
    fn a_proof_is_about_one_request_and_shows_no_private_part() {
        let key = DpopKey::generate().unwrap();
        let wall = Arc::new(SystemWallClock::new());
        let proof = TokenProof::new(key.clone(), &Secret::new("token"), wall);
        let uri: Uri = "https://mcp.example:8443/mcp?tenant=1".parse().unwrap();
        let request = ProvenRequest::new(&Method::POST, &uri, b"{}");
        let headers = proof.prove(&request).unwrap();
        let (header, first) = claims(&headers);
        assert_eq!(header["typ"], "dpop+jwt");
        assert_eq!(header["alg"], "ES256");
        let jwk = header["jwk"].as_object().unwrap();
        let members: std::collections::BTreeSet<_> = jwk.keys().map(String::as_str).collect();
        assert_eq!(members, ["crv", "kty", "x", "y"].into());
        assert_eq!(first["htu"], "https://mcp.example:8443/mcp");
        assert_eq!(first["htm"], "POST");
        assert_eq!(first["ath"], "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A");
        assert_eq!(
            first["content_digest"],
            "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"
        );
        let (_, second) = claims(&proof.prove(&request).unwrap());
        assert_ne!(first["jti"], second["jti"]);
    }

    #[test]
    fn a_nonce_is_used_at_the_server_that_gave_it() {
        let key = DpopKey::generate().unwrap();
        let proof = TokenProof::new(key, &Secret::new("t"), Arc::new(SystemWallClock::new()));
        let uri: Uri = "https://mcp.example/mcp".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(NONCE, HeaderValue::from_static("n1"));
        let challenge = HeaderValue::from_static("DPoP error=\"use_dpop_nonce\"");
        headers.insert(http::header::WWW_AUTHENTICATE, challenge);
        assert!(proof.answered(&uri, StatusCode::UNAUTHORIZED, &headers));
        // A server that goes on demanding the nonce that it got is not asked for ever.
        assert!(!proof.answered(&uri, StatusCode::UNAUTHORIZED, &headers));
        let nonce = |uri: &Uri| {
            let request = ProvenRequest::new(&Method::GET, uri, b"");
            claims(&proof.prove(&request).unwrap()).1["nonce"].clone()
        };
        assert_eq!(nonce(&uri), "n1");
        assert_eq!(
            nonce(&"https://other.example/mcp".parse().unwrap()),
            Value::Null
        );
        headers.insert(NONCE, HeaderValue::from_static("n2"));
        assert!(!proof.answered(&uri, StatusCode::OK, &headers));
        assert_eq!(nonce(&uri), "n2");
    }

    #[test]
    fn a_key_survives_the_vault() {
        let key = DpopKey::generate().unwrap();
        let again = DpopKey::read(&key.write()).unwrap();
        assert_eq!(key, again);
        assert!(DpopKey::read("bm9uc2Vuc2U=").is_none());
        assert!(!format!("{key:?}").contains(&key.write()[40..64]));
        let uri: Uri = "https://as.example/token".parse().unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        assert!(again.for_token(&uri, now).is_some());
    }
}
