//! Secrets in a file that people can keep with their sources: sealed by [age](https://age-encryption.org/v1), or by
//! [SOPS](https://getsops.io/docs/) with age keys.
//!
//! The document in the file has the namespace, the owner and the name of a secret as its members. The owner is `shared`
//! for what everybody shares by the operator's word, else the partition in hexadecimal:
//!
//! ```yaml
//! oauth:
//!     shared:
//!         google-client-secret: GOCSPX-…
//! ```
//!
//! An age file is that document in JSON, sealed as a whole; in a SOPS file (JSON or YAML, by its ending) each value is
//! sealed for itself. Both are read and written by the programs `age` and `sops` too. Of SOPS there are age keys,
//! suffixes and regular expressions that say what is sealed, and files whose seal covers sealed values only; other keys in a
//! file are kept. Key groups are refused. Files with several documents, or where comments say what is sealed, can be read and not
//! written. Comments of YAML stay where they are.
//!
//! A file is read again when it has changed. It is written beside and put in its place as a whole, by one process at a
//! time; a file that does not open is never written over.

mod age;
#[cfg(feature = "sops")]
mod sops;
#[cfg(feature = "sops")]
mod text;
mod tree;

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use mcp_core::{
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::{StoreError, StoreErrorKind},
};

pub use self::age::AgeKeys;
use self::tree::Node;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Secrets in an age or SOPS file. Clones share it. See the [module](self).
#[derive(Clone)]
pub struct SecretFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    format: Box<dyn Format>,
    /// What was read last, and from which state of the file.
    read: Mutex<Option<(Stamp, Arc<Node>)>>,
}

/// By what a file is known not to have changed.
type Stamp = (SystemTime, u64);

/// How a document is sealed.
trait Format: Send + Sync + 'static {
    /// Opens a document.
    fn open(&self, file: &[u8]) -> Result<Node, StoreError>;

    /// Writes (a text) or removes (`None`) one leaf of a document, which may be a new one.
    fn change(
        &self,
        file: Option<&[u8]>,
        path: &[&str],
        text: Option<&str>,
    ) -> Result<Vec<u8>, StoreError>;
}

/// A JSON document, sealed as a whole.
struct Whole(AgeKeys);

impl Format for Whole {
    fn open(&self, file: &[u8]) -> Result<Node, StoreError> {
        let text = self
            .0
            .open(file)
            .ok_or_else(|| corrupt("no key at hand opens the file"))?;
        serde_json::from_slice(&text).map_err(|_| corrupt("the file is no JSON document"))
    }

    fn change(
        &self,
        file: Option<&[u8]>,
        path: &[&str],
        text: Option<&str>,
    ) -> Result<Vec<u8>, StoreError> {
        let mut document = file.map_or(Ok(Node::Map(Vec::new())), |file| self.open(file))?;
        match text {
            Some(text) => document.set(path, Node::text(text)),
            None => drop(document.remove(path)),
        }
        let plain = zeroize::Zeroizing::new(
            serde_json::to_vec_pretty(&document)
                .map_err(|_| corrupt("the document cannot be written"))?,
        );
        self.0
            .seal(&plain)
            .ok_or_else(|| corrupt("the file cannot be sealed"))
    }
}

fn corrupt(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, message)
}

fn away(error: io::Error) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "the file of secrets cannot be used",
    )
    .with_source(error)
}

impl SecretFile {
    fn new(path: PathBuf, format: impl Format) -> Self {
        Self(Arc::new(Inner {
            path,
            format: Box::new(format),
            read: Mutex::default(),
        }))
    }

    /// Uses a JSON document that is sealed with age as a whole. Nothing is read yet; a file that is not there begins with
    /// the first secret.
    #[must_use]
    pub fn age(path: impl Into<PathBuf>, keys: AgeKeys) -> Self {
        Self::new(path.into(), Whole(keys))
    }

