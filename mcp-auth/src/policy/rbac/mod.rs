mod builder;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use mcp_core::{
    EntryKind, Error, PolicyDecision, PolicyEngine, Principal, PrincipalKind, Request, UpstreamId,
    Verdict, Visibility,
};

use super::{Pattern, condition::Conditional, entries, uri};

pub use self::builder::RbacBuilder;

/// Roles with permissions, and who has which role. Clones share it.
#[derive(Clone)]
pub struct Rbac(Arc<Inner>);

struct Inner {
    roles: HashMap<Box<str>, Role>,
    assigned: Vec<(Holder, Box<str>)>,
    subjects: HashMap<Subject, Vec<Box<str>>>,
    /// Whether any role is denied an upstream.
    hides_upstreams: bool,
}

/// An issuer and a subject of it.
type Subject = (Box<str>, Box<str>);

/// Who has a role.
enum Holder {
    Everybody,
    Authenticated,
    Local,
    Tenant(Box<str>),
    Scope(Box<str>),
    /// One of a tenant that has the role.
    Within(Box<str>, Box<Self>),
    Subject(Subject),
}

impl Holder {
    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Everybody => true,
            Self::Authenticated => principal.kind() == PrincipalKind::Authenticated,
            Self::Local => principal.kind() == PrincipalKind::Local,
            Self::Tenant(tenant) => principal.tenant() == Some(tenant),
            Self::Scope(scope) => principal.has_scope(scope),
            Self::Within(tenant, own) => principal.tenant() == Some(tenant) && own.is(principal),
            Self::Subject((issuer, subject)) => {
                principal.kind() == PrincipalKind::Authenticated
                    && (principal.issuer(), principal.subject()) == (issuer, subject)
            }
        }
    }
}

#[derive(Default)]
struct Role {
    allow: Index,
    deny: Index,
    /// Rules about tools that count under a condition.
    allow_if: Vec<Conditional>,
    deny_if: Vec<Conditional>,
    inherits: Vec<Box<str>>,
}

/// Why a principal sees and may use an entry, or not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryExplanation {
    /// The roles of the principal, those that are inherited included.
    pub roles: Vec<String>,
    /// Whether lists show the entry.
    pub visible: bool,
    /// The rule that decided, and why.
    pub verdict: Verdict,
    /// Rules that decide about each call by its arguments, beside the verdict: role and pattern.
    pub conditions: Vec<String>,
}

/// Patterns, found by the beginning that all their matches have.
#[derive(Default)]
struct Index {
    exact: HashSet<(EntryKind, Box<str>)>,
    by_prefix: HashMap<(EntryKind, Box<str>), Vec<Pattern>>,
    lengths: BTreeSet<usize>,
}

impl Role {
    /// Adds what another has.
    fn join(&mut self, other: Self) {
        self.allow.join(other.allow);
        self.deny.join(other.deny);
        self.allow_if.extend(other.allow_if);
        self.deny_if.extend(other.deny_if);
        self.inherits.extend(other.inherits);
    }
}

impl Index {
    fn join(&mut self, other: Self) {
        self.exact.extend(other.exact);
        self.lengths.extend(other.lengths);
        for (place, patterns) in other.by_prefix {
            self.by_prefix.entry(place).or_default().extend(patterns);
        }
    }

    fn has(&self, kind: EntryKind) -> bool {
        let mut kinds = self.exact.iter().map(|(kind, _)| *kind);
        let mut prefixes = self.by_prefix.keys().map(|(kind, _)| *kind);
        kinds.any(|own| own == kind) || prefixes.any(|own| own == kind)
    }

    fn add(&mut self, kind: EntryKind, pattern: Pattern) {
        if pattern.is_exact() {
            self.exact.insert((kind, pattern.as_str().into()));
            return;
        }
        let prefix = pattern.prefix();
        self.lengths.insert(prefix.len());
        let place = self.by_prefix.entry((kind, prefix.into())).or_default();
        place.push(pattern);
    }

