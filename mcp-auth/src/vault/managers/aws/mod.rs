//! Secrets in AWS Secrets Manager, by its JSON protocol (`secretsmanager` 2017-10-17).
//!
//! Signature version 4 and the credentials are those of the crate `reqsign-aws-v4`.

mod credentials;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{HeaderName, HeaderValue, Method, Request, header};
use mcp_core::{
    ConfigError,
    http_client::HttpClient,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{StoreError, StoreErrorKind},
};
use rand::Rng as _;
use reqsign_aws_v4::Credential;
use reqsign_core::Signer;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

pub use self::credentials::AwsCredentials;
use super::{
    SecretManagerError, SecretManagerErrorKind as Kind,
    api::{Answer, Api},
    names::{Names, Rules},
    pages::Pages,
    roles,
};

const SERVICE: &str = "AWS Secrets Manager";
const SIGNED_FOR: &str = "secretsmanager";
const JSON: &str = "application/x-amz-json-1.1";

/// How many names are asked for at once.
const PAGE: u32 = 100;

/// How often a write is repeated that another one overtakes.
const WRITES: u32 = 4;

/// "CreateSecret": 1 to 512 letters, digits and `/_+=.@-`.
pub(super) static RULES: Rules = Rules {
    mark: '=',
    plain: |byte| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte),
    separator: "/",
    longest: 512,
    prefix: "give 1 to 64 letters, digits and /_+.@- that do not begin or end with /",
    in_prefix: |byte| byte.is_ascii_alphanumeric() || b"/_+.@-".contains(&byte),
};

/// Secrets in AWS Secrets Manager. Clones share everything.
///
/// A secret is named `{prefix}/{namespace}/{owner}/{name}`, where the owner is `shared` for what all users share by the
/// operator's word, else the partition in hexadecimal, and each byte that AWS does not take is written as `=` and two digits.
/// The policy of the credentials should allow `GetSecretValue`, `PutSecretValue`, `CreateSecret` and `DeleteSecret` for
/// `{prefix}/*`, and `ListSecrets`.
///
/// Requests are signed with signature version 4 over their whole body.
///
/// # Security
///
/// A secret that is deleted is gone at once: there is no time in which it could be restored. AWS and whoever has these
/// rights there can read the secrets; put a [`Vault`](crate::vault::Vault) over another store, with its key here
/// ([`StoredKey`](crate::vault::StoredKey)), where that is too much.
///
/// # Errors
///
/// A request that is throttled, or not answered, fails as unavailable and is not repeated here. The source of an error is a
/// [`SecretManagerError`].
#[derive(Clone)]
pub struct AwsSecrets {
    api: Api,
    endpoint: Url,
    names: Names,
    signer: Signer<Credential>,
}

impl AwsSecrets {
    /// Uses the endpoint of a region, such as `eu-central-1`, and names that begin with `mcp`.
    ///
    /// `http` sends the requests to Secrets Manager and to the Security Token Service.
    ///
    /// # Errors
    ///
    /// The region is malformed.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the credentials belong to the store from now on"
    )]
    pub fn new(
        region: &str,
        credentials: AwsCredentials,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self, ConfigError> {
        let bad = || ConfigError::new("region", region, "give a name such as eu-central-1");
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if region.is_empty() || region.len() > 64 || !region.bytes().all(plain) {
            return Err(bad());
        }
        let zone = match region.split('-').next() {
            Some("cn") => "amazonaws.com.cn",
            Some("eusc") => "amazonaws.eu",
            _ => "amazonaws.com",
        };
        let endpoint = format!("https://{SIGNED_FOR}.{region}.{zone}/");
        Ok(Self {
            endpoint: Url::parse(&endpoint).map_err(|_| bad())?,
            names: Names::new(&RULES),
            signer: credentials.signer(SIGNED_FOR, region, &http),
            api: Api::new(SERVICE, http),
        })
    }

    /// Uses another endpoint: one in a private network, or whatever speaks like Secrets Manager. It has to be `https`, or
    /// on this machine.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Url) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// Begins all names with another text. Default is `mcp`.
    ///
    /// # Errors
    ///
    /// It has other characters than letters, digits and `/_+.@-`, or more than 64.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        self.names = self.names.with_prefix(prefix)?;
        Ok(self)
    }

    async fn ask(&self, action: &str, body: &Value) -> Result<Answer, SecretManagerError> {
        let request = self.request(action, body)?;
        let mut request = roles::sign(SERVICE, &self.signer, request).await?;
        let headers = request.headers_mut();
        // The client writes it again from the address, which is the same.
        headers.remove(header::HOST);
        headers.insert(header::ACCEPT, HeaderValue::from_static(JSON));
        self.api.send(&self.endpoint, request).await
    }

    /// A request with what the signature covers.
    fn request(&self, action: &str, body: &Value) -> Result<Request<Bytes>, SecretManagerError> {
        let bad = || SecretManagerError::new(SERVICE, Kind::Refused);
        let mut request = Api::request(Method::POST, Some(body));
        let digest = HEXLOWER.encode(&Sha256::digest(request.body()));
        let target = format!("{SIGNED_FOR}.{action}");
        *request.uri_mut() = self.endpoint.as_str().parse().map_err(|_| bad())?;
        for (name, value) in [
            ("content-type", JSON),
            ("x-amz-content-sha256", &digest),
            ("x-amz-target", &target),
        ] {
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, value);
        }
        // A proxy may change it.
        request.headers_mut().remove(header::ACCEPT);
        Ok(request)
    }
}

