use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderValue, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_core::{http_client::HttpClient, secret::Secret};
use serde_json::{Map, Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::{OAuthError, TokenSet};
use crate::net;

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
    fn sign(&self, client: &str, audience: &str, now: SystemTime) -> Result<Secret, OAuthError> {
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

/// An endpoint that answers forms from authenticated clients.
pub(super) struct Endpoint<'a> {
    pub(super) http: &'a Arc<dyn HttpClient>,
    pub(super) url: &'a Url,
    pub(super) issuer: &'a str,
    pub(super) client: &'a OAuthClient,
    pub(super) now: SystemTime,
}

impl Endpoint<'_> {
    /// Posts a form as the client.
    pub(super) async fn post(&self, fields: &[(&str, &str)]) -> Result<net::Answer, OAuthError> {
        let mut fields = fields.to_vec();
        let mut basic = None;
        let assertion;
        match &self.client.auth {
            ClientAuth::None => fields.push(("client_id", &self.client.id)),
            ClientAuth::Basic(secret) => basic = Some(basic_header(&self.client.id, secret)?),
            ClientAuth::Post(secret) => {
                fields.push(("client_id", &self.client.id));
                fields.push(("client_secret", secret.secret()));
            }
            ClientAuth::Assertion(key) => {
                // RFC 7523 wants the server, and its issuer is the one name of it that cannot be another's.
                assertion = key.sign(&self.client.id, self.issuer, self.now)?;
                fields.push((
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ));
                fields.push(("client_assertion", assertion.secret()));
            }
        }
        Ok(net::post_form(self.http, self.url, &fields, basic).await?)
    }

    /// Asks for tokens.
    pub(super) async fn tokens(&self, fields: &[(&str, &str)]) -> Result<TokenSet, OAuthError> {
        let answer = self.post(fields).await?;
        let object = read(&answer)?;
        TokenSet::read(&object, self.now).ok_or_else(|| answer.shape("a token response").into())
    }
}

fn basic_header(id: &str, secret: &Secret) -> Result<HeaderValue, OAuthError> {
    let encode =
        |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = Zeroizing::new(format!("{}:{}", encode(id), encode(secret.secret())));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    HeaderValue::try_from(value.as_str())
        .map_err(|_| OAuthError::Unusable("the client's secret cannot be sent"))
}

/// Reads an answer, taking errors for errors whatever their status is: some providers answer them with 200.
pub(super) fn read(answer: &net::Answer) -> Result<Map<String, Value>, OAuthError> {
    let object = answer.object();
    let code = object
        .as_ref()
        .ok()
        .filter(|object| !object.contains_key("access_token"))
        .and_then(|object| object.get("error")?.as_str());
    if let Some(code) = code {
        return Err(OAuthError::Refused {
            code: standard_code(code),
        });
    }
    if !answer.status.is_success() {
        // A refusal without a code is one all the same, unless the server itself is in trouble.
        return Err(match answer.status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                OAuthError::Refused {
                    code: "invalid_request".to_owned(),
                }
            }
            status => net::FetchError::Status {
                host: answer.host.clone(),
                status,
            }
            .into(),
        });
    }
    Ok(object?)
}

/// Maps codes of providers that have their own to those of RFC 6749.
fn standard_code(code: &str) -> String {
    let standard = match code {
        "bad_refresh_token" | "bad_verification_code" => "invalid_grant",
        "incorrect_client_credentials" => "invalid_client",
        "redirect_uri_mismatch" => "invalid_request",
        other => other,
    };
    // The code reaches messages: nothing but what codes are made of.
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    standard.chars().filter(plain).take(64).collect()
}

/// How long before its end an access token is replaced, at most.
pub(super) const AHEAD: Duration = Duration::from_secs(60);
