//! Secrets in Azure Key Vault, by its REST API (version 7.4). Tokens come by the crate `azure_identity`.

mod credentials;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{cloud::CloudConfiguration, credentials::TokenCredential};
use http::Method;
use mcp_core::{
    ConfigError,
    http_client::HttpClient,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::StoreError,
};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

pub use self::credentials::AzureCredentials;
use super::{
    SecretManagerError, SecretManagerErrorKind as Kind,
    api::{Answer, Api, bearer},
    names::{Names, Rules},
    pages::Pages,
};
use crate::net;

const SERVICE: &str = "Azure Key Vault";
const VERSION: &str = "7.4";

/// How many names are asked for at once: the most that there are.
const PAGE: &str = "25";

/// How often a request is made that the vault cannot take while it deletes or restores a secret.
const ATTEMPTS: u32 = 14;

/// The longest time between two of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// "Secret name": 1 to 127 of `0-9a-zA-Z-`. Upper case and lower case are the same there.
pub(super) static RULES: Rules = Rules {
    mark: '-',
    plain: |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(),
    separator: "--",
    longest: 127,
    prefix: "give 1 to 64 of a-z, 0-9 and single dashes that do not begin or end with a dash",
    in_prefix: |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-',
};

/// Secrets in a vault of Azure Key Vault. Clones share everything.
///
/// A secret is named `{prefix}--{namespace}--{owner}--{name}`, where the owner is `shared` for what all users share by the
/// operator's word, else the partition in hexadecimal, and each byte other than `a-z0-9` is written as `-` and two digits. Key
/// Vault takes 127 characters in all, which leaves about 80 for a name of small letters and digits; a longer one is refused
/// as invalid.
///
/// The identity needs `get`, `set`, `delete` and `list` for secrets, and `recover`, or `purge` for [`Self::with_purge`]: the
/// role "Key Vault Secrets Officer" has all of them.
///
/// # Deleted secrets
///
/// Key Vault keeps a deleted secret for 7 to 90 days, under a name that cannot be written in the meantime. A write to such a
/// name restores the secret and then writes its next version: until then, for seconds, the deleted value can be read again.
/// With [`Self::with_purge`] a deleted secret is destroyed, which vaults with purge protection refuse.
///
/// # Security
///
/// Earlier versions of a secret stay until it is purged. A list reads the names of all secrets of the vault: use a vault for
/// this program alone. Azure and whoever has these rights there can read the secrets; put a [`Vault`](crate::vault::Vault) over
/// another store, with its key here ([`StoredKey`](crate::vault::StoredKey)), where that is too much.
///
/// # Errors
///
/// A request that is throttled, or not answered, fails as unavailable and is not repeated here. The source of an error is a
/// [`SecretManagerError`].
///
/// # Cancel safety
///
/// A dropped write may leave a restored secret with its old value.
#[derive(Clone)]
pub struct AzureSecrets {
    api: Api,
    vault: Url,
    scope: &'static str,
    names: Names,
    tokens: Arc<dyn TokenCredential>,
    purge: bool,
}

