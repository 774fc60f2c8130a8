//! Secrets in AWS Secrets Manager, by its JSON protocol (`secretsmanager` 2017-10-17) and signature version 4.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue, Method, Request, header};
use mcp_core::{
    ConfigError,
    clock::{SystemWallClock, WallClock},
    http_client::HttpClient,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{StoreError, StoreErrorKind},
};
use rand::Rng as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::owner_name;
use crate::{date, hex::hex, net};

const SERVICE: &str = "secretsmanager";
const JSON: &str = "application/x-amz-json-1.1";

/// How many names are asked for at once.
const PAGE: u32 = 100;

/// As whom AWS is asked.
#[derive(Clone, Debug)]
pub struct AwsCredentials {
    access_key: String,
    secret_key: Secret,
    session: Option<Secret>,
}

impl AwsCredentials {
    /// Takes an access key and its secret.
    #[must_use]
    pub fn new(access_key: &str, secret_key: Secret) -> Self {
        Self {
            access_key: access_key.to_owned(),
            secret_key,
            session: None,
        }
    }

    /// Adds the token that goes with the keys of a role.
    #[must_use]
    pub fn with_session(mut self, token: Secret) -> Self {
        self.session = Some(token);
        self
    }
}

/// Secrets in AWS Secrets Manager. Clones share everything.
///
/// A secret is named `{prefix}/{namespace}/{owner}/{name}`, where the owner is `shared` for what everybody shares by the
/// operator's word, else the partition in hexadecimal, and each byte of the name that AWS does not take is written as `=`
/// and two digits. The policy of the credentials should allow `GetSecretValue`, `PutSecretValue`, `CreateSecret` and
/// `DeleteSecret` for `{prefix}/*`, and `ListSecrets`.
///
/// # Security
///
/// A secret that is deleted is gone at once: there is no time in which it could be restored. AWS and whoever has these
/// rights there can read the secrets; put a [`Vault`](super::Vault) over another store, with its key here
/// ([`StoredKey`](super::StoredKey)), where that is too much.
///
/// # Errors
///
/// A request that is throttled, or not answered, fails as unavailable and is not tried again here.
#[derive(Clone)]
pub struct AwsSecrets {
    http: Arc<dyn HttpClient>,
    endpoint: Url,
    region: String,
    prefix: String,
    credentials: Arc<ArcSwap<AwsCredentials>>,
    wall: Arc<dyn WallClock>,
}

/// What AWS refused with.
struct Refused(String);

