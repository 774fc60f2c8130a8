use std::{fmt, path::Path, path::PathBuf, sync::Arc};

use mcp_core::{http_client::HttpClient, secret::Secret};
use reqsign_core::{Context, ErrorKind, ProvideCredential, Result, Signer};
use reqsign_google::{
    Credential, RequestSigner, ServiceAccountTokenCredentialProvider, StaticCredentialProvider,
    VmMetadataCredentialProvider,
};
use serde_json::{Value, json};

use crate::vault::managers::roles::{FirstOf, Fixed, Provider, Surroundings};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// As whom Google Cloud is asked.
///
/// The crate `reqsign-google` gets a token when it is needed, keeps it, and gets another two minutes before it ends; if that
/// fails, calls fail, even while the old one lasts. Variables
/// are those that the caller gives, usually [`std::env::vars`]: the environment itself is never read.
///
/// A file or a text is what Google's console and tools write: the key of a service account, the configuration of workload
/// identity federation (`external_account`), an impersonated service account, or the login of a user
/// (`authorized_user`). A configuration that gets its token from a program is refused.
///
/// # Security
///
/// The metadata service answers over plain `http` at `metadata.google.internal` (169.254.169.254) and is asked by a client of
/// its own. Whatever can send a request with that client holds the rights of the machine: use it for nothing else. A
/// configuration of federation names the addresses that get the workload's token: take it from nobody but the operator.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
///
/// use mcp_auth::vault::GoogleCredentials;
/// use mcp_core::http_client::GuardedClient;
///
/// # fn main() -> Result<(), mcp_core::ConfigError> {
/// let metadata = GuardedClient::builder()
///     .allow_origin("http://metadata.google.internal")?
///     .without_tls()
///     .build()?;
/// let credentials = GoogleCredentials::default_chain(std::env::vars(), Arc::new(metadata));
/// # let _ = credentials;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GoogleCredentials {
    kind: Kind,
    surroundings: Surroundings,
}

#[derive(Clone)]
enum Kind {
    Json(Secret),
    File(PathBuf),
    Metadata,
    Default,
}

impl GoogleCredentials {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            surroundings: Surroundings::default(),
        }
    }

    /// Takes the text of a file with credentials.
    #[must_use]
    pub fn from_json(text: Secret) -> Self {
        Self::of(Kind::Json(text))
    }

    /// Takes a file with credentials. It is read when a token is needed.
    #[must_use]
    pub fn from_file(path: impl AsRef<Path>) -> Self {
        Self::of(Kind::File(path.as_ref().to_owned()))
    }

    /// Takes the service account of the machine, or of the pod where GKE gives each one its own.
    #[must_use]
    pub fn metadata(metadata: Arc<dyn HttpClient>) -> Self {
        let mut own = Self::of(Kind::Metadata);
        own.surroundings = own.surroundings.with_metadata(metadata);
        own
    }

    /// Takes what there is, in this order: the file in `GOOGLE_APPLICATION_CREDENTIALS`, the login of `gcloud` below `HOME`, the
    /// service account of the machine.
    #[must_use]
    pub fn default_chain(
        variables: impl IntoIterator<Item = (String, String)>,
        metadata: Arc<dyn HttpClient>,
    ) -> Self {
        let mut own = Self::metadata(metadata);
        own.kind = Kind::Default;
        own.surroundings = own.surroundings.with_variables(variables);
        own
    }

    /// What adds tokens to requests.
    pub(super) fn signer(&self, http: Arc<dyn HttpClient>) -> Signer<Credential> {
        let context = self.surroundings.context(http);
        let signer = RequestSigner::new("secretmanager").with_scope(SCOPE);
        Signer::new(context, Tokens(self.provider()), signer)
    }

    fn provider(&self) -> Provider<Credential> {
        let machine = || VmMetadataCredentialProvider::new().with_scope(SCOPE);
        match &self.kind {
            Kind::Json(text) => Arc::new(Configured::Text(text.clone())),
            Kind::File(path) => Arc::new(Configured::File(path.clone())),
            Kind::Metadata => Arc::new(machine()),
            Kind::Default => Arc::new(FirstOf(vec![
                Arc::new(Configured::Variable),
                Arc::new(Configured::Login),
                Arc::new(machine()),
            ])),
        }
    }
}

impl fmt::Debug for GoogleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Json(_) => "GoogleCredentials(text)",
            Kind::File(_) => "GoogleCredentials(file)",
            Kind::Metadata => "GoogleCredentials(metadata)",
            Kind::Default => "GoogleCredentials(default chain)",
        })
    }
}

/// A text with credentials, and where it is.
enum Configured {
    Text(Secret),
    File(PathBuf),
    /// In the file that `GOOGLE_APPLICATION_CREDENTIALS` names.
    Variable,
    /// Where `gcloud auth application-default login` puts it.
    Login,
}

impl Configured {
    async fn text(&self, context: &Context) -> Result<Option<Secret>> {
        let path = match self {
            Self::Text(text) => return Ok(Some(text.clone())),
            Self::File(path) => Some(path.clone()),
            Self::Variable => context
                .env_var("GOOGLE_APPLICATION_CREDENTIALS")
                .map(PathBuf::from),
            Self::Login => {
                let folder = match (context.env_var("APPDATA"), context.home_dir()) {
                    (Some(folder), _) => Some(PathBuf::from(folder)),
                    (None, home) => home.map(|home| home.join(".config")),
                };
                folder.map(|folder| folder.join("gcloud/application_default_credentials.json"))
            }
        };
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(None);
        };
        match context.file_read_as_string(&path.to_string_lossy()).await {
            Ok(text) => Ok(Some(Secret::new(text))),
            // Nobody has to have logged in.
            Err(error)
                if matches!(self, Self::Login) && error.kind() == ErrorKind::ConfigInvalid =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configured")
    }
}

impl ProvideCredential for Configured {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Credential>> {
        let Some(text) = self.text(context).await? else {
            return Ok(None);
        };
        StaticCredentialProvider::new(complete(&text).secret())
            .with_scope(SCOPE)
            .provide_credential(context)
            .await
    }
}

/// Writes down that a file or an address has the bare token, where a configuration of federation says nothing about it
/// (AIP-4117): the crate wants to be told.
fn complete(text: &Secret) -> Secret {
    let Ok(mut json) = serde_json::from_str::<Value>(text.secret()) else {
        return text.clone();
    };
    match json.get_mut("credential_source") {
        Some(Value::Object(source))
            if source.contains_key("file") || source.contains_key("url") =>
        {
            source
                .entry("format")
                .or_insert_with(|| json!({ "type": "text" }));
        }
        _ => return text.clone(),
    }
    Secret::new(json.to_string())
}

/// Tokens of another provider's credentials.
///
/// The signer of the crate exchanges the key of a service account at each request; what is a token when it comes from here is
/// kept.
struct Tokens(Provider<Credential>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl ProvideCredential for Tokens {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Credential>> {
        let found = self.0.provide_credential_dyn(context).await?;
        match found {
            Some(found) if found.service_account.is_some() => {
                ServiceAccountTokenCredentialProvider::from_provider(Fixed(found))
                    .with_scope(SCOPE)
                    .provide_credential(context)
                    .await
            }
            found => Ok(found),
        }
    }
}
