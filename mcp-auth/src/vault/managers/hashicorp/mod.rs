//! Secrets in HashiCorp Vault or OpenBao, by the HTTP API of the key-value engine, version 2.

mod login;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use mcp_core::{
    ConfigError,
    http_client::HttpClient,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{StoreError, StoreErrorKind},
};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

pub use self::login::HashicorpLogin;
use self::login::LoginSession;
use super::{
    SecretManagerError, SecretManagerErrorKind as Kind,
    api::{Answer, Api},
    names::{Names, Rules},
};
use crate::net;

const SERVICE: &str = "HashiCorp Vault";

/// The field of a secret that holds it.
const FIELD: &str = "value";

/// How often a write is repeated that another one overtakes.
const WRITES: u32 = 8;

/// Parts of a path. Dots are escaped, so that no part is `..`.
pub(super) static RULES: Rules = Rules {
    mark: '=',
    plain: |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte),
    separator: "/",
    longest: 2048,
    prefix: "give 1 to 64 letters, digits and /_- that do not begin or end with /",
    in_prefix: |byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte),
};

/// Secrets in HashiCorp Vault or OpenBao, in a key-value engine of version 2. Clones share everything.
///
/// A secret lies at `{mount}/data/{prefix}/{namespace}/{owner}/{name}`, in the field `value`, where the owner is `shared` for
/// what all users share by the operator's word, else the partition in hexadecimal, and each byte other than `a-zA-Z0-9_-` is
/// written as `=` and two digits. The policy of the token should have:
///
/// ```hcl
/// path "secret/data/mcp/*"     { capabilities = ["create", "read", "update"] }
/// path "secret/metadata/mcp/*" { capabilities = ["list", "delete"] }
/// ```
///
/// Where the engine or a secret demands check-and-set, a write takes the version that is there, and begins again when another
/// writer was quicker.
///
/// # Security
///
/// A secret that is deleted is removed with all its versions and cannot be restored. A write leaves earlier versions, as many as
/// the engine keeps (`max_versions`, 10 by default). Whoever has these rights at the server can read the secrets.
///
/// # Errors
///
/// A server that is sealed, that limits the rate of requests, or that does not answer, fails as unavailable; the request is
/// not repeated here. The source of an error is a [`SecretManagerError`].
#[derive(Clone)]
pub struct HashicorpSecrets {
    server: Server,
    mount: String,
    names: Names,
    login: Arc<LoginSession>,
}

/// The server, and the namespace there.
#[derive(Clone)]
pub(super) struct Server {
    api: Api,
    address: Url,
    namespace: Option<HeaderValue>,
}

impl HashicorpSecrets {
    /// Uses a server, such as `https://vault.example:8200`, the engine that is mounted at `secret`, and names that begin with
    /// `mcp`.
    ///
    /// # Errors
    ///
    /// The address is neither `https` nor on this machine.
    pub fn new(
        mut address: Url,
        login: HashicorpLogin,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self, ConfigError> {
        if !net::is_secure(&address) || address.query().is_some() {
            let shown = net::shown(&address);
            let expected = "give an https address, or one on this machine";
            return Err(ConfigError::new("address", shown, expected));
        }
        address.set_fragment(None);
        if !address.path().ends_with('/') {
            address.set_path(&format!("{}/", address.path()));
        }
        Ok(Self {
            server: Server {
                api: Api::new(SERVICE, http),
                address,
                namespace: None,
            },
            mount: "secret".to_owned(),
            names: Names::new(&RULES),
            login: Arc::new(LoginSession::new(login)),
        })
    }

    /// Uses an engine that is mounted elsewhere. Default is `secret`.
    ///
    /// # Errors
    ///
    /// It has other characters than letters, digits and `/_-`, or more than 64.
    pub fn with_mount(mut self, mount: &str) -> Result<Self, ConfigError> {
        self.mount = plain_path("mount", mount)?;
        Ok(self)
    }

    /// Uses a namespace of Vault Enterprise or OpenBao (`X-Vault-Namespace`).
    ///
    /// # Errors
    ///
    /// It has other characters than letters, digits and `/_-`, or more than 64.
    pub fn with_namespace(mut self, namespace: &str) -> Result<Self, ConfigError> {
        let own = plain_path("namespace", namespace)?;
        let value = HeaderValue::try_from(own);
        let value = value.map_err(|_| ConfigError::new("namespace", namespace, RULES.prefix))?;
        self.server.namespace = Some(value);
        Ok(self)
    }

    /// Begins all names with another text. Default is `mcp`.
    ///
    /// # Errors
    ///
    /// It has other characters than letters, digits and `/_-`, or more than 64.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        self.names = self.names.with_prefix(prefix)?;
        Ok(self)
    }

    fn path(&self, part: &str, name: &str) -> String {
        format!("{}/{part}/{name}", self.mount)
    }

    /// Asks with a token, and once more with another one if it has ended before its time.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, SecretManagerError> {
        let token = self.login.token(&self.server).await?;
        let answer = self.server.ask(method.clone(), path, Some(&token), body);
        let answer = answer.await?;
        if answer.status != StatusCode::FORBIDDEN
            || !self.login.replace(&self.server, &token).await?
        {
            return Ok(answer);
        }
        let token = self.login.token(&self.server).await?;
        self.server.ask(method, path, Some(&token), body).await
    }

    /// The number of the version that is there; zero for none.
    async fn version(&self, path: &str) -> Result<u64, SecretManagerError> {
        let answer = self.ask(Method::GET, path, None).await?;
        if is_absence(&answer) {
            // A version that was deleted counts, too.
            return Ok(answer
                .read::<Held>()
                .map_or(0, |held| held.data.metadata.version));
        }
        if !answer.status.is_success() {
            return Err(error(&answer));
        }
        Ok(answer.read::<Held>()?.data.metadata.version)
    }
}