impl AwsSecrets {
    /// Uses the endpoint of a region, such as `eu-central-1`, and names that begin with `mcp`.
    ///
    /// # Errors
    ///
    /// The region is malformed.
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
        let endpoint = format!("https://{SERVICE}.{region}.amazonaws.com/");
        Ok(Self {
            http,
            endpoint: Url::parse(&endpoint).map_err(|_| bad())?,
            region: region.to_owned(),
            prefix: "mcp".to_owned(),
            credentials: Arc::new(ArcSwap::from_pointee(credentials)),
            wall: Arc::new(SystemWallClock::new()),
        })
    }

    /// Uses another endpoint: one in a private network, or whatever speaks like Secrets Manager. It has to be `https`, or
    /// on this machine.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Url) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// Begins all names with another text, of letters, digits and `/_+.@-`. Default is `mcp`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        prefix.trim_end_matches('/').clone_into(&mut self.prefix);
        self
    }

    /// Uses another clock for the dates of signatures.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }

    /// Continues with other credentials, for those of a role, which end. All clones do.
    pub fn replace_credentials(&self, credentials: AwsCredentials) {
        self.credentials.store(Arc::new(credentials));
    }

    fn folder(&self, scope: &SecretScope) -> String {
        let (space, owner) = (scope.namespace().as_str(), owner_name(scope.owner()));
        format!("{}/{}/{owner}/", self.prefix, escape(space))
    }

    fn name(&self, scope: &SecretScope, name: &SecretName) -> Result<String, StoreError> {
        let name = self.folder(scope) + &escape(name.as_str());
        match name.len() <= 512 {
            true => Ok(name),
            false => Err(StoreError::new(
                StoreErrorKind::Invalid,
                "the secret's name is too long for AWS",
            )),
        }
    }

    async fn ask(
        &self,
        action: &str,
        body: &Value,
    ) -> Result<Result<Map<String, Value>, Refused>, StoreError> {
        let body = Bytes::from(body.to_string());
        let request = self.sign(action, body)?;
        let answer = net::send(&self.http, &self.endpoint, request).await;
        let answer = answer.map_err(|error| unavailable().with_source(error))?;
        let object = answer.object().unwrap_or_default();
        if answer.status.is_success() {
            return Ok(Ok(object));
        }
        let kind = object.get("__type").and_then(Value::as_str);
        let kind = kind.unwrap_or_default().rsplit('#').next();
        let kind = kind
            .unwrap_or_default()
            .split(':')
            .next()
            .unwrap_or_default();
        Ok(Err(Refused(kind.chars().take(64).collect())))
    }

    /// Signs a request (signature version 4).
    fn sign(&self, action: &str, body: Bytes) -> Result<Request<Bytes>, StoreError> {
        let bad = || StoreError::new(StoreErrorKind::Invalid, "the request cannot be signed");
        let own = self.credentials.load();
        let now = date::basic(self.wall.now());
        let target = format!("{SERVICE}.{action}");
        let host = match (self.endpoint.host_str(), self.endpoint.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.ok_or_else(bad)?.to_owned(),
        };
        let mut headers = vec![
            ("content-type", JSON),
            ("host", &host),
            ("x-amz-date", &now),
        ];
        headers.extend(
            own.session
                .as_ref()
                .map(|own| ("x-amz-security-token", own.secret())),
        );
        headers.push(("x-amz-target", &target));
        let signature = signature(&Signed {
            path: self.endpoint.path(),
            headers: &headers,
            body: &body,
            date: &now,
            region: &self.region,
            key: &own.secret_key,
        });
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}/{}/{SERVICE}/aws4_request, SignedHeaders={}, Signature={signature}",
            own.access_key,
            &now[..8],
            self.region,
            names.join(";")
        );
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        headers.push(("authorization", &authorization));
        for (name, value) in headers.into_iter().filter(|(name, _)| *name != "host") {
            let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
            value.set_sensitive(matches!(name, "authorization" | "x-amz-security-token"));
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        let accept = HeaderValue::from_static(JSON);
        request.headers_mut().insert(header::ACCEPT, accept);
        Ok(request)
    }
}

/// What a signature covers.
struct Signed<'a> {
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
    date: &'a str,
    region: &'a str,
    key: &'a Secret,
}

fn signature(own: &Signed<'_>) -> String {
    let headers: String = own
        .headers
        .iter()
        .flat_map(|(name, value)| [name, ":", value, "\n"])
        .collect();
    let names: Vec<_> = own.headers.iter().map(|(name, _)| *name).collect();
    let canonical = format!(
        "POST\n{}\n\n{headers}\n{}\n{}",
        own.path,
        names.join(";"),
        hex(&Sha256::digest(own.body))
    );
    let day = &own.date[..8];
    let scope = format!("{day}/{}/{SERVICE}/aws4_request", own.region);
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        own.date,
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let secret = zeroize::Zeroizing::new(format!("AWS4{}", own.key.secret()));
    let parts = [day, own.region, SERVICE, "aws4_request", &text];
    let last = parts
        .into_iter()
        .fold(secret.as_bytes().to_vec(), |key, part| {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of every length");
            mac.update(part.as_bytes());
            mac.finalize().into_bytes().to_vec()
        });
    hex(&last)
}

/// Writes a text in the characters that names may have.
fn escape(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'.' | b'@' | b'-' => {
                name.push(char::from(byte));
            }
            other => name.push_str(&format!("={other:02x}")),
        }
    }
    name
}

