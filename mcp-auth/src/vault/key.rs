use std::{fmt, path::PathBuf, process::Stdio, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER_PERMISSIVE;
use mcp_core::secret::{Secret, SecretName, SecretScope, SecretStore};
use zeroize::Zeroizing;

use super::VaultKey;

/// How long a command may take to print a key.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// The largest key that is read, in bytes.
const MAX_KEY: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has fewer than 32 bytes.
    #[error("the key has {0} bytes; give at least 32 random ones, as hex, base64 or as they are")]
    TooShort(usize),
    /// Others can read the file.
    #[error("{path:?} can be read by others (mode {mode:o}); allow its owner alone: chmod 600")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key cannot be read.
    #[error("the key cannot be read from {0}")]
    Unreadable(String, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Knows the key of a vault.
#[async_trait]
pub trait KeyProvider: fmt::Debug + Send + Sync + 'static {
    /// Returns the key.
    ///
    /// # Errors
    ///
    /// There is none. The vault does not open.
    async fn key(&self) -> Result<VaultKey, KeyError>;
}

/// Reads a key: 64 hexadecimal digits, base64 of at least 32 bytes, or at least 32 bytes as they are.
fn read(text: &[u8]) -> Result<VaultKey, KeyError> {
    let trimmed = text.trim_ascii();
    if text.len() == 32 {
        return VaultKey::from_bytes(text);
    }
    if trimmed.len() == 64
        && let Ok(bytes) = HEXLOWER_PERMISSIVE.decode(trimmed)
    {
        return VaultKey::from_bytes(&Zeroizing::new(bytes));
    }
    match STANDARD.decode(trimmed).map(Zeroizing::new) {
        Ok(bytes) if bytes.len() >= 32 => VaultKey::from_bytes(&bytes),
        // What is no text at all is taken with every byte.
        _ if std::str::from_utf8(text).is_err() => VaultKey::from_bytes(text),
        _ => VaultKey::from_bytes(trimmed),
    }
}

/// A key that the caller has at hand, for instance from the environment.
#[derive(Debug)]
pub struct ValueKey(Secret);

impl ValueKey {
    /// Takes 64 hexadecimal digits, base64 of at least 32 bytes, or at least 32 bytes as they are.
    #[must_use]
    pub const fn new(key: Secret) -> Self {
        Self(key)
    }
}

#[async_trait]
impl KeyProvider for ValueKey {
    async fn key(&self) -> Result<VaultKey, KeyError> {
        read(self.0.secret().as_bytes())
    }
}

/// A key in a file that only its owner may read.
#[derive(Debug)]
pub struct FileKey(PathBuf);

impl FileKey {
    /// Reads the file when the vault opens.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

#[async_trait]
impl KeyProvider for FileKey {
    async fn key(&self) -> Result<VaultKey, KeyError> {
        let path = self.0.clone();
        let bytes = tokio::task::spawn_blocking(move || read_private(&path)).await;
        let bytes = bytes.map_err(|error| unreadable("the file", error))??;
        read(&bytes)
    }
}

/// A key that lies with other secrets: in an age or SOPS file, in AWS Secrets Manager, in another vault.
#[derive(Clone)]
pub struct StoredKey {
    store: std::sync::Arc<dyn SecretStore>,
    scope: SecretScope,
    name: SecretName,
}

impl StoredKey {
    /// Reads the secret when the vault opens.
    #[must_use]
    pub const fn new(
        store: std::sync::Arc<dyn SecretStore>,
        scope: SecretScope,
        name: SecretName,
    ) -> Self {
        Self { store, scope, name }
    }
}

#[async_trait]
impl KeyProvider for StoredKey {
    async fn key(&self) -> Result<VaultKey, KeyError> {
        let what = || format!("the secret {:?}", self.name.as_str());
        let found = self.store.get(&self.scope, &self.name).await;
        let found = found.map_err(|error| unreadable(&what(), error))?;
        let found = found.ok_or_else(|| unreadable(&what(), "there is none"))?;
        read(found.secret().as_bytes())
    }
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn unreadable(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KeyError {
    KeyError::Unreadable(what.to_owned(), error.into())
}

/// Reads a small file that no one but its owner may read.
pub(super) fn read_private(path: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    use std::io::Read as _;
    let shown = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| unreadable(&shown, error))?;
    check_private(path, &file)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_KEY)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&shown, error))?;
    Ok(bytes)
}

