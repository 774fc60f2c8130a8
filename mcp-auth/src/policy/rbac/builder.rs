use std::{collections::HashMap, fmt, sync::Arc};

use mcp_core::EntryKind;

use super::{Holder, Inner, Rbac, Role, Subject};
use crate::policy::{Condition, Pattern, condition::Conditional};

/// Settings of an [`Rbac`].
#[must_use]
#[derive(Default)]
pub struct RbacBuilder {
    roles: HashMap<Box<str>, Role>,
    assigned: Vec<(Holder, Box<str>)>,
    subjects: HashMap<Subject, Vec<Box<str>>>,
}

impl RbacBuilder {
    /// Gives a role all that another has, what it denies included. A circle gives all its roles the same.
    pub fn inherit(mut self, role: &str, from: &str) -> Self {
        let own = self.roles.entry(role.into()).or_default();
        own.inherits.push(from.into());
        self
    }

    /// Lets a role call the tools that match when a condition holds. Lists show them in any case.
    pub fn allow_if(mut self, role: &str, tools: Pattern, condition: Condition) -> Self {
        let own = self.roles.entry(role.into()).or_default();
        own.allow_if.push(Conditional {
            pattern: tools,
            condition,
        });
        self
    }

    /// Forbids a role to call the tools that match when a condition holds, or when that cannot be told, whatever other roles
    /// allow.
    pub fn deny_if(mut self, role: &str, tools: Pattern, condition: Condition) -> Self {
        let own = self.roles.entry(role.into()).or_default();
        own.deny_if.push(Conditional {
            pattern: tools,
            condition,
        });
        self
    }

    /// Lets a role use the entries that match. Upstreams as such need no permission.
    pub fn allow(mut self, role: &str, kind: EntryKind, pattern: Pattern) -> Self {
        self.roles
            .entry(role.into())
            .or_default()
            .allow
            .add(kind, pattern);
        self
    }

    /// Forbids a role the entries that match, whatever other roles allow. With [`EntryKind::Upstream`] whole upstreams are
    /// forbidden and hidden, by their ids.
    pub fn deny(mut self, role: &str, kind: EntryKind, pattern: Pattern) -> Self {
        self.roles
            .entry(role.into())
            .or_default()
            .deny
            .add(kind, pattern);
        self
    }

    /// Lets a role use every entry of every kind, and call every method.
    pub fn allow_everything(mut self, role: &str) -> Self {
        for kind in [
            EntryKind::Tool,
            EntryKind::Prompt,
            EntryKind::Resource,
            EntryKind::ResourceTemplate,
            EntryKind::Method,
        ] {
            self = self.allow(role, kind, Pattern::new("*"));
        }
        self
    }

    fn assign(mut self, holder: Holder, role: &str) -> Self {
        self.assigned.push((holder, role.into()));
        self
    }

    /// Gives a role to a subject of an issuer.
    pub fn assign_subject(mut self, issuer: &str, subject: &str, role: &str) -> Self {
        let key = (issuer.into(), subject.into());
        self.subjects.entry(key).or_default().push(role.into());
        self
    }

    /// Gives a role to all principals of a tenant.
    pub fn assign_tenant(self, tenant: &str, role: &str) -> Self {
        self.assign(Holder::Tenant(tenant.into()), role)
    }

    /// Gives a role to whoever came with a credential that grants a scope.
    pub fn assign_scope(self, scope: &str, role: &str) -> Self {
        self.assign(Holder::Scope(scope.into()), role)
    }

    /// Gives a role to whoever came with a credential.
    pub fn assign_authenticated(self, role: &str) -> Self {
        self.assign(Holder::Authenticated, role)
    }

    /// Gives a role to the user of this machine.
    pub fn assign_local(self, role: &str) -> Self {
        self.assign(Holder::Local, role)
    }

    /// Gives a role to everybody, anonymous callers included.
    pub fn assign_everybody(self, role: &str) -> Self {
        self.assign(Holder::Everybody, role)
    }

    /// Adds the roles of a tenant. They have names of their own, whatever roles others have, and only principals of the tenant
    /// can have them. A role of the tenant that has no permission here has none at all: those outside are given by
    /// [`assign_tenant`](RbacBuilder::assign_tenant). Explanations name them `tenant/role`.
    ///
    /// # Security
    ///
    /// What a tenant's builder says, however it says it, counts for principals of the tenant only. Which upstreams these
    /// see at all is for [`UpstreamOwners`](crate::policy::UpstreamOwners).
    pub fn tenant(mut self, tenant: &str, own: Self) -> Self {
        let named = |role: &str| -> Box<str> { format!("{tenant}/{role}").into() };
        for (name, mut role) in own.roles {
            role.inherits = role.inherits.iter().map(|from| named(from)).collect();
            self.roles.entry(named(&name)).or_default().join(role);
        }
        let subjects = own.subjects.into_iter().flat_map(|(subject, roles)| {
            let holder = move |role| (Holder::Subject(subject.clone()), role);
            roles.into_iter().map(holder)
        });
        for (holder, role) in own.assigned.into_iter().chain(subjects) {
            let holder = Holder::Within(tenant.into(), Box::new(holder));
            self.assigned.push((holder, named(&role)));
        }
        self
    }

    /// Builds it.
    #[must_use]
    pub fn build(self) -> Rbac {
        let denies = |role: &Role| role.deny.has(EntryKind::Upstream);
        Rbac(Arc::new(Inner {
            hides_upstreams: self.roles.values().any(denies),
            roles: self.roles,
            assigned: self.assigned,
            subjects: self.subjects,
        }))
    }
}

impl fmt::Debug for RbacBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RbacBuilder")
            .field("roles", &self.roles.len())
            .finish_non_exhaustive()
    }
}
