use std::{
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use mcp_core::secret::Secret;

use super::OAuthError;

/// The longest token that is read, in bytes.
const MAX_TOKEN: u64 = 16 << 10;

/// Returns the JSON Web Token that a platform has issued to this workload.
#[async_trait]
pub trait WorkloadTokenSource: Send + Sync + 'static {
    /// Returns the token as it is now. It is asked for each time that an access token is needed.
    ///
    /// # Errors
    ///
    /// There is none that can be used.
    async fn token(&self) -> Result<Secret, OAuthError>;
}

/// Who this workload is, by the word of the platform that runs it: the JSON Web Token of a Kubernetes service account, of a
/// SPIFFE agent, of a cloud's machine.
///
/// The token has to be meant for the authorization server (`aud`), which has to trust its issuer.
#[derive(Clone)]
pub struct WorkloadIdentity(Arc<dyn WorkloadTokenSource>);

impl WorkloadIdentity {
    /// Reads the token from a file, each time anew, since platforms rotate it: for instance
    /// `/var/run/secrets/tokens/mcp` of a projected volume in Kubernetes.
    #[must_use]
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::new(File(path.as_ref().to_owned()))
    }

    /// Asks a source for the token.
    #[must_use]
    pub fn new(source: impl WorkloadTokenSource) -> Self {
        Self(Arc::new(source))
    }

    pub(super) async fn token(&self) -> Result<Secret, OAuthError> {
        self.0.token().await
    }
}

impl fmt::Debug for WorkloadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadIdentity").finish_non_exhaustive()
    }
}

struct File(PathBuf);

#[async_trait]
impl WorkloadTokenSource for File {
    async fn token(&self) -> Result<Secret, OAuthError> {
        const UNREAD: OAuthError =
            OAuthError::Unusable("the file with the workload's token cannot be read");
        const NONE: OAuthError =
            OAuthError::Unusable("the file with the workload's token holds no JSON Web Token");
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            let file = std::fs::File::open(path)?;
            file.take(MAX_TOKEN + 1).read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(Secret::new(text.trim()))
        });
        let token = read.await.map_err(|_| UNREAD)?.map_err(|error| {
            tracing::error!(%error, "the file with the workload's token was not read");
            UNREAD
        })?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let text = token.secret();
        let short = text.len() as u64 <= MAX_TOKEN;
        match short && text.split('.').count() == 3 && text.bytes().all(plain) {
            true => Ok(token),
            false => Err(NONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_read_anew_each_time_and_only_if_it_is_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let identity = WorkloadIdentity::file(file.path());
        for (text, fits) in [
            ("a.b.c\n", true),
            ("d.e.f", true),
            ("", false),
            ("a.b", false),
            ("a.b.c d.e.f", false),
            (&format!("a.b.{}", "c".repeat(17 << 10)), false),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let token = identity.token().await.ok();
            let expected = fits.then(|| Secret::new(text.trim()));
            assert_eq!(token, expected, "{text:.20}");
        }
        drop(file);
        let error = identity.token().await.unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }
}
