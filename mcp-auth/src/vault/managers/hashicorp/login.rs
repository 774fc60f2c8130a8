use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;
use mcp_core::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use super::{Kind, SERVICE, SecretManagerError, Server};

/// The largest token file that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Where Kubernetes puts the token of a pod's service account.
const KUBERNETES_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The longest lease that is believed in: a token is looked after at least once in this time.
const LONGEST_LEASE: Duration = Duration::from_secs(32 * 86_400);

/// How long a token is used on when it could not be renewed, before that is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// How a token of HashiCorp Vault or OpenBao is had.
///
/// A token is renewed by the first call after two thirds of its lease; one that is not used in the last third ends. One that
/// cannot be renewed, or that the server does not take any more, is replaced by logging in again; [`Self::token`] has nothing
/// to log in with.
#[derive(Clone)]
pub struct HashicorpLogin {
    method: LoginMethod,
    mount: Option<String>,
}

#[derive(Clone)]
enum LoginMethod {
    Token(Secret),
    AppRole { role: String, secret: Secret },
    Kubernetes { role: String, file: PathBuf },
}

impl HashicorpLogin {
    const fn of(method: LoginMethod) -> Self {
        Self {
            method,
            mount: None,
        }
    }

    /// Takes a token. It is renewed if it can be, and used until it ends.
    #[must_use]
    pub const fn token(token: Secret) -> Self {
        Self::of(LoginMethod::Token(token))
    }

    /// Logs in as a role with a secret id (AppRole). A secret id that works once is enough as long as the token can be renewed.
    #[must_use]
    pub fn app_role(role_id: &str, secret_id: Secret) -> Self {
        Self::of(LoginMethod::AppRole {
            role: role_id.to_owned(),
            secret: secret_id,
        })
    }

    /// Logs in as a role with the service account of the pod. The file with its token is read again at each login.
    #[must_use]
    pub fn kubernetes(role: &str) -> Self {
        Self::of(LoginMethod::Kubernetes {
            role: role.to_owned(),
            file: PathBuf::from(KUBERNETES_FILE),
        })
    }

    /// Reads the token of the service account from another file. For other methods it does nothing.
    #[must_use]
    pub fn with_token_file(mut self, path: impl AsRef<Path>) -> Self {
        if let LoginMethod::Kubernetes { file, .. } = &mut self.method {
            path.as_ref().clone_into(file);
        }
        self
    }

    /// Names where the method is mounted. Default is `approle` or `kubernetes`.
    #[must_use]
    pub fn with_mount(mut self, mount: &str) -> Self {
        self.mount = Some(mount.trim_matches('/').to_owned());
        self
    }

    /// The path and the body of a login; none where there is a token already.
    async fn request(&self) -> Result<Option<(String, Value)>, SecretManagerError> {
        let (default, body) = match &self.method {
            LoginMethod::Token(_) => return Ok(None),
            LoginMethod::AppRole { role, secret } => {
                let body = json!({ "role_id": role, "secret_id": secret.secret() });
                ("approle", body)
            }
            LoginMethod::Kubernetes { role, file } => {
                let token = read(file).await.map_err(|_| {
                    SecretManagerError::new(SERVICE, Kind::NoCredentials)
                        .with_code(Some("the token of the service account cannot be read"))
                })?;
                ("kubernetes", json!({ "role": role, "jwt": token.trim() }))
            }
        };
        let mount = self.mount.as_deref().unwrap_or(default);
        Ok(Some((format!("auth/{mount}/login"), body)))
    }
}

async fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_FILE).read_to_string(&mut text).await?;
    Ok(text)
}

impl fmt::Debug for HashicorpLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.method {
            LoginMethod::Token(_) => "HashicorpLogin(token)",
            LoginMethod::AppRole { .. } => "HashicorpLogin(app role)",
            LoginMethod::Kubernetes { .. } => "HashicorpLogin(kubernetes)",
        })
    }
}

/// The token that is there now, and until when.
#[derive(Clone)]
struct Lease {
    token: Secret,
    renewable: bool,
    /// When to look after it; never, for a token that does not end.
    due: Option<Instant>,
    /// When it ends.
    end: Option<Instant>,
}

/// What a login, or a renewal, answers with.
#[derive(Deserialize)]
struct Authenticated {
    auth: Granted,
}

#[derive(Deserialize)]
struct Granted {
    client_token: Secret,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// What a token says of itself.
#[derive(Deserialize)]
struct Found {
    data: FoundData,
}

#[derive(Deserialize)]
struct FoundData {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Lease {
    fn new(token: Secret, seconds: u64, renewable: bool) -> Self {
        let lease = Duration::from_secs(seconds).min(LONGEST_LEASE);
        Self {
            token,
            renewable,
            due: (seconds != 0).then(|| Instant::now() + lease * 2 / 3),
            end: (seconds != 0).then(|| Instant::now() + lease),
        }
    }

