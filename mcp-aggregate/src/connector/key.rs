//! The keys under which sessions and processes are kept.

use mcp_core::{Error, ErrorKind, Json, Partition, PrincipalKind, Request, SessionKey};

use super::SessionScope;
use crate::digest::{Digest, Digester};

/// The key under which a session with a server is kept. It keeps nothing of a client's message alive.
///
/// A session key compares by its id, which never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ScopeKey {
    Session(SessionKey),
    /// A principal, and a hash of what its client can do.
    Principal(Partition, Digest),
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
                        "this server keeps state for each client, and the request has no principal: \
                         authenticate, open a session, or let the operator mark the server as shared",
                    ));
                }
                let client = digest(request.capabilities().as_json(), request.version().as_str());
                Ok(ScopeKey::Principal(request.principal().partition(), client))
            }
        }
    }
}

/// Hashes what a client can do and the revision that it speaks.
fn digest(capabilities: &Json, version: &str) -> Digest {
    let mut digester = Digester::default();
    digester.put(version.as_bytes()).put_json(capabilities);
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_and_the_capabilities_make_a_client() {
        let bare = digest(&Json::EMPTY_OBJECT, "a");
        assert_eq!(bare, digest(&Json::EMPTY_OBJECT, "a"));
        assert_ne!(bare, digest(&Json::EMPTY_OBJECT, "b"));
        let roots = Json::parse(r#"{"roots":{}}"#.to_owned()).unwrap();
        assert_ne!(bare, digest(&roots, "a"));
    }
}
