use std::sync::Arc;

use async_trait::async_trait;
use mcp_core::{
    EntryKind, Error, PolicyDecision, PolicyEngine, Principal, Request, Verdict, Visibility,
};

use super::{Pattern, ambiguous, entries};
use crate::scopes::ScopeHierarchy;

/// Which scopes the credential of a call must grant, by what the call acts on.
///
/// All rules that match count together, so that a client that lacks several scopes is told all of them at once. Entries
/// that need more scopes than the caller has stay visible: a client has to see a tool to ask for its scopes.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ScopeRules {
    rules: Arc<Vec<(EntryKind, Pattern, Vec<String>)>>,
    hierarchy: Arc<ScopeHierarchy>,
}

impl ScopeRules {
    /// Begins without rules: no scope is needed for anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands scopes for the entries that match.
    pub fn require<'a>(
        mut self,
        kind: EntryKind,
        pattern: Pattern,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let scopes = scopes.into_iter().map(str::to_owned).collect();
        Arc::make_mut(&mut self.rules).push((kind, pattern, scopes));
        self
    }

    /// States which scopes include others.
    pub fn with_hierarchy(mut self, hierarchy: ScopeHierarchy) -> Self {
        self.hierarchy = Arc::new(hierarchy);
        self
    }

    /// Returns the scopes that a call needs, each once.
    #[must_use]
    pub fn needed(&self, request: &Request) -> Vec<String> {
        let mut needed = Vec::new();
        for (kind, name) in entries(request) {
            for (_, _, scopes) in self
                .rules
                .iter()
                .filter(|(own, pattern, _)| *own == kind && pattern.matches(&name))
            {
                for scope in scopes {
                    if !needed.contains(scope) {
                        needed.push(scope.clone());
                    }
                }
            }
        }
        needed
    }
}

#[async_trait]
impl PolicyEngine for ScopeRules {
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error> {
        if let Some(refusal) = ambiguous(request) {
            return Ok(PolicyDecision::Deny(refusal));
        }
        let needed = self.needed(request);
        if self
            .hierarchy
            .missing(request.principal(), &needed)
            .is_empty()
        {
            let verdict = Verdict::new("scopes", "the credential grants what is needed");
            return Ok(PolicyDecision::Allow(verdict));
        }
        let verdict = Verdict::new("scopes", "the credential lacks scopes that this needs");
        Ok(PolicyDecision::NeedScopes(verdict, needed))
    }

    fn visibility(&self, _: &Principal) -> Visibility {
        Visibility::all()
    }
}