    /// Returns the pattern that matches, if one does.
    fn find(&self, kind: EntryKind, name: &str) -> Option<&str> {
        let key: (EntryKind, Box<str>) = (kind, name.into());
        if let Some((_, exact)) = self.exact.get(&key) {
            return Some(exact);
        }
        for &length in self.lengths.range(..=name.len()) {
            let Some(prefix) = name.get(..length) else {
                continue;
            };
            let patterns = self.by_prefix.get(&(kind, Box::from(prefix)));
            let found = patterns.and_then(|own| own.iter().find(|pattern| pattern.matches(name)));
            if let Some(found) = found {
                return Some(found.as_str());
            }
        }
        None
    }
}

impl Rbac {
    /// Begins without any role: every call that acts on an entry, and every method outside the specification, is refused.
    pub fn builder() -> RbacBuilder {
        RbacBuilder::default()
    }

    /// Returns the roles of a principal.
    #[must_use]
    pub fn roles(&self, principal: &Principal) -> Vec<&str> {
        let mut roles: Vec<&str> = Vec::new();
        for (holder, role) in &self.0.assigned {
            if holder.is(principal) && !roles.contains(&&**role) {
                roles.push(role);
            }
        }
        if !self.0.subjects.is_empty() && principal.kind() == PrincipalKind::Authenticated {
            let key = (
                Box::from(principal.issuer()),
                Box::from(principal.subject()),
            );
            for role in self.0.subjects.get(&key).into_iter().flatten() {
                if !roles.contains(&&**role) {
                    roles.push(role);
                }
            }
        }
        // Those that are inherited follow; each once, so that a circle ends.
        let mut next = 0;
        while let Some(role) = roles.get(next) {
            let own = self.0.roles.get(*role);
            for other in own.map(|own| own.inherits.as_slice()).unwrap_or_default() {
                if !roles.contains(&&**other) {
                    roles.push(other);
                }
            }
            next += 1;
        }
        roles
    }

    /// Says whether a principal sees and may use an entry, and why.
    #[must_use]
    pub fn explain(&self, principal: &Principal, kind: EntryKind, name: &str) -> EntryExplanation {
        let roles = self.roles(principal);
        let judged = self.judge(&roles, kind, name);
        let mut conditions = Vec::new();
        for role in &roles {
            let Some(own) = self.0.roles.get(*role).filter(|_| kind == EntryKind::Tool) else {
                continue;
            };
            for (verb, rules) in [("allow-if", &own.allow_if), ("deny-if", &own.deny_if)] {
                let fit = rules.iter().filter(|rule| rule.pattern.matches(name));
                conditions.extend(
                    fit.map(|rule| format!("rbac:{role}:{verb}:{}", rule.pattern.as_str())),
                );
            }
        }
        EntryExplanation {
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            visible: judged.is_ok(),
            verdict: judged.unwrap_or_else(|refusal| refusal),
            conditions,
        }
    }

    /// Returns whether a principal may use an entry.
    #[must_use]
    pub fn allows(&self, principal: &Principal, kind: EntryKind, name: &str) -> bool {
        self.judge(&self.roles(principal), kind, name).is_ok()
    }

    /// Finds the rule that decides about an entry: `Ok` if it allows.
    fn judge(&self, roles: &[&str], kind: EntryKind, name: &str) -> Result<Verdict, Verdict> {
        if let Some(refusal) = uri::ambiguous(kind, name) {
            return Err(refusal);
        }
        // Roles say which upstreams are hidden, and not which are not.
        let open = ("*", "upstream", "*");
        let mut allowed = (kind == EntryKind::Upstream).then_some(open);
        for role in roles {
            let Some(own) = self.0.roles.get(*role) else {
                continue;
            };
            if let Some(pattern) = own.deny.find(kind, name) {
                let rule = format!("rbac:{role}:deny:{pattern}");
                return Err(Verdict::new(rule, "a role of yours forbids this"));
            }
            if allowed.is_none() {
                let plain = own.allow.find(kind, name).map(|own| ("allow", own));
                allowed = plain
                    .or_else(|| {
                        let mut rules = own.allow_if.iter().filter(|_| kind == EntryKind::Tool);
                        let found = rules.find(|rule| rule.pattern.matches(name))?;
                        Some(("allow-if", found.pattern.as_str()))
                    })
                    .map(|(verb, pattern)| (*role, verb, pattern));
            }
        }
        match allowed {
            Some((role, verb, pattern)) => Ok(Verdict::new(
                format!("rbac:{role}:{verb}:{pattern}"),
                "a role of yours allows this",
            )),
            None => Err(Verdict::new(
                "rbac:default",
                "none of your roles allows this",
            )),
        }
    }
}

