use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use azure_core::{
    Result,
    cloud::CloudConfiguration,
    credentials::{Secret as AzureSecret, TokenCredential},
    error::{Error, ErrorKind},
    http::{
        AsyncRawResponse, ClientOptions, HttpClient as AzureClient, Request, RetryOptions,
        Transport, headers::Headers, request::Body,
    },
};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use bytes::Bytes;
use mcp_core::{ConfigError, http_client::HttpClient, secret::Secret};
use url::Url;

use super::{Kind, SERVICE, SecretManagerError};
use crate::net;

/// How long a token may take to come.
const TOKEN_TIME: Duration = Duration::from_secs(30);

/// The longest time that a token may live, in seconds. The crate adds it to the present time and panics on a sum that no
/// date can hold.
const LONGEST_LIFE: i64 = 10 * 366 * 86_400;

/// As whom Azure Key Vault is asked.
///
/// The crate `azure_identity` gets a token for the scope of the vault's cloud when it is needed, keeps it, and gets another
/// five minutes before it ends.
///
/// # Security
///
/// [`Self::managed_identity`] gets tokens over plain `http` from 169.254.169.254, by a client of its own. Whatever can send a
/// request with that client holds the rights of the machine: use it for nothing else.
#[derive(Clone)]
pub struct AzureCredentials(Source);

#[derive(Clone)]
enum Source {
    ClientSecret {
        tenant: String,
        client: String,
        secret: Secret,
    },
    WorkloadIdentity {
        tenant: String,
        client: String,
        token_file: PathBuf,
    },
    ManagedIdentity {
        client: Option<String>,
        metadata: Arc<dyn HttpClient>,
    },
}

impl AzureCredentials {
    /// Takes an application's id and secret at a tenant of Microsoft Entra (OAuth 2.0 client credentials).
    #[must_use]
    pub fn client_secret(tenant: &str, client: &str, secret: Secret) -> Self {
        Self(Source::ClientSecret {
            tenant: tenant.to_owned(),
            client: client.to_owned(),
            secret,
        })
    }

    /// Takes an application's id and a file with the token of another issuer that the application trusts, as pods on AKS have
    /// it in `AZURE_FEDERATED_TOKEN_FILE`. The file is read when the store is made, and again after ten minutes.
    #[must_use]
    pub fn workload_identity(tenant: &str, client: &str, token_file: impl AsRef<Path>) -> Self {
        Self(Source::WorkloadIdentity {
            tenant: tenant.to_owned(),
            client: client.to_owned(),
            token_file: token_file.as_ref().to_owned(),
        })
    }

    /// Takes the identity of the virtual machine, or that of an App Service, which the platform names by `IDENTITY_ENDPOINT` and
    /// `IDENTITY_HEADER`: `azure_identity` reads these two from the environment, and nobody can give others.
    ///
    /// `metadata` has to reach `http://169.254.169.254`, or the address in `IDENTITY_ENDPOINT`.
    #[must_use]
    pub fn managed_identity(metadata: Arc<dyn HttpClient>) -> Self {
        Self(Source::ManagedIdentity {
            client: None,
            metadata,
        })
    }

    /// Names which of several managed identities is meant, by its client id. For other credentials it does nothing.
    #[must_use]
    pub fn with_client_id(mut self, id: &str) -> Self {
        if let Source::ManagedIdentity { client, .. } = &mut self.0 {
            *client = Some(id.to_owned());
        }
        self
    }

    /// Makes what gets tokens in a cloud.
    pub(super) fn tokens(
        &self,
        cloud: CloudConfiguration,
        http: &Arc<dyn HttpClient>,
    ) -> std::result::Result<Arc<dyn TokenCredential>, ConfigError> {
        let client_options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(self.sender(http)))),
            // Without one the crate would read the environment.
            cloud: Some(Arc::new(cloud)),
            ..ClientOptions::default()
        };
        let made = match &self.0 {
            Source::ClientSecret {
                tenant,
                client,
                secret,
            } => {
                let secret = AzureSecret::new(secret.secret().to_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(tenant, client.clone(), secret, Some(options))
                    .map(|own| own as Arc<dyn TokenCredential>)
            }
            Source::WorkloadIdentity {
                tenant,
                client,
                token_file,
            } => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: Some(client.clone()),
                tenant_id: Some(tenant.clone()),
                token_file_path: Some(token_file.clone()),
            }))
            .map(|own| own as Arc<dyn TokenCredential>),
            Source::ManagedIdentity { client, .. } => {
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id: client.clone().map(UserAssignedId::ClientId),
                    client_options,
                }))
                .map(|own| own as Arc<dyn TokenCredential>)
            }
        };
        made.map_err(|error| {
            let expected =
                "give ids of a tenant and a client, and a secret or a file that can be read";
            ConfigError::new("credentials", self.shown(), expected).with_source(error)
        })
    }

    fn sender(&self, http: &Arc<dyn HttpClient>) -> Sender {
        match &self.0 {
            Source::ManagedIdentity { metadata, .. } => Sender {
                http: Arc::clone(metadata),
                plain: true,
            },
            _ => Sender {
                http: Arc::clone(http),
                plain: false,
            },
        }
    }

    const fn shown(&self) -> &'static str {
        match self.0 {
            Source::ClientSecret { .. } => "client secret",
            Source::WorkloadIdentity { .. } => "workload identity",
            Source::ManagedIdentity { .. } => "managed identity",
        }
    }
}

