//! Who may call what.
//!
//! A [`PolicyEngine`](mcp_core::PolicyEngine) is a validator (it allows, refuses, or asks for scopes) or a mutator (it
//! lets a call continue with other parameters). These are here, and a way to have several decide in order:
//!
//! 1. [`Rbac`]: roles with permissions on tools, prompts and resources by patterns, given to subjects, tenants and scopes.
//!    Each tenant has its own roles, roles inherit from others, and rules about tools may have conditions on arguments and
//!    annotations ([`Condition`]).
//!    What no role allows is refused; what one denies is refused whatever others allow. A method that the specification
//!    does not define needs a role that allows it by its name ([`EntryKind::Method`]);
//!    lists and the other methods that act on no entry do not.
//! 2. [`ScopeRules`]: scopes that a tool, prompt or resource needs. What is missing is asked for by one challenge.
//! 3. [`OpaEngine`]: an Open Policy Agent decides, over HTTP.
//! 4. `CedarEngine` (feature `cedar`): policies in Cedar decide, in this process.
//! 5. [`UpstreamOwners`]: upstreams that belong to a tenant or a user are hidden from everybody else.
//! 6. [`PolicyChain`]: the first refusal ends it, and each mutation is seen by those that follow.
//!
//! A URI that a server may resolve to another resource than the one a pattern matched (dot segments, their encodings,
//! encoded slashes, backslashes) is refused wherever a policy decides about it.
//!
//! The [`PolicyLayer`] applies an engine to calls, and hides from lists what it refuses. [`PolicyChain::explain`] says what
//! each engine would decide, without calling anything.
//!
//! # Examples
//!
//! ```
//! use mcp_auth::policy::{Pattern, Rbac};
//! use mcp_core::{EntryKind, Principal};
//!
//! let rbac = Rbac::builder()
//!     .allow("reader", EntryKind::Tool, Pattern::new("files__read*"))
//!     .deny("reader", EntryKind::Tool, Pattern::new("files__read_secret"))
//!     .assign_scope("files:read", "reader")
//!     .build();
//! let alice = Principal::authenticated("https://as.example", "alice").with_scopes(["files:read"]);
//! assert!(rbac.allows(&alice, EntryKind::Tool, "files__read_text"));
//! assert!(!rbac.allows(&alice, EntryKind::Tool, "files__read_secret"));
//! assert!(!rbac.allows(&alice, EntryKind::Tool, "files__write"));
//! ```

#[cfg(feature = "cedar")]
mod cedar;
mod chain;
mod condition;
mod layer;
mod opa;
mod owners;
mod pattern;
mod rbac;
mod scopes;
mod uri;

#[cfg(feature = "cedar")]
pub use self::cedar::CedarEngine;
pub use self::{
    chain::{Explanation, PolicyChain},
    condition::Condition,
    layer::{Policy, PolicyLayer},
    opa::OpaEngine,
    owners::UpstreamOwners,
    pattern::Pattern,
    rbac::{EntryExplanation, Rbac, RbacBuilder},
    scopes::ScopeRules,
};

use mcp_core::{EntryKind, Principal, PrincipalKind, Request, Verdict};

/// Returns the refusal of a call that acts on a URI which can be read in two ways.
pub(crate) fn ambiguous(request: &Request) -> Option<Verdict> {
    let entries = entries(request);
    entries
        .iter()
        .find_map(|(kind, name)| uri::ambiguous(*kind, name))
}

/// What a call acts on: every entry that has to be allowed for it. A method that is not known here is one itself, and so
/// is one that does not say what it acts on.
pub(crate) fn entries(request: &Request) -> Vec<(EntryKind, String)> {
    let method = request.method();
    let itself = || (EntryKind::Method, method.as_str().to_owned());
    let named = |kind| {
        let name = request.name().map(|name| (kind, name.to_owned()));
        vec![name.unwrap_or_else(itself)]
    };
    match method.as_str() {
        "tools/call" => named(EntryKind::Tool),
        "prompts/get" => named(EntryKind::Prompt),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            named(EntryKind::Resource)
        }
        "completion/complete" => vec![completed(request).unwrap_or_else(itself)],
        "subscriptions/listen" => request
            .param("notifications")
            .and_then(|own| own.member("resourceSubscriptions"))
            .map(|uris| uris.elements())
            .unwrap_or_default()
            .iter()
            .filter_map(mcp_core::Json::to_text)
            .map(|uri| (EntryKind::Resource, uri))
            .collect(),
        _ if method.is_standard() => Vec::new(),
        _ => vec![itself()],
    }
}

/// Returns what kind of principal this is, as policies of other languages name it.
pub(crate) fn kind_of(principal: &Principal) -> &'static str {
    match principal.kind() {
        PrincipalKind::Local => "local",
        PrincipalKind::Session => "session",
        PrincipalKind::Authenticated => "authenticated",
        _ => "anonymous",
    }
}

fn completed(request: &Request) -> Option<(EntryKind, String)> {
    let reference = request.param("ref")?;
    let text = |name: &str| reference.member(name)?.to_text();
    match text("type")?.as_str() {
        "ref/prompt" => Some((EntryKind::Prompt, text("name")?)),
        "ref/resource" => Some((EntryKind::ResourceTemplate, text("uri")?)),
        _ => None,
    }
}
