//! Secrets in Google Secret Manager, by its REST API (version 1). Tokens come by the crate `reqsign-google`.

mod credentials;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use mcp_core::{
    ConfigError,
    http_client::HttpClient,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{StoreError, StoreErrorKind},
};
use reqsign_core::Signer;
use reqsign_google::Credential;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

pub use self::credentials::GoogleCredentials;
use super::{
    SecretManagerError, SecretManagerErrorKind as Kind,
    api::{Answer, Api},
    names::{Names, Rules},
    pages::Pages,
    roles,
};

const SERVICE: &str = "Google Secret Manager";
const ENDPOINT: &str = "https://secretmanager.googleapis.com/";

/// How many names are asked for at once.
const PAGE: &str = "250";

/// How often a write is repeated that another one overtakes.
const WRITES: u32 = 4;

/// "secretId": 1 to 255 letters, digits, `-` and `_`.
pub(super) static RULES: Rules = Rules {
    mark: '-',
    plain: |byte| byte.is_ascii_alphanumeric() || byte == b'_',
    separator: "--",
    longest: 255,
    prefix: "give 1 to 64 letters, digits, _ and single dashes that do not begin or end with a dash",
    in_prefix: |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte),
};

/// Secrets in Google Secret Manager. Clones share everything.
///
/// A secret is named `{prefix}--{namespace}--{owner}--{name}`, where the owner is `shared` for what all users share by the
/// operator's word, else the partition in hexadecimal, and each byte other than `a-zA-Z0-9_` is written as `-` and two digits.
/// Secret Manager takes 255 characters in all; a longer name is refused as invalid.
///
/// The account needs, on the project, `secretmanager.secrets.create`, `.delete` and `.list`, and
/// `secretmanager.versions.access`, `.add` and `.destroy`: the role "Secret Manager Admin" has all of them. A condition on
/// names that begin with `{prefix}--` can narrow all but `create` and `list`.
///
/// The checksum of each value (CRC32C) is sent with a write, and checked after a read.
///
/// # Versions
///
/// A write adds a version and then destroys the one before it, which else could be read, and is paid for, without end. That
/// this fails is logged and is no error of the write.
///
/// # Security
///
/// Google and whoever has these rights there can read the secrets; put a [`Vault`](crate::vault::Vault) over another store,
/// with its key here ([`StoredKey`](crate::vault::StoredKey)), where that is too much. A secret that is deleted is gone at
/// once.
///
/// # Errors
///
/// A request that is throttled, or not answered, fails as unavailable and is not repeated here. The source of an error is a
/// [`SecretManagerError`].
#[derive(Clone)]
pub struct GoogleSecrets {
    api: Api,
    endpoint: Url,
    project: String,
    replication: Value,
    names: Names,
    signer: Signer<Credential>,
}

impl GoogleSecrets {
    /// Uses a project, by its id or number, and names that begin with `mcp`.
    ///
    /// # Errors
    ///
    /// The project's id is malformed.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the credentials belong to the store from now on"
    )]
    pub fn new(
        project: &str,
        credentials: GoogleCredentials,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self, ConfigError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let bad = || ConfigError::new("project", project, "give an id such as my-project-1");
        if project.is_empty() || project.len() > 64 || !project.bytes().all(plain) {
            return Err(bad());
        }
        Ok(Self {
            endpoint: Url::parse(ENDPOINT).map_err(|_| bad())?,
            project: project.to_owned(),
            replication: json!({ "automatic": {} }),
            names: Names::new(&RULES),
            signer: credentials.signer(Arc::clone(&http)),
            api: Api::new(SERVICE, http),
        })
    }

    /// Uses another endpoint: one in a private network, or whatever speaks like Secret Manager. It has to be `https`, or on
    /// this machine.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Url) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// Keeps new secrets in these locations, such as `europe-west3`. Default is to leave that to Google.
    #[must_use]
    pub fn with_locations<'a>(mut self, locations: impl IntoIterator<Item = &'a str>) -> Self {
        let replicas = locations.into_iter().map(|own| json!({ "location": own }));
        let replicas: Vec<_> = replicas.collect();
        self.replication = json!({ "userManaged": { "replicas": replicas } });
        self
    }

    /// Begins all names with another text. Default is `mcp`.
    ///
    /// # Errors
    ///
    /// It has other characters than letters, digits, `_` and single dashes inside, or more than 64.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        self.names = self.names.with_prefix(prefix)?;
        Ok(self)
    }

    /// The address of a method on all secrets, or on what `rest` names.
    fn url(&self, rest: &str) -> Result<Url, SecretManagerError> {
        let path = format!("v1/projects/{}/secrets{rest}", self.project);
        let joined = self.endpoint.join(&path);
        joined.map_err(|_| SecretManagerError::new(SERVICE, Kind::Refused))
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        body: Option<&Value>,
    ) -> Result<Answer, SecretManagerError> {
        let mut request = Api::request(method, body);
        let uri = url.as_str().parse();
        *request.uri_mut() = uri.map_err(|_| SecretManagerError::new(SERVICE, Kind::Refused))?;
        let request = roles::sign(SERVICE, &self.signer, request).await?;
        self.api.send(url, request).await
    }

    /// Creates a secret without a value. Another writer may have done so.
    async fn create(&self, name: &str) -> Result<(), SecretManagerError> {
        let mut url = self.url("")?;
        url.query_pairs_mut().append_pair("secretId", name);
        let body = json!({ "replication": self.replication });
        let answer = self.ask(Method::POST, &url, Some(&body)).await?;
        match known(&answer) == Some("ALREADY_EXISTS") {
            true => Ok(()),
            false => answer.done().map_err(|error| coded(error, &answer)),
        }
    }

    /// Destroys the version before one that was written.
    async fn destroy_before(&self, name: &str, version: &Version) {
        let number = version.name.rsplit('/').next();
        let number: Option<u64> = number.and_then(|number| number.parse().ok());
        let Some(before) = number.and_then(|number| number.checked_sub(1)) else {
            return;
        };
        if before == 0 {
            return;
        }
        let destroyed = async {
            let url = self.url(&format!("/{name}/versions/{before}:destroy"))?;
            let answer = self.ask(Method::POST, &url, Some(&json!({}))).await?;
            match known(&answer) {
                // It is destroyed already, or the secret was deleted.
                Some("FAILED_PRECONDITION" | "NOT_FOUND") => Ok(()),
                _ => answer.done().map_err(|error| coded(error, &answer)),
            }
        };
        if let Err(error) = destroyed.await {
            tracing::warn!(%error, "an old version of a secret stays in Google Secret Manager");
        }
    }
}

