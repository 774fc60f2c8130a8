//! Who makes a call, and the keys that keep one caller's data from another.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::SessionKey;

/// Who makes a call.
///
/// Two principals are the same when kind, tenant, issuer and subject are. Scopes and the chain of actors are
/// properties of one call and do not count.
///
/// # Security
///
/// Constructors state where the identity comes from. [`Principal::authenticated`] is for code that has
/// verified a credential; nothing else may call it.
#[derive(Clone)]
pub struct Principal(Arc<Identity>);

#[derive(Clone)]
struct Identity {
    kind: PrincipalKind,
    tenant: Option<Box<str>>,
    issuer: Box<str>,
    subject: Box<str>,
    scopes: Box<[Box<str>]>,
    actors: Box<[Box<str>]>,
    partition: Partition,
}

/// Where a principal's identity comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PrincipalKind {
    /// The user who started this process: stdio, or a gateway on loopback for one user.
    Local,
    /// A stateless request without any credential.
    Anonymous,
    /// A session without any credential: as many principals as there are sessions.
    Session,
    /// A verified credential.
    Authenticated,
}

impl Principal {
    /// The user who started this process.
    #[must_use]
    pub fn local() -> Self {
        static LOCAL: LazyLock<Principal> =
            LazyLock::new(|| Principal::new(PrincipalKind::Local, "", ""));
        LOCAL.clone()
    }

    /// A stateless request without any credential. It may not use an upstream that keeps state per principal.
    #[must_use]
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Principal> =
            LazyLock::new(|| Principal::new(PrincipalKind::Anonymous, "", ""));
        ANONYMOUS.clone()
    }

    /// A session without any credential.
    #[must_use]
    pub fn session(key: &SessionKey) -> Self {
        Self::new(PrincipalKind::Session, "", key.id())
    }

    /// A subject that `issuer` vouches for, as a verified credential says.
    #[must_use]
    pub fn authenticated(issuer: &str, subject: &str) -> Self {
        Self::new(PrincipalKind::Authenticated, issuer, subject)
    }

    fn new(kind: PrincipalKind, issuer: &str, subject: &str) -> Self {
        Self(Arc::new(Identity {
            kind,
            tenant: None,
            issuer: issuer.into(),
            subject: subject.into(),
            scopes: Box::default(),
            actors: Box::default(),
            partition: Partition::derive(kind, None, issuer, subject),
        }))
    }

    /// Sets the tenant, which separates principals of the same issuer and subject.
    #[must_use]
    pub fn with_tenant(mut self, tenant: &str) -> Self {
        let identity = Arc::make_mut(&mut self.0);
        identity.tenant = Some(tenant.into());
        identity.partition = Partition::derive(
            identity.kind,
            Some(tenant),
            &identity.issuer,
            &identity.subject,
        );
        self
    }

    /// Sets the scopes that the credential of this call grants.
    #[must_use]
    pub fn with_scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        Arc::make_mut(&mut self.0).scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets who acts on behalf of the subject, the present actor first (RFC 8693, section 4.1).
    #[must_use]
    pub fn with_actors<'a>(mut self, actors: impl IntoIterator<Item = &'a str>) -> Self {
        Arc::make_mut(&mut self.0).actors = actors.into_iter().map(Into::into).collect();
        self
    }

    /// Returns where the identity comes from.
    #[must_use]
    pub fn kind(&self) -> PrincipalKind {
        self.0.kind
    }

    /// Returns the tenant.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.0.tenant.as_deref()
    }

    /// Returns the issuer that vouches for the subject; empty where there is none.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Returns the subject; empty for the local and the anonymous principal.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Returns whether the credential grants exactly this scope. Hierarchies are the policy's business.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|granted| **granted == *scope)
    }

    /// Returns the scopes that the credential grants.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.scopes.iter().map(|scope| &**scope)
    }

    /// Returns who acts on behalf of the subject, the present actor first.
    pub fn actors(&self) -> impl Iterator<Item = &str> {
        self.0.actors.iter().map(|actor| &**actor)
    }

    /// Returns the key under which this principal's data is kept.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.0.partition
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.0.partition == other.0.partition
    }
}

impl Eq for Principal {}

impl std::hash::Hash for Principal {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.partition.hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Principal");
        debug.field("kind", &self.0.kind);
        if self.0.kind == PrincipalKind::Authenticated {
            debug.field("tenant", &self.0.tenant);
            debug.field("issuer", &self.0.issuer);
            debug.field("subject", &self.0.subject);
        }
        debug.finish_non_exhaustive()
    }
}

/// The key of everything that must not cross from one user to another: caches, pools, sessions, limits,
/// handles, credentials.
///
/// A partition is made from a [`Principal`] or from the explicit [`Shared`] marker, and from nothing else, so
/// that a key without an owner does not type-check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition([u8; 16]);

/// States that data may be shared by all principals that reach it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Shared;

impl Shared {
    /// Asserts that the operator wants this data shared by all principals.
    #[must_use]
    pub fn by_operator() -> Self {
        Self
    }
}

impl Partition {
    /// The partition of one principal.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        principal.partition()
    }

    /// The one partition that all principals share.
    #[must_use]
    pub fn shared(_: Shared) -> Self {
        Self::digest([b"shared".as_slice()])
    }

    /// A part of this partition, for one use of it (a tool, an upstream, a session).
    #[must_use]
    pub fn part(&self, use_: &str) -> Self {
        Self::digest([b"part".as_slice(), &self.0, use_.as_bytes()])
    }

    /// Returns the key as bytes, the same in every process, for stores and message authentication.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn derive(kind: PrincipalKind, tenant: Option<&str>, issuer: &str, subject: &str) -> Self {
        let kind = match kind {
            PrincipalKind::Local => "local",
            PrincipalKind::Anonymous => "anonymous",
            PrincipalKind::Session => "session",
            PrincipalKind::Authenticated => "authenticated",
        };
        let has_tenant = if tenant.is_some() { "t" } else { "" };
        Self::digest([
            kind.as_bytes(),
            has_tenant.as_bytes(),
            tenant.unwrap_or_default().as_bytes(),
            issuer.as_bytes(),
            subject.as_bytes(),
        ])
    }

    /// Hashes length-prefixed parts, so that no two lists of parts collide by shifting a border.
    fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_differ_wherever_identities_differ() {
        let principals = [
            Principal::local(),
            Principal::anonymous(),
            Principal::session(&SessionKey::new("a")),
            Principal::session(&SessionKey::new("b")),
            Principal::authenticated("a", "bc"),
            Principal::authenticated("ab", "c"),
            Principal::authenticated("ab", "c").with_tenant(""),
            Principal::authenticated("ab", "c").with_tenant("t"),
        ];
        for (index, one) in principals.iter().enumerate() {
            for other in &principals[index + 1..] {
                assert_ne!(one.partition(), other.partition(), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn scopes_do_not_change_the_partition() {
        let plain = Principal::authenticated("i", "s");
        let scoped = plain.clone().with_scopes(["read"]).with_actors(["app"]);
        assert_eq!(plain, scoped);
        assert!(scoped.has_scope("read") && !scoped.has_scope("rea"));
    }

    #[test]
    fn parts_and_the_shared_partition_are_their_own() {
        let shared = Partition::shared(Shared::by_operator());
        assert_ne!(shared, Principal::anonymous().partition());
        assert_ne!(shared.part("a"), shared.part("b"));
        assert_eq!(shared.part("a"), shared.part("a"));
    }
}
