//! Credentials by the `reqsign` crates: what they may reach, and in which order they are asked for.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, uri::Scheme};
use mcp_core::http_client::HttpClient;
use reqsign_core::{
    Context, Error, ErrorKind, FileRead, HttpSend, ProvideCredential, ProvideCredentialDyn, Result,
    Signer, SigningCredential, StaticEnv,
};
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::{SecretManagerError, SecretManagerErrorKind};
use crate::net;

/// The largest file with credentials that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The longest time that a token may live, in seconds. The crates add it to the present time and panic on a sum that no date
/// can hold.
const LONGEST_LIFE: u64 = 10 * 366 * 86_400;

/// What credentials are made from: variables, and who answers over `http` inside the cloud.
#[derive(Clone, Default)]
pub(super) struct Surroundings {
    pub(super) variables: HashMap<String, String>,
    pub(super) metadata: Option<Arc<dyn HttpClient>>,
}

impl Surroundings {
    pub(super) fn with_variables(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        self.variables = variables.into_iter().collect();
        self
    }

    pub(super) fn with_metadata(mut self, metadata: Arc<dyn HttpClient>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Lets the crates reach the network, files and these variables, and run no programs.
    pub(super) fn context(&self, http: Arc<dyn HttpClient>) -> Context {
        let env = StaticEnv {
            home_dir: self.variables.get("HOME").map(PathBuf::from),
            envs: self.variables.clone(),
        };
        let metadata = self.metadata.clone();
        Context::new()
            .with_http_send(Sender { http, metadata })
            .with_file_read(Files)
            .with_env(Variables(env))
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// Variables, whose values may be secrets.
struct Variables(StaticEnv);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

impl reqsign_core::Env for Variables {
    fn var(&self, key: &str) -> Option<String> {
        self.0.var(key)
    }

    fn vars(&self) -> HashMap<String, String> {
        self.0.vars()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.0.home_dir()
    }
}

/// Sends what the crates send: by `https` with the client of the store, by `http` with the one for metadata services.
#[derive(Debug)]
struct Sender {
    http: Arc<dyn HttpClient>,
    metadata: Option<Arc<dyn HttpClient>>,
}

impl HttpSend for Sender {
    async fn http_send(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let silent = |_| Error::unexpected("no answer").set_retryable(true);
        let (status, headers, body) = match &self.metadata {
            Some(metadata) if request.uri().scheme() == Some(&Scheme::HTTP) => {
                let (parts, body) = metadata.send(request).await.map_err(silent)?.into_parts();
                let body = body.collect(net::MAX_DOCUMENT).await.map_err(silent)?;
                (parts.status, parts.headers, body)
            }
            _ => {
                let url = Url::parse(&request.uri().to_string())
                    .map_err(|_| Error::config_invalid("not an address"))?;
                let answer = net::send(&self.http, &url, request).await;
                let answer = answer.map_err(|error| match error.is_transient() {
                    true => Error::unexpected("no answer").set_retryable(true),
                    false => Error::config_invalid("the address may not be reached"),
                })?;
                (answer.status, answer.headers, answer.body)
            }
        };
        check_life(&body)?;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Refuses a token that lives longer than any date.
fn check_life(body: &[u8]) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Life {
        expires_in: Option<serde_json::Number>,
    }
    let life = serde_json::from_slice::<Life>(body).ok();
    let life = life.and_then(|life| life.expires_in);
    match life.is_some_and(|life| life.as_u64().is_none_or(|life| life > LONGEST_LIFE)) {
        true => Err(Error::unexpected("a token with an impossible lifetime")),
        false => Ok(()),
    }
}

/// Reads files of bounded size.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(MAX_FILE).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}

/// A provider of one of the crates.
pub(super) type Provider<C> = Arc<dyn ProvideCredentialDyn<Credential = C>>;

/// Credentials that the caller has.
pub(super) struct Fixed<C>(pub(super) C);

impl<C> fmt::Debug for Fixed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fixed")
    }
}

impl<C: Clone + Send + Sync + Unpin + 'static> ProvideCredential for Fixed<C> {
    type Credential = C;

    async fn provide_credential(&self, _: &Context) -> Result<Option<C>> {
        Ok(Some(self.0.clone()))
    }
}

/// The first provider that has credentials.
///
/// The chains of the crates answer "none" when all have failed, and write the reasons, with answers of servers, to the log.
pub(super) struct FirstOf<C>(pub(super) Vec<Provider<C>>);

impl<C> fmt::Debug for FirstOf<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstOf")
    }
}

impl<C: Send + Sync + Unpin + 'static> ProvideCredential for FirstOf<C> {
    type Credential = C;

    async fn provide_credential(&self, context: &Context) -> Result<Option<C>> {
        let mut first = None;
        for provider in &self.0 {
            match provider.provide_credential_dyn(context).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        first.map_or(Ok(None), Err)
    }
}

/// Signs a request, or says why there is nothing to sign with.
pub(super) async fn sign<C: SigningCredential>(
    service: &'static str,
    signer: &Signer<C>,
    request: Request<Bytes>,
) -> std::result::Result<Request<Bytes>, SecretManagerError> {
    let (mut parts, body) = request.into_parts();
    match signer.sign(&mut parts, None).await {
        Ok(()) => Ok(Request::from_parts(parts, body)),
        // The error may repeat answers of servers: its kind is enough.
        Err(error) => Err(of_credentials(service, &error)),
    }
}

fn of_credentials(service: &'static str, error: &Error) -> SecretManagerError {
    let kind = match error.kind() {
        ErrorKind::RateLimited => SecretManagerErrorKind::Throttled,
        _ if error.is_retryable() => SecretManagerErrorKind::Unavailable,
        _ => SecretManagerErrorKind::NoCredentials,
    };
    let code = match error.kind() {
        ErrorKind::CredentialInvalid => "the credentials are missing or have ended",
        ErrorKind::PermissionDenied => "the role may not be assumed, or a file may not be read",
        ErrorKind::ConfigInvalid => "a file, a variable or a setting of the credentials is wrong",
        ErrorKind::RequestInvalid => "the request for credentials is refused",
        ErrorKind::RateLimited => "the rate of requests for credentials is limited",
        ErrorKind::Unexpected => "the service that gives credentials did not answer as it should",
    };
    SecretManagerError::new(service, kind).with_code(Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_outlives_all_dates_is_refused() {
        for (body, fits) in [
            (r#"{"access_token":"x","expires_in":3600}"#, true),
            (
                r#"{"access_token":"x","expires_in":18446744073709551615}"#,
                false,
            ),
            (
                r#"{"access_token":"x","expires_in":99999999999999999999}"#,
                false,
            ),
            (r#"{"access_token":"x","expires_in":-1}"#, false),
            ("<xml/>", true),
            ("[]", true),
        ] {
            assert_eq!(check_life(body.as_bytes()).is_ok(), fits, "{body}");
        }
    }
}