impl fmt::Debug for AzureCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AzureCredentials({})", self.shown())
    }
}

/// Gets a token for a scope.
pub(super) async fn token(
    tokens: &Arc<dyn TokenCredential>,
    scope: &str,
) -> std::result::Result<Secret, SecretManagerError> {
    let scopes = [scope];
    let asked = tokens.get_token(&scopes, None);
    let no_token = |kind, code| SecretManagerError::new(SERVICE, kind).with_code(Some(code));
    let silent = "the service that gives tokens did not answer as it should";
    match tokio::time::timeout(TOKEN_TIME, asked).await {
        // The crate takes an answer without a token for an empty one.
        Ok(Ok(token)) if token.token.secret().is_empty() => {
            Err(no_token(Kind::Unavailable, silent))
        }
        Ok(Ok(token)) => Ok(Secret::new(token.token.secret().to_owned())),
        // The error may repeat answers of servers: its status is enough.
        Ok(Err(error)) => Err(match status_of(&error) {
            Some(429) => no_token(Kind::Throttled, "the rate of tokens is limited"),
            Some(400..=499) => no_token(Kind::NoCredentials, "no token was given"),
            _ => no_token(Kind::Unavailable, silent),
        }),
        Err(_) => Err(no_token(Kind::Unavailable, silent)),
    }
}

/// The status of the answer that an error comes from.
fn status_of(error: &Error) -> Option<u16> {
    let mut current: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = current {
        let own = error.downcast_ref::<Error>();
        if let Some(status) = own.and_then(Error::http_status) {
            return Some(status.into());
        }
        current = error.source();
    }
    None
}

/// Sends what `azure_identity` writes.
#[derive(Debug)]
struct Sender {
    http: Arc<dyn HttpClient>,
    /// Whether it may be sent over `http` to another machine.
    plain: bool,
}

impl Sender {
    async fn exchange(&self, request: &Request) -> Option<(u16, http::HeaderMap, Bytes)> {
        let url: &Url = request.url();
        let Body::Bytes(body) = request.body().clone() else {
            return None;
        };
        let mut sent = http::Request::builder().method(request.method().as_str());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        let sent = sent.uri(url.as_str()).body(body).ok()?;
        if self.plain {
            let (parts, body) = self.http.send(sent).await.ok()?.into_parts();
            let body = body.collect(net::MAX_DOCUMENT).await.ok()?;
            return Some((parts.status.as_u16(), parts.headers, body));
        }
        let answer = net::send(&self.http, url, sent).await.ok()?;
        Some((answer.status.as_u16(), answer.headers, answer.body))
    }
}

#[async_trait]
impl AzureClient for Sender {
    async fn execute_request(&self, request: &Request) -> Result<AsyncRawResponse> {
        let silent = || Error::with_message(ErrorKind::Other, "no answer");
        let (status, headers, body) = self.exchange(request).await.ok_or_else(silent)?;
        if !may_live(&body) {
            return Err(silent());
        }
        let mut copied = Headers::new();
        for (name, value) in &headers {
            if let Ok(value) = value.to_str() {
                copied.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), copied, body))
    }
}

/// Returns whether a token ends at a date that can be written.
fn may_live(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Life {
        expires_in: Option<serde_json::Value>,
    }
    let life = serde_json::from_slice::<Life>(body).ok();
    match life.and_then(|life| life.expires_in) {
        // Metadata services write texts, which the crate does not read.
        Some(serde_json::Value::Number(life)) => {
            matches!(life.as_i64(), Some(0..=LONGEST_LIFE))
        }
        _ => true,
    }
}
