//! The keys under which sessions and processes are kept.

use mcp_core::{
    ClientCapabilities, Error, ErrorKind, Partition, PrincipalKind, Request, SessionKey,
};

use super::SessionScope;

/// The key under which a session with a server is kept.
///
/// A session key compares by its id, which never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ScopeKey {
    Session(SessionKey),
    Principal(Partition, ClientCapabilities, String),
    Shared,
}

impl SessionScope {
    /// Returns the key for a request.
    pub(crate) fn key(self, request: &Request) -> Result<ScopeKey, Error> {
        match (self, request.session()) {
            (Self::Shared, _) => Ok(ScopeKey::Shared),
            (Self::PerSession, Some(session)) => Ok(ScopeKey::Session(session.clone())),
            (Self::PerPrincipal, _) | (Self::PerSession, None) => {
                if request.principal().kind() == PrincipalKind::Anonymous {
                    return Err(Error::new(
                        ErrorKind::PermissionDenied,
                        "this server keeps state for each client, and the request says nobody's name: \
                         authenticate, open a session, or let the operator mark the server as shared",
                    ));
                }
                Ok(ScopeKey::Principal(
                    request.principal().partition(),
                    request.capabilities().clone(),
                    request.version().as_str().to_owned(),
                ))
            }
        }
    }
}