/// Refuses a file that others than its owner may read or write. Elsewhere than on Unix nothing is checked.
pub(super) fn check_private(path: &std::path::Path, file: &std::fs::File) -> Result<(), KeyError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file
            .metadata()
            .map_err(|error| unreadable(&path.display().to_string(), error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
    }
    #[cfg(not(unix))]
    let _ = (path, file);
    Ok(())
}

/// A key that a command prints, such as the client of a password manager.
///
/// The command is run as written, without a shell, with the environment of this process, for at most 10 s.
#[derive(Debug)]
pub struct CommandKey {
    program: String,
    arguments: Vec<String>,
}

impl CommandKey {
    /// Runs a program when the vault opens.
    #[must_use]
    pub fn new<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
        }
    }
}

#[async_trait]
impl KeyProvider for CommandKey {
    async fn key(&self) -> Result<VaultKey, KeyError> {
        let failed =
            |error: std::io::Error| unreadable(&format!("command {:?}", self.program), error);
        let running = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(COMMAND_TIME, running)
            .await
            .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        let printed = Zeroizing::new(output.stdout);
        if !output.status.success() {
            return Err(failed(std::io::Error::other(output.status.to_string())));
        }
        read(&printed)
    }
}

/// A key in the keyring of the operating system, through a store that the embedder chooses.
#[cfg(feature = "keyring")]
pub struct KeyringKey {
    store: std::sync::Arc<keyring_core::CredentialStore>,
    service: String,
    user: String,
}

#[cfg(feature = "keyring")]
impl KeyringKey {
    /// Reads the entry of a service and a user when the vault opens.
    #[must_use]
    pub fn new(
        store: std::sync::Arc<keyring_core::CredentialStore>,
        service: &str,
        user: &str,
    ) -> Self {
        Self {
            store,
            service: service.to_owned(),
            user: user.to_owned(),
        }
    }
}

#[cfg(feature = "keyring")]
#[async_trait]
impl KeyProvider for KeyringKey {
    async fn key(&self) -> Result<VaultKey, KeyError> {
        let (store, service, user) = (self.store.clone(), self.service.clone(), self.user.clone());
        let found =
            tokio::task::spawn_blocking(move || store.build(&service, &user, None)?.get_secret());
        let found = found
            .await
            .map_err(|error| unreadable("the keyring", error))?;
        let bytes = found.map_err(|error| unreadable("the keyring", error))?;
        read(&Zeroizing::new(bytes))
    }
}

#[cfg(feature = "keyring")]
impl fmt::Debug for KeyringKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyringKey")
            .field("service", &self.service)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_key_is_the_same_however_it_is_written() {
        let id = |text: &str| read(text.as_bytes()).unwrap().id;
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        assert_eq!(id(hex), id(base64));
        assert_eq!(id(hex), id(&format!("{hex}\n")));
        assert!(matches!(read(b"short"), Err(KeyError::TooShort(5))));
        let shown = format!("{:?}", read(hex.as_bytes()).unwrap());
        assert!(!shown.contains("0001"), "{shown}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, [7; 40]).unwrap();
        for (mode, fits) in [(0o644, false), (0o640, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(FileKey::new(&path).key().await.is_ok(), fits, "{mode:o}");
        }
        let missing = FileKey::new(dir.path().join("none")).key().await;
        assert!(matches!(missing, Err(KeyError::Unreadable(..))));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_command_prints_a_key_or_fails() {
        let text = "x".repeat(40);
        let printed = CommandKey::new("printf", ["%s", &text])
            .key()
            .await
            .unwrap();
        let given = ValueKey::new(Secret::new(text)).key().await.unwrap();
        assert_eq!(printed.id, given.id);
        assert!(CommandKey::new("false", []).key().await.is_err());
        assert!(CommandKey::new("/nonexistent", []).key().await.is_err());
    }

    #[cfg(feature = "keyring")]
    #[tokio::test]
    async fn a_keyring_holds_the_key() {
        let store = keyring_core::mock::Store::new().unwrap();
        let provider = KeyringKey::new(store.clone(), "gateway", "vault");
        assert!(provider.key().await.is_err());
        use keyring_core::api::CredentialStoreApi as _;
        store
            .build("gateway", "vault", None)
            .unwrap()
            .set_secret(&[9; 32])
            .unwrap();
        assert!(provider.key().await.is_ok());
    }
}