/// Returns the code of an error that is known here.
fn known(answer: &Answer) -> Option<&'static str> {
    if answer.status.is_success() {
        return None;
    }
    let said = answer.said();
    let code = said.get("error")?.get("status")?.as_str()?;
    let known = [
        "ABORTED",
        "ALREADY_EXISTS",
        "DEADLINE_EXCEEDED",
        "FAILED_PRECONDITION",
        "INTERNAL",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
        "UNAVAILABLE",
    ];
    known.into_iter().find(|own| *own == code)
}

fn coded(error: SecretManagerError, answer: &Answer) -> SecretManagerError {
    let code = known(answer);
    let error = error.with_code(code);
    match code {
        Some("ABORTED") => error.with_kind(Kind::Unavailable),
        _ => error,
    }
}

fn is_absence(answer: &Answer) -> bool {
    known(answer) == Some("NOT_FOUND")
}

/// The CRC32C of a value, as the API writes 64-bit numbers.
fn checksum(value: &[u8]) -> String {
    crc32c::crc32c(value).to_string()
}

#[derive(Deserialize)]
struct Accessed {
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    #[serde(default = "nothing")]
    data: Secret,
    data_crc32c: Option<String>,
}

fn nothing() -> Secret {
    Secret::new("")
}

#[derive(Deserialize)]
struct Version {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    secrets: Vec<Version>,
    next_page_token: Option<String>,
}

impl Payload {
    /// Reads the value, if it is the one that was written.
    fn text(&self) -> Result<Secret, StoreError> {
        let bad = |message| StoreError::new(StoreErrorKind::Corrupt, message);
        let bytes = STANDARD.decode(self.data.secret()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| SecretManagerError::malformed(SERVICE))?;
        if self
            .data_crc32c
            .as_ref()
            .is_some_and(|own| *own != checksum(&bytes))
        {
            return Err(bad("the secret from Google does not have its checksum"));
        }
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| bad("the secret in Google Secret Manager is not a text"))?;
        Ok(Secret::new(text))
    }
}

#[async_trait]
impl SecretStore for GoogleSecrets {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        let name = self.names.name(scope, name)?;
        let url = self.url(&format!("/{name}/versions/latest:access"))?;
        let answer = self.ask(Method::GET, &url, None).await?;
        if is_absence(&answer) {
            return Ok(None);
        }
        let accessed = answer.success::<Accessed>();
        let accessed = accessed.map_err(|error| coded(error, &answer))?;
        accessed.payload.text().map(Some)
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        let name = self.names.name(scope, name)?;
        let value = secret.secret().as_bytes();
        let body = json!({
            "payload": { "data": STANDARD.encode(value), "dataCrc32c": checksum(value) },
        });
        let url = self.url(&format!("/{name}:addVersion"))?;
        let mut attempt = 1;
        loop {
            let answer = self.ask(Method::POST, &url, Some(&body)).await?;
            if attempt < WRITES && is_absence(&answer) {
                self.create(&name).await?;
                attempt += 1;
                continue;
            }
            let version = answer.success::<Version>();
            let version = version.map_err(|error| coded(error, &answer))?;
            self.destroy_before(&name, &version).await;
            return Ok(());
        }
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        let url = self.url(&format!("/{}", self.names.name(scope, name)?))?;
        let answer = self.ask(Method::DELETE, &url, None).await?;
        if is_absence(&answer) {
            return Ok(false);
        }
        answer.done().map_err(|error| coded(error, &answer))?;
        Ok(true)
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        let folder = self.names.folder(scope);
        let mut pages = Pages::new(SERVICE);
        let mut next: Option<String> = None;
        let mut names = Vec::new();
        loop {
            let mut url = self.url("")?;
            url.query_pairs_mut()
                .append_pair("pageSize", PAGE)
                .append_pair("filter", &format!("name:{folder}"));
            if let Some(next) = &next {
                url.query_pairs_mut().append_pair("pageToken", next);
            }
            let answer = self.ask(Method::GET, &url, None).await?;
            let page = answer.success::<Page>();
            let page = page.map_err(|error| coded(error, &answer))?;
            let listed = page
                .secrets
                .iter()
                .filter_map(|own| own.name.rsplit('/').next());
            names.extend(listed.filter_map(|name| self.names.read(&folder, name)));
            next = page.next_page_token.filter(|next| !next.is_empty());
            let Some(next) = &next else { break };
            pages.next(next)?;
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl fmt::Debug for GoogleSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoogleSecrets")
            .field("project", &self.project)
            .field("prefix", &self.names.prefix())
            .finish_non_exhaustive()
    }
}
