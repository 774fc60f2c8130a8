use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_core::secret::Secret;
use serde_json::json;
use zeroize::Zeroizing;

use super::OAuthError;

/// Which client this is at an authorization server, and how it proves so.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OAuthClient {
    /// The client's id.
    pub id: String,
    /// How it proves who it is.
    pub auth: ClientAuth,
}

impl OAuthClient {
    /// Describes a client that proves nothing (a public client).
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self::new(id, ClientAuth::None)
    }

    /// Describes a client with a secret, sent as HTTP Basic.
    #[must_use]
    pub fn with_secret(id: &str, secret: Secret) -> Self {
        Self::new(id, ClientAuth::Basic(secret))
    }

    /// Describes a client.
    #[must_use]
    pub fn new(id: &str, auth: ClientAuth) -> Self {
        Self {
            id: id.to_owned(),
            auth,
        }
    }
}

/// How a client proves who it is at the token endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Not at all.
    None,
    /// By a secret as HTTP Basic (RFC 6749, section 2.3.1).
    Basic(Secret),
    /// By a secret in the form.
    Post(Secret),
    /// By a signed assertion (RFC 7523, section 2.2).
    Assertion(Arc<AssertionKey>),
}

/// The private key of a client.
pub struct AssertionKey {
    key: EncodingKey,
    algorithm: Algorithm,
    id: Option<String>,
}

impl AssertionKey {
    /// Reads a private key in PEM, for one of the algorithms `ES256`, `ES384`, `RS256`, `PS256` and `EdDSA`.
    ///
    /// # Errors
    ///
    /// [`OAuthError::Unusable`] if the key does not fit the algorithm.
    pub fn from_pem(pem: &Secret, algorithm: &str, id: Option<&str>) -> Result<Self, OAuthError> {
        const BAD: OAuthError =
            OAuthError::Unusable("the client's private key does not fit its algorithm");
        let bytes = pem.secret().as_bytes();
        let algorithm: Algorithm = algorithm.parse().map_err(|_| BAD)?;
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(bytes),
            Algorithm::RS256 | Algorithm::PS256 => EncodingKey::from_rsa_pem(bytes),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(bytes),
            _ => return Err(BAD),
        };
        Ok(Self {
            key: key.map_err(|_| BAD)?,
            algorithm,
            id: id.map(str::to_owned),
        })
    }

    /// Signs who the client is, for one audience and five minutes.
    pub(super) fn sign(
        &self,
        client: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<Secret, OAuthError> {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.id);
        let claims = json!({
            "iss": client, "sub": client, "aud": audience, "jti": random(16),
            "iat": now, "exp": now + 300,
        });
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map(Secret::new)
            .map_err(|_| OAuthError::Unusable("the client's private key cannot sign"))
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Returns a text of so many random bytes.
pub(crate) fn random(bytes: usize) -> String {
    use rand::Rng as _;
    let mut buffer = Zeroizing::new(vec![0; bytes]);
    rand::rng().fill_bytes(&mut buffer);
    URL_SAFE_NO_PAD.encode(&*buffer)
}

/// How long before its end an access token is replaced, at most.
pub(super) const AHEAD: Duration = Duration::from_secs(30);