    fn of(granted: Granted) -> Self {
        let Granted {
            client_token,
            lease_duration,
            renewable,
        } = granted;
        Self::new(client_token, lease_duration, renewable)
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// The lease for a while longer, if it is not over.
    fn put_off(self) -> Option<Self> {
        let due = Instant::now() + AGAIN;
        let is_left = self.end.is_none_or(|end| end > due);
        is_left.then_some(Self {
            due: Some(due),
            ..self
        })
    }
}

/// The login of one store, whose clones share it.
pub(super) struct LoginSession {
    login: HashicorpLogin,
    /// Held while a token is had, so that many calls cause one login.
    lease: Mutex<Option<Lease>>,
}

impl LoginSession {
    pub(super) fn new(login: HashicorpLogin) -> Self {
        Self {
            login,
            lease: Mutex::new(None),
        }
    }

    /// Returns a token that has not ended.
    pub(super) async fn token(&self, server: &Server) -> Result<Secret, SecretManagerError> {
        let mut lease = self.lease.lock().await;
        if let Some(own) = lease.as_ref().filter(|own| !own.is_due()) {
            return Ok(own.token.clone());
        }
        // The old lease stays until there is another one: a secret id may work only once.
        let next = match lease.clone() {
            None => self.begin(server).await?,
            Some(old) => match self.continue_from(server, &old).await {
                Ok(next) => next,
                Err(error) => old.put_off().filter(|_| is_passing(&error)).ok_or(error)?,
            },
        };
        Ok(lease.insert(next).token.clone())
    }

    /// Logs in again if the server does not know a token any more. Returns whether there is another one.
    pub(super) async fn replace(
        &self,
        server: &Server,
        refused: &Secret,
    ) -> Result<bool, SecretManagerError> {
        let mut lease = self.lease.lock().await;
        if lease.as_ref().is_some_and(|own| own.token != *refused) {
            return Ok(true);
        }
        let Some(request) = self.login.request().await? else {
            return Ok(false);
        };
        // A token that is known has no right to what was asked, and nor would the next one.
        let path = "auth/token/lookup-self";
        let answer = server.ask(Method::GET, path, Some(refused), None).await?;
        if answer.status.is_success() {
            return Ok(false);
        }
        *lease = Some(log_in(server, request).await?);
        Ok(true)
    }

    async fn begin(&self, server: &Server) -> Result<Lease, SecretManagerError> {
        if let Some(request) = self.login.request().await? {
            return log_in(server, request).await;
        }
        let LoginMethod::Token(token) = &self.login.method else {
            return Err(SecretManagerError::new(SERVICE, Kind::NoCredentials));
        };
        let path = "auth/token/lookup-self";
        let answer = server.ask(Method::GET, path, Some(token), None).await?;
        if answer.status.is_success() {
            let FoundData { ttl, renewable } = answer.read::<Found>()?.data;
            return Ok(Lease::new(token.clone(), ttl, renewable));
        }
        // A token may have no right to look itself up, and work.
        match answer.error() {
            error if error.kind() == Kind::Denied => Ok(Lease::new(token.clone(), 0, false)),
            error => Err(error),
        }
    }

    /// Renews a lease, or logs in again.
    async fn continue_from(
        &self,
        server: &Server,
        old: &Lease,
    ) -> Result<Lease, SecretManagerError> {
        if old.renewable {
            let path = "auth/token/renew-self";
            let body = json!({});
            let sent = server.ask(Method::POST, path, Some(&old.token), Some(&body));
            let answer = sent.await?;
            if answer.status.is_success() {
                let lease = Lease::of(answer.read::<Authenticated>()?.auth);
                if self.is_worthwhile(&lease) {
                    return Ok(lease);
                }
            } else if is_passing(&answer.error()) {
                return Err(answer.error());
            }
        }
        match self.login.request().await? {
            Some(request) => log_in(server, request).await,
            // Nothing is left to do about it but to use it until it ends.
            None => Ok(Lease {
                due: None,
                ..old.clone()
            }),
        }
    }

    /// A lease that comes to its last end is renewed for less and less.
    fn is_worthwhile(&self, lease: &Lease) -> bool {
        let soon = Instant::now() + Duration::from_secs(10);
        lease.due.is_none_or(|due| due > soon) || matches!(self.login.method, LoginMethod::Token(_))
    }
}

/// Whether another attempt can help.
fn is_passing(error: &SecretManagerError) -> bool {
    matches!(error.kind(), Kind::Throttled | Kind::Unavailable)
}

async fn log_in(
    server: &Server,
    (path, body): (String, Value),
) -> Result<Lease, SecretManagerError> {
    let answer = server.ask(Method::POST, &path, None, Some(&body)).await?;
    if answer.status.is_success() {
        return Ok(Lease::of(answer.read::<Authenticated>()?.auth));
    }
    let error = answer.error();
    Err(match error.kind() {
        Kind::Denied | Kind::Refused => error
            .with_kind(Kind::NoCredentials)
            .with_code(Some("the login was refused")),
        _ => error,
    })
}