fn plain_path(field: &'static str, path: &str) -> Result<String, ConfigError> {
    let own = path.trim_matches('/');
    match !own.is_empty() && own.len() <= 64 && own.bytes().all(RULES.in_prefix) {
        true => Ok(own.to_owned()),
        false => Err(ConfigError::new(field, path, RULES.prefix)),
    }
}

impl Server {
    /// Asks for a path below `/v1`.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Option<&Value>,
    ) -> Result<Answer, SecretManagerError> {
        let bad = || SecretManagerError::new(SERVICE, Kind::Refused);
        let url = self
            .address
            .join(&format!("v1/{path}"))
            .map_err(|_| bad())?;
        let mut request = Api::request(method, body);
        let headers = request.headers_mut();
        // Agents and proxies of the vendor want it, against forged requests of browsers.
        let name = HeaderName::from_static("x-vault-request");
        headers.insert(name, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            let name = HeaderName::from_static("x-vault-namespace");
            headers.insert(name, namespace.clone());
        }
        if let Some(token) = token {
            let no_token = || SecretManagerError::new(SERVICE, Kind::NoCredentials);
            let mut value = HeaderValue::from_str(token.secret()).map_err(|_| no_token())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static("x-vault-token"), value);
        }
        self.api.send(&url, request).await
    }
}

#[derive(Deserialize)]
struct Held {
    data: HeldData,
}

#[derive(Deserialize)]
struct HeldData {
    #[serde(default)]
    data: Option<serde_json::Map<String, Value>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

#[derive(Deserialize)]
struct Listed {
    data: ListedData,
}

#[derive(Deserialize)]
struct ListedData {
    keys: Vec<String>,
}

/// What the server says of an error.
fn reasons(answer: &Answer) -> Option<Vec<String>> {
    let mut said = answer.said();
    serde_json::from_value(said.get_mut("errors")?.take()).ok()
}

fn has_reason(answer: &Answer, text: &str) -> bool {
    !answer.status.is_success()
        && reasons(answer).is_some_and(|all| all.iter().any(|own| own.contains(text)))
}

/// The server answers 404 without a reason where nothing lies, with the metadata where a version was deleted, and with a
/// reason where no engine is mounted.
fn is_absence(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND
        && match reasons(answer) {
            Some(reasons) => reasons.is_empty(),
            None => answer.read::<Held>().is_ok(),
        }
}

fn error(answer: &Answer) -> SecretManagerError {
    let error = answer.error();
    let known = [
        ("permission denied", "permission denied"),
        ("no handler for route", "no engine is mounted there"),
        ("sealed", "the server is sealed"),
        (
            "rate limit quota exceeded",
            "the rate of requests is limited",
        ),
        ("check-and-set", "check-and-set failed"),
        ("standby", "no node is active"),
    ];
    let known = known.into_iter().find(|(text, _)| has_reason(answer, text));
    let error = error.with_code(known.map(|(_, code)| code));
    match answer.status.as_u16() {
        // A replica that is behind, a secondary one, or one that only stands by.
        412 | 472 | 473 => error.with_kind(Kind::Unavailable),
        _ => error,
    }
}

#[async_trait]
impl SecretStore for HashicorpSecrets {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        let path = self.path("data", &self.names.name(scope, name)?);
        let answer = self.ask(Method::GET, &path, None).await?;
        if is_absence(&answer) {
            return Ok(None);
        }
        if !answer.status.is_success() {
            return Err(error(&answer).into());
        }
        let data = answer.read::<Held>()?.data.data;
        match data.and_then(|mut data| data.remove(FIELD)) {
            Some(Value::String(text)) => Ok(Some(Secret::new(text))),
            _ => Err(StoreError::new(
                StoreErrorKind::Corrupt,
                "the secret in Vault has no text in its field `value`",
            )),
        }
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        let path = self.path("data", &self.names.name(scope, name)?);
        let mut body = json!({ "data": { FIELD: secret.secret() } });
        let mut attempt = 1;
        loop {
            let answer = self.ask(Method::POST, &path, Some(&body)).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            if attempt == WRITES || !has_reason(&answer, "check-and-set") {
                return Err(error(&answer).into());
            }
            attempt += 1;
            body["options"] = json!({ "cas": self.version(&path).await? });
        }
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        if self.get(scope, name).await?.is_none() {
            // The server confirms what was not there, too.
            return Ok(false);
        }
        let path = self.path("metadata", &self.names.name(scope, name)?);
        let answer = self.ask(Method::DELETE, &path, None).await?;
        match answer.status.is_success() {
            true => Ok(true),
            false => Err(error(&answer).into()),
        }
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        let path = self.path("metadata", &self.names.folder(scope));
        let list = Method::from_bytes(b"LIST").unwrap_or(Method::GET);
        let answer = self.ask(list, &path, None).await?;
        if is_absence(&answer) {
            return Ok(Vec::new());
        }
        if !answer.status.is_success() {
            return Err(error(&answer).into());
        }
        let keys = answer.read::<Listed>()?.data.keys;
        let mut names: Vec<_> = keys
            .iter()
            .filter_map(|key| self.names.read_in(key))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl fmt::Debug for HashicorpSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashicorpSecrets")
            .field("address", &self.server.address.as_str())
            .field("mount", &self.mount)
            .field("prefix", &self.names.prefix())
            .finish_non_exhaustive()
    }
}