/// Rules with conditions.
impl Rbac {
    fn has_conditions(&self, roles: &[&str]) -> bool {
        let own = |role: &&str| {
            let own = self.0.roles.get(*role);
            own.is_some_and(|own| !own.allow_if.is_empty() || !own.deny_if.is_empty())
        };
        roles.iter().any(own)
    }

    /// Judges a call of a tool that the rules without conditions do not refuse.
    fn judge_call(
        &self,
        roles: &[&str],
        tool: &str,
        request: &Request,
    ) -> Result<Verdict, Verdict> {
        let known = || {
            roles
                .iter()
                .filter_map(|role| Some((role, self.0.roles.get(*role)?)))
        };
        for (role, own) in known() {
            let mut rules = own.deny_if.iter();
            // What cannot be told is denied.
            let denies = rules.find(|rule| {
                rule.pattern.matches(tool) && rule.condition.holds(request) != Some(false)
            });
            if let Some(rule) = denies {
                let rule = format!("rbac:{role}:deny-if:{}", rule.pattern.as_str());
                return Err(Verdict::new(
                    rule,
                    "a role of yours forbids this with these arguments",
                ));
            }
        }
        for (role, own) in known() {
            if let Some(pattern) = own.allow.find(EntryKind::Tool, tool) {
                let rule = format!("rbac:{role}:allow:{pattern}");
                return Ok(Verdict::new(rule, "a role of yours allows this"));
            }
            let mut rules = own.allow_if.iter();
            let allows = rules.find(|rule| {
                rule.pattern.matches(tool) && rule.condition.holds(request) == Some(true)
            });
            if let Some(rule) = allows {
                let rule = format!("rbac:{role}:allow-if:{}", rule.pattern.as_str());
                return Ok(Verdict::new(rule, "a role of yours allows this"));
            }
        }
        Err(Verdict::new(
            "rbac:default",
            "none of your roles allows this with these arguments",
        ))
    }
}

#[async_trait]
impl PolicyEngine for Rbac {
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error> {
        let roles = self.roles(request.principal());
        let mut verdict = Verdict::new("rbac:not-an-entry", "the call acts on no entry");
        let upstream = request.upstream().filter(|_| self.0.hides_upstreams);
        let upstream = upstream.map(|id| (EntryKind::Upstream, id.as_str().to_owned()));
        for (kind, name) in upstream.into_iter().chain(entries(request)) {
            let judged = self.judge(&roles, kind, &name);
            let judged = match judged {
                Ok(_) if kind == EntryKind::Tool && self.has_conditions(&roles) => {
                    self.judge_call(&roles, &name, request)
                }
                judged => judged,
            };
            match judged {
                Ok(allowed) => verdict = allowed,
                Err(denied) => return Ok(PolicyDecision::Deny(denied)),
            }
        }
        Ok(PolicyDecision::Allow(verdict))
    }

    fn visibility(&self, principal: &Principal) -> Visibility {
        let own = self.clone();
        let roles: Vec<String> = self
            .roles(principal)
            .into_iter()
            .map(str::to_owned)
            .collect();
        Visibility::all().and(move |entry| {
            let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
            let upstream = entry.upstream.filter(|_| own.0.hides_upstreams);
            let shown =
                |id: &UpstreamId| own.judge(&roles, EntryKind::Upstream, id.as_str()).is_ok();
            own.judge(&roles, entry.kind, entry.name).is_ok() && upstream.is_none_or(shown)
        })
    }
}

impl fmt::Debug for Rbac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rbac")
            .field("roles", &self.0.roles.len())
            .finish_non_exhaustive()
    }
}
