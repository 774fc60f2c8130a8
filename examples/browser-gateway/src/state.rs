//! What the gateway keeps between runs: keys of users, their secrets, accounts of what was spent, the audit record.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use mcp_auth::{
    audit::{FileAudit, OnFailure},
    server::{ApiKeyScheme, ApiKeys, StoredApiKeys},
    vault::{FileKey, Vault},
};
use mcp_core::{
    Partition, Principal, Shared,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{Namespace, RedbStore, StateStore, StorePrefix},
};

use crate::Outcome;

/// Who vouches for the names that keys are issued to.
const ISSUER: &str = "urn:browser-gateway:keys";
const KEYS: &str = "keys";
const SECRETS: &str = "typed-secrets";

/// A folder with everything that outlives the process. One process at a time has it.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) audit: Arc<FileAudit>,
    folder: PathBuf,
    keys: ApiKeys,
    /// What profiles are sealed with.
    profiles: Secret,
}

impl State {
    /// Opens a folder, or makes one with a key for the vault that its owner alone may read.
    ///
    /// # Errors
    ///
    /// The folder cannot be written, others may read the key, another process has the folder, or the audit record was
    /// changed.
    pub async fn open(folder: impl Into<PathBuf>) -> Outcome<Self> {
        let folder = folder.into();
        let key = folder.join("vault.key");
        std::fs::create_dir_all(&folder)
            .and_then(|()| create_key(&key))
            .map_err(|error| format!("{} cannot be used: {error}", folder.display()))?;
        let store: Arc<dyn StateStore> =
            Arc::new(RedbStore::open(folder.join("state.redb")).await?);
        let vault = Vault::open(Arc::clone(&store), &FileKey::new(&key)).await?;
        let audit = FileAudit::open(folder.join("audit.jsonl"), OnFailure::Refuse)?;
        let pepper = kept(&vault, "pepper").await?;
        let profiles = kept(&vault, "profiles").await?;
        Ok(Self {
            store,
            vault: Arc::new(vault),
            audit: Arc::new(audit),
            folder,
            keys: ApiKeys::new("bgw", pepper),
            profiles,
        })
    }

    /// Where the audit record is: JSON lines, each with the hash of the one before.
    #[must_use]
    pub fn audit_file(&self) -> PathBuf {
        self.folder.join("audit.jsonl")
    }

    /// A folder within.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn profile_key(&self) -> &Secret {
        &self.profiles
    }

    /// Waits until the record is on the disk, as it is within 100 ms by itself.
    pub fn flush_audit(&self) {
        self.audit.flush();
    }

    fn stored(&self) -> Outcome<StoredApiKeys> {
        Ok(StoredApiKeys::new(
            Arc::clone(&self.store),
            Namespace::new(KEYS)?,
        ))
    }

    /// Whether no key has been issued yet.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn is_new(&self) -> Outcome<bool> {
        let prefix = StorePrefix::new::<&str>(&Namespace::new(KEYS)?, [])?;
        Ok(self.store.scan(&prefix, None, 1).await?.entries.is_empty())
    }

    /// Issues a key to a user. It is shown once and kept nowhere.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub async fn issue(&self, user: &str) -> Outcome<Secret> {
        let (key, record) = self.keys.issue(user, [], None);
        self.stored()?.add(&record, SystemTime::now()).await?;
        Ok(key)
    }

    /// Judges the keys.
    pub(crate) fn scheme(&self) -> Outcome<ApiKeyScheme> {
        let store = Arc::new(self.stored()?);
        Ok(ApiKeyScheme::new(ISSUER, self.keys.clone(), store))
    }

    /// Keeps a secret of a user, to be typed by its name.
    ///
    /// # Errors
    ///
    /// The name is malformed, or the store cannot be written.
    pub async fn put_secret(&self, user: &str, name: &str, value: Secret) -> Outcome<()> {
        let owner = Principal::authenticated(ISSUER, user).partition();
        let scope = SecretScope::new(secrets()?, owner);
        Ok(self
            .vault
            .put(&scope, &SecretName::new(name)?, value)
            .await?)
    }
}

/// Where the secrets are that sessions type.
pub(crate) fn secrets() -> Outcome<Namespace> {
    Ok(Namespace::new(SECRETS)?)
}

/// A random secret of the gateway's own, made the first time. It lies in the vault, apart from what is made with it.
async fn kept(vault: &Vault, name: &str) -> Outcome<Secret> {
    let owner = Partition::shared(Shared::by_operator());
    let scope = SecretScope::new(Namespace::new("browser-gateway")?, owner);
    let name = SecretName::new(name)?;
    if let Some(found) = vault.get(&scope, &name).await? {
        return Ok(found);
    }
    let made = random();
    vault.put(&scope, &name, made.clone()).await?;
    Ok(made)
}

/// 256 bits.
fn random() -> Secret {
    Secret::new(format!(
        "{:032x}{:032x}",
        rand::random::<u128>(),
        rand::random::<u128>()
    ))
}

/// Makes the key of the vault unless it is there.
fn create_key(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(mut file) => {
            file.write_all(random().secret().as_bytes())?;
            File::sync_all(&file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
