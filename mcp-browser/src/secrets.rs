use std::{collections::BTreeMap, fmt, sync::Arc};

use mcp_core::{
    ConfigError, Partition,
    secret::{Secret, SecretName, SecretScope, SecretStore},
    store::Namespace,
};

use crate::{BrowserError, BrowserErrorKind, OriginPolicy};

/// Secrets that callers may have typed by name, each only into pages of the origins that the operator lists.
///
/// The value is read when it is typed, goes to the browser, and is hidden in everything that the session answers
/// afterwards. Whatever a page makes a model do, a secret is typed into a frame of a listed origin or not at all: the
/// origin is the browser's own word, not the page's.
#[derive(Clone)]
pub struct Secrets {
    store: Arc<dyn SecretStore>,
    namespace: Namespace,
    shared: Option<Partition>,
    grants: BTreeMap<SecretName, OriginPolicy>,
}

impl Secrets {
    /// Reads secrets of each principal from a vault. None may be typed yet.
    #[must_use]
    pub fn new(store: Arc<dyn SecretStore>, namespace: Namespace) -> Self {
        Self {
            store,
            namespace,
            shared: None,
            grants: BTreeMap::new(),
        }
    }

    /// Also reads secrets of this owner, where the principal has none of the name.
    #[must_use]
    pub fn with_shared(mut self, owner: Partition) -> Self {
        self.shared = Some(owner);
        self
    }

    /// Allows a secret to be typed on these origins.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the name or an origin is malformed.
    pub fn grant<'a>(
        mut self,
        name: &str,
        origins: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ConfigError> {
        let secret = SecretName::new(name).map_err(|_| {
            ConfigError::new(
                "secret",
                name,
                "a name of 1 to 256 bytes without control characters",
            )
        })?;
        self.grants.insert(secret, OriginPolicy::only(origins)?);
        Ok(self)
    }

    /// Reads a secret for a frame of this address.
    pub(crate) async fn read(
        &self,
        owner: Partition,
        name: &str,
        frame_url: &str,
    ) -> Result<Secret, BrowserError> {
        let denied = || {
            BrowserError::new(
                BrowserErrorKind::Denied,
                format!(
                    "the secret {name:?} may not be typed on this page: the operator has not granted it here"
                ),
            )
        };
        let secret = SecretName::new(name).map_err(|_| denied())?;
        let grant = self.grants.get(&secret).ok_or_else(denied)?;
        let target = crate::proxy::Target::of_url(frame_url).ok_or_else(denied)?;
        grant.check_target(&target).map_err(|_| denied())?;
        for owner in [Some(owner), self.shared].into_iter().flatten() {
            let scope = SecretScope::new(self.namespace.clone(), owner);
            if let Some(found) = self.store.get(&scope, &secret).await? {
                return Ok(found);
            }
        }
        Err(BrowserError::new(
            BrowserErrorKind::InvalidInput,
            format!("there is no secret {name:?} in your vault"),
        ))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("names", &self.grants.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