impl AzureSecrets {
    /// Uses a vault, such as `https://NAME.vault.azure.net`, and names that begin with `mcp`.
    ///
    /// The cloud is that of the vault's name: the public one, China (`vault.azure.cn`) or the government's
    /// (`vault.usgovcloudapi.net`).
    ///
    /// # Errors
    ///
    /// The address is not `https` or has a path, or the credentials cannot be used.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the credentials belong to the store from now on"
    )]
    pub fn new(
        mut vault: Url,
        credentials: AzureCredentials,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self, ConfigError> {
        if !net::is_secure(&vault) || vault.path() != "/" || vault.query().is_some() {
            let expected = "give an https address without a path";
            return Err(ConfigError::new("vault", net::shown(&vault), expected));
        }
        vault.set_fragment(None);
        let host = vault.host_str().unwrap_or_default();
        let (cloud, scope) = if host.ends_with(".vault.azure.cn") {
            let scope = "https://vault.azure.cn/.default";
            (CloudConfiguration::AzureChina, scope)
        } else if host.ends_with(".vault.usgovcloudapi.net") {
            let scope = "https://vault.usgovcloudapi.net/.default";
            (CloudConfiguration::AzureGovernment, scope)
        } else {
            let scope = "https://vault.azure.net/.default";
            (CloudConfiguration::AzurePublic, scope)
        };
        Ok(Self {
            vault,
            scope,
            names: Names::new(&RULES),
            tokens: credentials.tokens(cloud, &http)?,
            api: Api::new(SERVICE, http),
            purge: false,
        })
    }

    /// Begins all names with another text. Default is `mcp`.
    ///
    /// # Errors
    ///
    /// It has other characters than `a-z`, `0-9` and single dashes inside, or more than 64.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        self.names = self.names.with_prefix(prefix)?;
        Ok(self)
    }

    /// Destroys secrets that are deleted, so that nobody can restore them. Default is to leave that to the vault.
    #[must_use]
    pub const fn with_purge(mut self) -> Self {
        self.purge = true;
        self
    }

    fn url(&self, path: &str) -> Result<Url, SecretManagerError> {
        let joined = self.vault.join(path);
        let mut url = joined.map_err(|_| SecretManagerError::new(SERVICE, Kind::Refused))?;
        url.query_pairs_mut().append_pair("api-version", VERSION);
        Ok(url)
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        body: Option<&Value>,
    ) -> Result<Answer, SecretManagerError> {
        let token = credentials::token(&self.tokens, self.scope).await?;
        let mut request = Api::request(method, body);
        bearer(&mut request, token.secret())
            .map_err(|()| SecretManagerError::malformed(SERVICE))?;
        self.api.send(url, request).await
    }

    /// Destroys a secret that is deleted.
    async fn purge(&self, name: &str) -> Result<(), SecretManagerError> {
        let url = self.url(&format!("deletedsecrets/{name}"))?;
        let mut attempt = 0;
        loop {
            let answer = self.ask(Method::DELETE, &url, None).await?;
            // It is among the deleted ones a while after it was deleted.
            let is_early = is_absence(&answer) || is_moving(&answer);
            if !is_early || attempt == ATTEMPTS {
                return answer.done().map_err(|error| coded(error, &answer));
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// Makes the name of a deleted secret one that can be written.
    async fn free(&self, name: &str) -> Result<(), SecretManagerError> {
        let (method, path) = match self.purge {
            true => (Method::DELETE, format!("deletedsecrets/{name}")),
            false => (Method::POST, format!("deletedsecrets/{name}/recover")),
        };
        let answer = self.ask(method, &self.url(&path)?, None).await?;
        match is_absence(&answer) || is_moving(&answer) {
            // Another writer does it.
            true => Ok(()),
            false => answer.done().map_err(|error| coded(error, &answer)),
        }
    }
}

/// Waits for what the vault does by itself.
async fn pause(attempt: u32) {
    let pause = Duration::from_millis(100).saturating_mul(1 << attempt.min(10));
    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
}

/// Returns the code of an error that is known here; the inner one says more than the outer.
fn known(answer: &Answer) -> Option<&'static str> {
    let said = answer.said();
    let error = said.get("error")?;
    let inner = error.get("innererror").and_then(|inner| inner.get("code"));
    let codes = [inner, error.get("code")].into_iter().flatten();
    let known = [
        "BadParameter",
        "Forbidden",
        "ForbiddenByPolicy",
        "ForbiddenByRbac",
        "ForbiddenByFirewall",
        "ObjectIsBeingDeleted",
        "ObjectIsBeingRecovered",
        "ObjectIsDeletedButRecoverable",
        "SecretDisabled",
        "SecretNotFound",
        "Throttled",
        "Unauthorized",
    ];
    let mut found = codes.filter_map(|code| {
        let code = code.as_str()?;
        known.into_iter().find(|own| *own == code)
    });
    found.next()
}

fn coded(error: SecretManagerError, answer: &Answer) -> SecretManagerError {
    match known(answer) {
        // What lasts longer than it was waited for.
        Some(code) if is_moving(answer) => error.with_kind(Kind::Unavailable).with_code(Some(code)),
        code => error.with_code(code),
    }
}

fn is_absence(answer: &Answer) -> bool {
    !answer.status.is_success() && known(answer) == Some("SecretNotFound")
}

/// Whether the vault is about to delete or restore the secret.
fn is_moving(answer: &Answer) -> bool {
    let moving = ["ObjectIsBeingDeleted", "ObjectIsBeingRecovered"];
    !answer.status.is_success() && known(answer).is_some_and(|code| moving.contains(&code))
}

#[derive(Deserialize)]
struct Held {
    value: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    recovery_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    value: Vec<Listed>,
    next_link: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    id: Url,
}

#[async_trait]
impl SecretStore for AzureSecrets {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        let url = self.url(&format!("secrets/{}", self.names.name(scope, name)?))?;
        let answer = self.ask(Method::GET, &url, None).await?;
        if is_absence(&answer) || is_moving(&answer) {
            return Ok(None);
        }
        let held = answer.success::<Held>();
        Ok(Some(held.map_err(|error| coded(error, &answer))?.value))
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        let name = self.names.name(scope, name)?;
        let url = self.url(&format!("secrets/{name}"))?;
        let body = json!({ "value": secret.secret() });
        let mut attempt = 0;
        loop {
            let answer = self.ask(Method::PUT, &url, Some(&body)).await?;
            let is_deleted = known(&answer) == Some("ObjectIsDeletedButRecoverable");
            let is_passing = is_deleted || is_moving(&answer);
            if answer.status.is_success() || !is_passing || attempt == ATTEMPTS {
                return Ok(answer.done().map_err(|error| coded(error, &answer))?);
            }
            if is_deleted {
                self.free(&name).await?;
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        let name = self.names.name(scope, name)?;
        let url = self.url(&format!("secrets/{name}"))?;
        let answer = self.ask(Method::DELETE, &url, None).await?;
        if is_absence(&answer) || is_moving(&answer) {
            return Ok(false);
        }
        let deleted = answer.success::<Deleted>();
        let deleted = deleted.map_err(|error| coded(error, &answer))?;
        // Vaults of old do not keep what is deleted.
        if self.purge && deleted.recovery_id.is_some() {
            self.purge(&name).await?;
        }
        Ok(true)
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        let folder = self.names.folder(scope);
        let mut pages = Pages::new(SERVICE);
        let mut url = self.url("secrets")?;
        url.query_pairs_mut().append_pair("maxresults", PAGE);
        let mut names = Vec::new();
        loop {
            let answer = self.ask(Method::GET, &url, None).await?;
            let page = answer.success::<Page>();
            let page = page.map_err(|error| coded(error, &answer))?;
            names.extend(page.value.iter().filter_map(|own| {
                let last = own.id.path_segments()?.next_back()?;
                self.names.read(&folder, &last.to_ascii_lowercase())
            }));
            let Some(next) = page.next_link.filter(|next| !next.is_empty()) else {
                break;
            };
            pages.next(&next)?;
            url = Url::parse(&next)
                .ok()
                // The token goes to this vault and to no other address.
                .filter(|next| next.origin() == self.vault.origin() && next.path() == "/secrets")
                .ok_or_else(|| SecretManagerError::malformed(SERVICE))?;
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl fmt::Debug for AzureSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureSecrets")
            .field("vault", &self.vault.as_str())
            .field("prefix", &self.names.prefix())
            .finish_non_exhaustive()
    }
}
