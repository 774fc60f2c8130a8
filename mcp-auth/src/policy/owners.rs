use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use mcp_core::{
    Error, PolicyDecision, PolicyEngine, Principal, PrincipalKind, Request, UpstreamId, Verdict,
    Visibility,
};

/// Keeps the upstreams of a tenant, or of a user, from everybody else. Clones share it.
///
/// Put it into the [`PolicyLayer`](super::PolicyLayer) around a gateway. Who does not own an upstream learns nothing of it: its
/// entries and its instructions are not there, calls by their names are answered as unknown names are, and nothing is
/// passed on to it. An upstream without an owner is everybody's, unless [`owned_only`](UpstreamOwners::owned_only) was
/// called. The user of this machine ([`Principal::local`]) owns nothing that was not given to them either.
///
/// Owners can be changed while the gateway runs, with effect from the next request on; streams that are open keep what they
/// began with. Give an upstream its owner before it is added to the gateway, and take it away after it was removed.
///
/// # Examples
///
/// ```
/// use mcp_auth::policy::UpstreamOwners;
/// use mcp_core::{Principal, UpstreamId};
///
/// let owners = UpstreamOwners::new();
/// let crm = UpstreamId::new("acme-crm")?;
/// owners.give_to_tenant(&crm, "acme");
/// let user = |tenant| Principal::authenticated("https://as.example", "7").with_tenant(tenant);
/// assert!(owners.may_use(&user("acme"), &crm));
/// assert!(!owners.may_use(&user("other"), &crm));
/// # Ok::<(), mcp_core::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct UpstreamOwners {
    owners: Arc<ArcSwap<HashMap<UpstreamId, HashSet<Owner>>>>,
    owned_only: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Owner {
    Tenant(Box<str>),
    Subject(Box<str>, Box<str>),
}

impl Owner {
    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Tenant(tenant) => principal.tenant() == Some(tenant),
            Self::Subject(issuer, subject) => {
                principal.kind() == PrincipalKind::Authenticated
                    && (principal.issuer(), principal.subject()) == (issuer, subject)
            }
        }
    }
}

impl UpstreamOwners {
    /// Begins without owners: every upstream is everybody's.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hides upstreams without an owner from everybody.
    #[must_use]
    pub fn owned_only(mut self) -> Self {
        self.owned_only = true;
        self
    }

    /// Makes a tenant an owner of an upstream, beside those it has.
    pub fn give_to_tenant(&self, upstream: &UpstreamId, tenant: &str) {
        self.give(upstream, &Owner::Tenant(tenant.into()));
    }

    /// Makes a subject of an issuer an owner of an upstream, beside those it has.
    pub fn give_to_subject(&self, upstream: &UpstreamId, issuer: &str, subject: &str) {
        self.give(upstream, &Owner::Subject(issuer.into(), subject.into()));
    }

    fn give(&self, upstream: &UpstreamId, owner: &Owner) {
        self.owners.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.entry(upstream.clone())
                .or_default()
                .insert(owner.clone());
            all
        });
    }

    /// Removes all owners of an upstream, and returns whether it had any.
    ///
    /// # Security
    ///
    /// The upstream is open to everybody then, unless [`owned_only`](UpstreamOwners::owned_only) was called: remove it from
    /// the gateway first.
    #[allow(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn release(&self, upstream: &UpstreamId) -> bool {
        let before = self.owners.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.remove(upstream);
            all
        });
        before.contains_key(upstream)
    }

    /// Removes a tenant from the owners of all upstreams, and returns the upstreams that it owned. One without another owner
    /// stays hidden from everybody until it is released or given to somebody.
    #[allow(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn remove_tenant(&self, tenant: &str) -> Vec<UpstreamId> {
        let owner = Owner::Tenant(tenant.into());
        let before = self.owners.rcu(|all| {
            let mut all = HashMap::clone(all);
            for owners in all.values_mut() {
                owners.remove(&owner);
            }
            all
        });
        let own = before.iter().filter(|(_, owners)| owners.contains(&owner));
        own.map(|(upstream, _)| upstream.clone()).collect()
    }

    /// Returns whether a principal may use an upstream.
    #[must_use]
    pub fn may_use(&self, principal: &Principal, upstream: &UpstreamId) -> bool {
        match self.owners.load().get(upstream) {
            Some(owners) => owners.iter().any(|owner| owner.is(principal)),
            None => !self.owned_only,
        }
    }
}

#[async_trait]
impl PolicyEngine for UpstreamOwners {
    /// Outside of the router of a gateway the upstream is not known yet; the router asks the visibility.
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error> {
        let Some(upstream) = request.upstream() else {
            let verdict = Verdict::new("owners:open", "the router hides what is not yours");
            return Ok(PolicyDecision::Allow(verdict));
        };
        Ok(match self.may_use(request.principal(), upstream) {
            true => PolicyDecision::Allow(Verdict::new("owners:own", "the upstream is yours")),
            false => PolicyDecision::Deny(Verdict::new("owners:other", "there is nothing here")),
        })
    }

    fn visibility(&self, principal: &Principal) -> Visibility {
        let (own, principal) = (self.clone(), principal.clone());
        Visibility::all().and(move |entry| match entry.upstream {
            Some(upstream) => own.may_use(&principal, upstream),
            None => true,
        })
    }
}

impl fmt::Debug for UpstreamOwners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamOwners")
            .field("upstreams", &self.owners.load().len())
            .field("owned_only", &self.owned_only)
            .finish()
    }
}