/// Returns the code of an error that is known here, with what it means.
fn known(answer: &Answer) -> Option<(&'static str, Kind)> {
    let said = answer.said();
    let code = said.get("__type")?.as_str()?;
    let code = code.rsplit('#').next()?.split(':').next()?;
    let known = [
        ("ResourceNotFoundException", Kind::Refused),
        ("ResourceExistsException", Kind::Unavailable),
        ("InvalidRequestException", Kind::Refused),
        ("InvalidParameterException", Kind::Refused),
        ("ValidationException", Kind::Refused),
        ("LimitExceededException", Kind::Full),
        ("AccessDeniedException", Kind::Denied),
        ("DecryptionFailure", Kind::Denied),
        ("EncryptionFailure", Kind::Denied),
        ("ExpiredTokenException", Kind::Denied),
        ("IncompleteSignature", Kind::Denied),
        ("InvalidClientTokenId", Kind::Denied),
        ("InvalidSignatureException", Kind::Denied),
        ("MissingAuthenticationTokenException", Kind::Denied),
        ("SignatureDoesNotMatch", Kind::Denied),
        ("UnrecognizedClientException", Kind::Denied),
        ("RequestLimitExceeded", Kind::Throttled),
        ("ThrottlingException", Kind::Throttled),
        ("TooManyRequestsException", Kind::Throttled),
        ("InternalServiceError", Kind::Unavailable),
        ("InternalFailure", Kind::Unavailable),
        ("ServiceUnavailable", Kind::Unavailable),
    ];
    known.into_iter().find(|(own, _)| *own == code)
}

fn error(answer: &Answer) -> SecretManagerError {
    let error = answer.error();
    match known(answer) {
        Some((code, kind)) => error.with_kind(kind).with_code(Some(code)),
        None => error,
    }
}

/// The secret is not there, or was deleted by someone else in a way that it can be restored.
fn is_absence(answer: &Answer) -> bool {
    let absent = ["ResourceNotFoundException", "InvalidRequestException"];
    is_code(answer, &absent)
}

fn is_code(answer: &Answer, codes: &[&str]) -> bool {
    !answer.status.is_success() && known(answer).is_some_and(|(code, _)| codes.contains(&code))
}

fn success(answer: &Answer) -> Result<(), SecretManagerError> {
    match answer.status.is_success() {
        true => Ok(()),
        false => Err(error(answer)),
    }
}

/// Names a write, so that one that is sent twice counts once.
fn token() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    HEXLOWER.encode(&bytes)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Held {
    secret_string: Option<Secret>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    secret_list: Vec<Listed>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    name: Option<String>,
}

#[async_trait]
impl SecretStore for AwsSecrets {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        let body = json!({ "SecretId": self.names.name(scope, name)? });
        let answer = self.ask("GetSecretValue", &body).await?;
        if is_absence(&answer) {
            return Ok(None);
        }
        success(&answer)?;
        let text = answer.read::<Held>()?.secret_string;
        text.map(Some).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Corrupt, "the secret in AWS is not a text")
        })
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        let name = self.names.name(scope, name)?;
        let mut attempt = 1;
        loop {
            let body = json!({
                "SecretId": name, "SecretString": secret.secret(), "ClientRequestToken": token(),
            });
            let answer = self.ask("PutSecretValue", &body).await?;
            if !is_code(&answer, &["ResourceNotFoundException"]) {
                return Ok(success(&answer)?);
            }
            let body = json!({
                "Name": name, "SecretString": secret.secret(), "ClientRequestToken": token(),
            });
            let answer = self.ask("CreateSecret", &body).await?;
            // Another writer has created it since.
            if attempt < WRITES && is_code(&answer, &["ResourceExistsException"]) {
                attempt += 1;
                continue;
            }
            return Ok(success(&answer)?);
        }
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        if self.get(scope, name).await?.is_none() {
            // AWS confirms what was not there, too.
            return Ok(false);
        }
        let name = self.names.name(scope, name)?;
        let body = json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true });
        let answer = self.ask("DeleteSecret", &body).await?;
        if is_absence(&answer) {
            return Ok(false);
        }
        success(&answer)?;
        Ok(true)
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        let folder = self.names.folder(scope);
        let mut pages = Pages::new(SERVICE);
        let mut body = json!({
            "Filters": [{ "Key": "name", "Values": [folder] }], "MaxResults": PAGE,
        });
        let mut names = Vec::new();
        loop {
            let answer = self.ask("ListSecrets", &body).await?;
            success(&answer)?;
            let page: Page = answer.read()?;
            let listed = page.secret_list.iter();
            let listed = listed.filter_map(|own| self.names.read(&folder, own.name.as_deref()?));
            names.extend(listed);
            let Some(next) = page.next_token else { break };
            pages.next(&next)?;
            body["NextToken"] = next.into();
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl fmt::Debug for AwsSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsSecrets")
            .field("endpoint", &self.endpoint.as_str())
            .field("prefix", &self.names.prefix())
            .finish_non_exhaustive()
    }
}
