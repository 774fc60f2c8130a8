use std::time::{Duration, SystemTime};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderValue, request::Parts};
use jsonwebtoken::{
    Algorithm, crypto,
    jwk::{Jwk, ThumbprintHash},
};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use url::Url;

use super::{ALGORITHMS, Refusal, invalid};
use crate::{jwk::Key, server::token};

/// The longest proof that is read, in bytes.
const MAX_PROOF: usize = 8 << 10;

/// The longest id of a proof, in bytes.
const MAX_ID: usize = 1024;

/// The members that private keys have (RFC 7518, section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

const MALFORMED: Refusal = invalid("the proof is not a JSON Web Token with what RFC 9449 demands");

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Value,
    #[serde(default, deserialize_with = "crate::jwt::present")]
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: f64,
    ath: Option<String>,
    nonce: Option<String>,
    content_digest: Option<String>,
}

/// A proof of possession (RFC 9449, section 4.2), whose signature is good.
pub(super) struct Proof {
    claims: Claims,
    thumbprint: String,
}

impl Proof {
    /// Reads a proof and checks its signature by the key in it.
    pub(super) fn read(value: &HeaderValue) -> Result<Self, Refusal> {
        let text = value.to_str().map_err(|_| MALFORMED)?;
        if text.len() > MAX_PROOF {
            return Err(invalid("the proof is too long"));
        }
        let (message, signature) = text.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, claims) = message.split_once('.').ok_or(MALFORMED)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| MALFORMED)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| MALFORMED)?;
        if header.crit.is_some() {
            return Err(invalid(
                "the proof demands an extension that is not known here",
            ));
        }
        if !crate::jwt::is_type(&header.typ, "dpop+jwt") {
            return Err(invalid("the type of the proof is not dpop+jwt"));
        }
        let algorithm: Algorithm = Some(header.alg.as_str())
            .filter(|own| ALGORITHMS.contains(own))
            .and_then(|own| own.parse().ok())
            .ok_or(invalid(
                "the proof is signed by an algorithm that is not taken",
            ))?;
        let shows_private = PRIVATE.iter().any(|own| header.jwk.get(own).is_some());
        if shows_private {
            return Err(invalid("the key in the proof is not a public one"));
        }
        const BAD_KEY: Refusal = invalid("the key in the proof does not fit its algorithm");
        let (_, key) = Key::read(&header.jwk).ok_or(BAD_KEY)?;
        if !key.allows(algorithm) {
            return Err(BAD_KEY);
        }
        let thumbprint = serde_json::from_value::<Jwk>(header.jwk)
            .ok()
            .and_then(|jwk| jwk.thumbprint(ThumbprintHash::SHA256).ok())
            .ok_or(BAD_KEY)?;
        match crypto::verify(signature, message.as_bytes(), &key.decoding, algorithm) {
            Ok(true) => Ok(Self { claims, thumbprint }),
            _ => Err(invalid("the signature of the proof is wrong")),
        }
    }

    /// Checks that the proof is by the key that a token is bound to.
    pub(super) fn is_signed_by(&self, key: &[u8; 32]) -> Result<(), Refusal> {
        let own = URL_SAFE_NO_PAD.decode(&self.thumbprint).unwrap_or_default();
        match bool::from(own.ct_eq(key)) {
            true => Ok(()),
            false => Err(invalid(
                "the proof is by another key than the token is bound to",
            )),
        }
    }

    /// Checks that the proof is about this request and this token (RFC 9449, section 4.3, 8 to 12).
    pub(super) fn is_about(
        &self,
        parts: &Parts,
        token: &str,
        resource: &Url,
    ) -> Result<(), Refusal> {
        if self.claims.htm != parts.method.as_str() {
            return Err(invalid("the proof is about another method"));
        }
        let target = Url::parse(&self.claims.htu).map_err(|_| MALFORMED)?;
        let mut here = resource.clone();
        here.set_path(parts.uri.path());
        let same = |own: &Url| own.origin() == target.origin() && own.path() == target.path();
        if !same(&here) && !same(resource) {
            return Err(invalid("the proof is about another address"));
        }
        let ath = URL_SAFE_NO_PAD.encode(token::fingerprint(token));
        match &self.claims.ath {
            Some(own) if bool::from(own.as_bytes().ct_eq(ath.as_bytes())) => Ok(()),
            Some(_) => Err(invalid("the proof is about another token")),
            None => Err(invalid("the proof does not say which token it is about")),
        }
    }

    /// Checks that the proof was made about now.
    pub(super) fn is_of_now(&self, now: SystemTime, window: Duration) -> Result<(), Refusal> {
        let made = crate::jwt::date(self.claims.iat).ok_or(MALFORMED)?;
        let away = now
            .duration_since(made)
            .unwrap_or_else(|ahead| ahead.duration());
        match away <= window {
            true => Ok(()),
            false => Err(invalid("the date of the proof is too far from now")),
        }
    }

    /// Returns the id.
    pub(super) fn id(&self) -> Result<&str, Refusal> {
        let id = self.claims.jti.as_str();
        match id.is_empty() || id.len() > MAX_ID {
            true => Err(invalid("the id of the proof is empty or too long")),
            false => Ok(id),
        }
    }

    pub(super) fn nonce(&self) -> Option<&str> {
        self.claims.nonce.as_deref()
    }

    /// Returns the SHA-256 of the body that the proof is about, if it says so (RFC 9530, section 2).
    pub(super) fn digest(&self) -> Result<Option<[u8; 32]>, Refusal> {
        const BAD: Refusal = invalid("content_digest is not sha-256=:...:");
        let Some(text) = &self.claims.content_digest else {
            return Ok(None);
        };
        let value = text.strip_prefix("sha-256=:").ok_or(BAD)?;
        let value = value.strip_suffix(':').ok_or(BAD)?;
        let bytes = STANDARD.decode(value).map_err(|_| BAD)?;
        bytes.try_into().map(Some).map_err(|_| BAD)
    }
}