/// Reads a name again; `None` for one that was not written here.
fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| escape(text) == name)
}

fn unavailable() -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "AWS Secrets Manager cannot be asked now",
    )
}

impl Refused {
    /// The secret is not there, or is about to be deleted by someone else.
    fn is_absence(&self) -> bool {
        self.0 == "ResourceNotFoundException" || self.0 == "InvalidRequestException"
    }

    fn into_error(self) -> StoreError {
        let kind = match &*self.0 {
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ValidationException"
            | "InvalidParameterException" => StoreErrorKind::Invalid,
            "LimitExceededException" => StoreErrorKind::Full,
            _ => StoreErrorKind::Unavailable,
        };
        tracing::warn!(code = %self.0, "AWS Secrets Manager refused");
        StoreError::new(kind, "AWS Secrets Manager refused")
    }
}

/// Names a write, so that one that is sent twice counts once.
fn token() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    hex(&bytes)
}

#[async_trait]
impl SecretStore for AwsSecrets {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        let body = json!({ "SecretId": self.name(scope, name)? });
        match self.ask("GetSecretValue", &body).await? {
            Ok(answer) => match answer.get("SecretString").and_then(Value::as_str) {
                Some(text) => Ok(Some(Secret::new(text))),
                None => Err(StoreError::new(
                    StoreErrorKind::Corrupt,
                    "the secret in AWS is no text",
                )),
            },
            Err(refused) if refused.is_absence() => Ok(None),
            Err(refused) => Err(refused.into_error()),
        }
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        let name = self.name(scope, name)?;
        let mut body = json!({ "SecretString": secret.secret(), "ClientRequestToken": token() });
        body["SecretId"] = name.as_str().into();
        match self.ask("PutSecretValue", &body).await? {
            Ok(_) => return Ok(()),
            Err(refused) if refused.0 == "ResourceNotFoundException" => {}
            Err(refused) => return Err(refused.into_error()),
        }
        let body = json!({
            "Name": name, "SecretString": secret.secret(), "ClientRequestToken": token(),
        });
        match self.ask("CreateSecret", &body).await? {
            Ok(_) => Ok(()),
            Err(refused) => Err(refused.into_error()),
        }
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        if self.get(scope, name).await?.is_none() {
            // AWS confirms what was not there, too.
            return Ok(false);
        }
        let name = self.name(scope, name)?;
        let body = json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true });
        match self.ask("DeleteSecret", &body).await? {
            Ok(_) => Ok(true),
            Err(refused) if refused.is_absence() => Ok(false),
            Err(refused) => Err(refused.into_error()),
        }
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        let folder = self.folder(scope);
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut body = json!({
                "Filters": [{ "Key": "name", "Values": [folder] }], "MaxResults": PAGE,
            });
            if let Some(next) = &next {
                body["NextToken"] = next.as_str().into();
            }
            let page = self.ask("ListSecrets", &body).await?;
            let page = page.map_err(Refused::into_error)?;
            let listed = page.get("SecretList").and_then(Value::as_array);
            for own in listed.into_iter().flatten() {
                let name = own.get("Name").and_then(Value::as_str).unwrap_or_default();
                let name = name.strip_prefix(&folder).and_then(unescape);
                names.extend(name.and_then(|name| SecretName::new(&name).ok()));
            }
            match page.get("NextToken").and_then(Value::as_str) {
                Some(token) => next = Some(token.to_owned()),
                None => break,
            }
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
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_read_again() {
        for text in ["token", "a/../b", "ä=x y", "=2f"] {
            let name = escape(text);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.@-=".contains(&b);
            assert!(name.bytes().all(plain), "{name}");
            assert_eq!(unescape(&name).as_deref(), Some(text));
        }
        for foreign in ["a=zz", "a=", "a=6", "=61"] {
            assert_eq!(unescape(foreign), None, "{foreign}");
        }
    }
}
