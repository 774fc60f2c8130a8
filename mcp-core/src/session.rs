use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

/// Names a session of the session era that a request came in on.
///
/// A connector keeps the upstream's session (or child process) that belongs to it under this key, and ends it
/// when [`SessionKey::closed`] completes.
///
/// # Security
///
/// The id is not the `Mcp-Session-Id` of the wire and authenticates nobody.
#[derive(Clone)]
pub struct SessionKey(Arc<Session>);

struct Session {
    id: Box<str>,
    closed: CancellationToken,
}

impl SessionKey {
    /// Creates the key of a session. The id must differ from the id of every other session.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(Arc::new(Session {
            id: id.into(),
            closed: CancellationToken::new(),
        }))
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Ends the session: everybody who waits in [`SessionKey::closed`] goes on.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// Returns whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Waits until the session has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }
}

impl PartialEq for SessionKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for SessionKey {}

impl std::hash::Hash for SessionKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({})", self.0.id)
    }
}