    /// Uses a SOPS file with age keys: YAML if its name ends in `.yaml` or `.yml`, else JSON.
    #[cfg(feature = "sops")]
    #[must_use]
    pub fn sops(path: impl Into<PathBuf>, keys: AgeKeys) -> Self {
        let path = path.into();
        let ending = path.extension().and_then(|own| own.to_str());
        let yaml = ending.is_some_and(|own| matches!(own, "yaml" | "yml"));
        Self::new(path, sops::Sops::new(keys, yaml))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let own = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&own)).await;
        done.map_err(|error| away(io::Error::other(error)))?
    }

    async fn change(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Option<Secret>,
    ) -> Result<bool, StoreError> {
        let path = path_of(scope, Some(name));
        self.blocking(move |own| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            own.change(&path, secret.as_ref().map(Secret::secret))
        })
        .await
    }
}

/// Where a secret is in the document.
fn path_of(scope: &SecretScope, name: Option<&SecretName>) -> Vec<String> {
    let space = scope.namespace().as_str().to_owned();
    let mut path = vec![space, super::owner_name(scope.owner())];
    path.extend(name.map(|name| name.as_str().to_owned()));
    path
}

impl Inner {
    fn load(&self) -> Result<Option<Arc<Node>>, StoreError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(away(error)),
        };
        let metadata = file.metadata().map_err(away)?;
        let stamp = (metadata.modified().map_err(away)?, metadata.len());
        if let Some((own, document)) = &*read
            && *own == stamp
        {
            return Ok(Some(Arc::clone(document)));
        }
        let document = Arc::new(self.format.open(&read_all(file)?)?);
        *read = Some((stamp, Arc::clone(&document)));
        Ok(Some(document))
    }

    fn change(&self, path: &[&str], text: Option<&str>) -> Result<bool, StoreError> {
        let _one = self.lock()?;
        let file = match fs::File::open(&self.path) {
            Ok(file) => Some(read_all(file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(away(error)),
        };
        let there = match &file {
            Some(file) => self.format.open(file)?.at(path).is_some(),
            None => false,
        };
        if !there && text.is_none() {
            return Ok(false);
        }
        let changed = self.format.change(file.as_deref(), path, text)?;
        self.put(&changed).map_err(away)?;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(there)
    }

    /// Keeps other writers off, those of other processes too, until it is dropped.
    fn lock(&self) -> Result<fs::File, StoreError> {
        let lock = beside(&self.path, "lock");
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(false);
        let file = private(&mut options).open(lock).map_err(away)?;
        file.lock().map_err(away)?;
        Ok(file)
    }

    /// Puts a file in the place of the old one, whole or not at all.
    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let new = beside(&self.path, "new");
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(true);
        let mut file = private(&mut options).open(&new)?;
        if let Ok(old) = fs::metadata(&self.path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

fn read_all(file: fs::File) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let read = file
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(away)?;
    match read as u64 > MAX_FILE {
        true => Err(corrupt("the file of secrets is too large")),
        false => Ok(bytes),
    }
}

fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

#[async_trait]
impl SecretStore for SecretFile {
    async fn get(
        &self,
        scope: &SecretScope,
        name: &SecretName,
    ) -> Result<Option<Secret>, StoreError> {
        let path = path_of(scope, Some(name));
        self.blocking(move |own| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let document = own.load()?;
            let leaf = document.and_then(|own| own.at(&path)?.leaf());
            Ok(leaf.map(|text| Secret::new(text.as_str())))
        })
        .await
    }

    async fn put(
        &self,
        scope: &SecretScope,
        name: &SecretName,
        secret: Secret,
    ) -> Result<(), StoreError> {
        self.change(scope, name, Some(secret)).await.map(drop)
    }

    async fn delete(&self, scope: &SecretScope, name: &SecretName) -> Result<bool, StoreError> {
        self.change(scope, name, None).await
    }

    async fn list(&self, scope: &SecretScope) -> Result<Vec<SecretName>, StoreError> {
        let path = path_of(scope, None);
        self.blocking(move |own| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let document = own.load()?;
            let members = document.as_ref().and_then(|own| own.at(&path));
            let members = members.map(Node::members).unwrap_or_default();
            let leaves = members.iter().filter(|(_, node)| node.leaf().is_some());
            let mut names: Vec<_> = leaves
                .filter_map(|(name, _)| SecretName::new(name).ok())
                .collect();
            names.sort_unstable();
            Ok(names)
        })
        .await
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "__fuzz")]
pub(crate) use self::sops::fuzz;
