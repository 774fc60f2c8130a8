use std::collections::{HashMap, HashSet};

use mcp_core::Principal;

/// Which scopes include which others (MCP 2026-07-28, authorization, "Scope Challenge Handling").
///
/// # Examples
///
/// ```
/// use mcp_auth::ScopeHierarchy;
///
/// let scopes = ScopeHierarchy::new().with("files:write", ["files:read"]).with("admin", ["files:write"]);
/// assert!(scopes.grants(["admin"], "files:read"));
/// assert!(!scopes.grants(["files:read"], "files:write"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScopeHierarchy(HashMap<String, Vec<String>>);

impl ScopeHierarchy {
    /// Makes a hierarchy in which each scope stands for itself.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// States that a scope includes others, and with them what they include. A circle is harmless.
    #[must_use]
    pub fn with<'a>(mut self, broad: &str, narrow: impl IntoIterator<Item = &'a str>) -> Self {
        let included = self.0.entry(broad.to_owned()).or_default();
        included.extend(narrow.into_iter().map(str::to_owned));
        self
    }

    /// Returns whether one of the scopes granted is the one needed, or includes it.
    pub fn grants<'a>(&self, granted: impl IntoIterator<Item = &'a str>, needed: &str) -> bool {
        let mut open: Vec<&str> = granted.into_iter().collect();
        if open.contains(&needed) {
            return true;
        }
        if self.0.is_empty() {
            return false;
        }
        let mut seen: HashSet<&str> = open.iter().copied().collect();
        let mut own: Vec<&str> = Vec::new();
        while let Some(scope) = open.pop() {
            for narrow in self.0.get(scope).into_iter().flatten() {
                if narrow == needed {
                    return true;
                }
                own.push(narrow);
            }
            for narrow in own.drain(..) {
                if let Some((key, _)) = self.0.get_key_value(narrow)
                    && seen.insert(key)
                {
                    open.push(key);
                }
            }
        }
        false
    }

    /// Returns those of the scopes needed that a principal does not have, in their order.
    #[must_use]
    pub fn missing<'a>(&self, principal: &Principal, needed: &'a [String]) -> Vec<&'a str> {
        needed
            .iter()
            .map(String::as_str)
            .filter(|scope| !principal.has_scope(scope) && !self.grants(principal.scopes(), scope))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_12_a_broad_scope_includes_the_narrow_ones_and_not_the_other_way() {
        let scopes = ScopeHierarchy::new()
            .with("a", ["b", "c"])
            .with("c", ["d"])
            .with("d", ["a"]);
        for (granted, needed, fits) in [
            ("a", "a", true),
            ("a", "d", true),
            ("b", "a", false),
            ("d", "b", true),
            ("x", "x", true),
            ("x", "a", false),
        ] {
            assert_eq!(scopes.grants([granted], needed), fits, "{granted} {needed}");
        }
    }
}
