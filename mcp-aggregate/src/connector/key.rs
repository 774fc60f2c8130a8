//! The keys under which sessions and processes are kept.

use std::fmt::Write as _;

use mcp_core::{Error, ErrorKind, Json, Partition, PrincipalKind, Request, SessionKey};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::SessionScope;

/// The key under which a session with a server is kept. It keeps nothing of a client's message alive.
///
/// A session key compares by its id, which never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ScopeKey {
    Session(SessionKey),
    /// A principal, and a hash of what its client can do.
    Principal(Partition, [u8; 32]),
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

/// Hashes what a client can do and the revision that it speaks: the same capabilities in another order or spelling are the
/// same.
fn digest(capabilities: &Json, version: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(version);
    hash.update([0]);
    match serde_json::from_slice(capabilities.as_bytes()) {
        Ok(value) => {
            let mut text = String::with_capacity(capabilities.len());
            write_canonical(&value, &mut text);
            hash.update(text);
        }
        // Nested deeper than is read: equal bytes are the same.
        Err(_) => hash.update(capabilities.as_bytes()),
    }
    hash.finalize().into()
}

/// Writes a value without white space, members in the order of their names.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in members {
                let _ = write!(out, "{}:", Value::from(name.as_str()));
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(elements) => {
            out.push('[');
            for element in elements {
                write_canonical(element, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => {
            let _ = write!(out, "{plain}");
        }
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::ClientCapabilities;

    use super::*;

    fn of(capabilities: &str) -> [u8; 32] {
        let capabilities = ClientCapabilities::new(Json::parse(capabilities.to_owned()).unwrap());
        digest(capabilities.as_json(), "2025-11-25")
    }

    #[test]
    fn the_same_capabilities_in_another_spelling_are_the_same() {
        let first = of(r#"{"sampling":{},"roots":{"listChanged":true,"x":[1,2]}}"#);
        for same in [
            r#"{"roots":{"x":[1,2],"listChanged":true},"sampling":{}}"#,
            r#"{ "sampling" : { } , "roots" : { "listChanged" : true , "x" : [ 1 , 2 ] } }"#,
            r#"{"\u0073ampling":{},"roots":{"listChanged":true,"x":[1,2]}}"#,
        ] {
            assert_eq!(of(same), first, "{same}");
        }
        for other in [
            r#"{"sampling":{}}"#,
            r#"{"sampling":{},"roots":{"listChanged":false,"x":[1,2]}}"#,
            r#"{"sampling":{},"roots":{"listChanged":true,"x":[2,1]}}"#,
            r#"{"sampling":{},"roots":{"listChanged":"true","x":[1,2]}}"#,
        ] {
            assert_ne!(of(other), first, "{other}");
        }
        assert_ne!(
            digest(&Json::EMPTY_OBJECT, "a"),
            digest(&Json::EMPTY_OBJECT, "b")
        );
    }

    #[test]
    fn capabilities_that_are_too_deep_to_read_have_a_key_all_the_same() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(127), "1") + &"}".repeat(127);
        assert_eq!(of(&deep), of(&deep));
    }
}
