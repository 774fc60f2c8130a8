use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Effect, Entities, Entity, EntityId,
    EntityTypeName, EntityUid, PolicyId, PolicySet, Request as CedarRequest, Response,
    RestrictedExpression,
};
use mcp_core::{
    ConfigError, EntryKind, Error, ErrorKind, PolicyDecision, PolicyEngine, Principal, Request,
    ToolAnnotations, Verdict, Visibility,
};
use serde_json::Value;

use super::{entries, kind_of};

/// The types of entities that policies may name.
const TYPES: [&str; 10] = [
    "Mcp::Principal",
    "Mcp::Group",
    "Mcp::Scope",
    "Mcp::Tenant",
    "Mcp::Action",
    "Mcp::Tool",
    "Mcp::Prompt",
    "Mcp::Resource",
    "Mcp::ResourceTemplate",
    "Mcp::Method",
];

/// Decides by policies in Cedar, in this process.
///
/// | In a policy | What it is |
/// |---|---|
/// | `principal` | an `Mcp::Principal` with `kind` (`authenticated`, `local`, `session`, `anonymous`), `issuer`, `subject`, `scopes` and `actors` (sets), and `tenant` where there is one; it is in an `Mcp::Scope` for each scope, in an `Mcp::Tenant`, and in each `Mcp::Group` that [`with_groups`](Self::with_groups) names |
/// | `action` | `Mcp::Action::"tools/call"` and so on: the method |
/// | `resource` | `Mcp::Tool::"name"`, `Mcp::Prompt`, `Mcp::Resource` (by its URI), `Mcp::ResourceTemplate`, `Mcp::Method`, with `name`; tools also with `readOnlyHint`, `destructiveHint`, `idempotentHint` and `openWorldHint` where the tool says so |
/// | `context` | `arguments` of a call (a record; lists are sets), and `upstream` where it is known |
///
/// What nothing permits is refused, and what one policy forbids is refused whatever others permit. Calls that act on no entry
/// (lists, pings) are allowed. The rule that a decision names is the annotation `@id` of the policy, or its number.
///
/// An entry is listed where the policies permit the call without looking at arguments, or where that depends on them.
///
/// # Security
///
/// Fail closed: a call is refused if a policy cannot be evaluated for it (a missing attribute, another type), if its arguments
/// name a member twice, or have a number that Cedar cannot hold (more than four decimal places, beyond 64 bits). A number with
/// a fraction is a `decimal`; `null` counts as absent.
///
/// # Examples
///
/// ```
/// use mcp_auth::policy::CedarEngine;
///
/// let engine = CedarEngine::new(r#"
///     @id("readers")
///     permit (principal in Mcp::Scope::"files:read", action, resource is Mcp::Tool)
///     when { resource.name like "files__read*" };
///
///     @id("own home only")
///     forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files__read_text")
///     unless { context.arguments.path like "/home/*" };
/// "#)?;
/// # let _ = engine;
/// # Ok::<(), mcp_core::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct CedarEngine(Arc<Inner>);

type Groups = dyn Fn(&Principal) -> Vec<String> + Send + Sync;

#[derive(Clone)]
struct Inner {
    policies: PolicySet,
    /// The types of entities, by their names without the namespace.
    types: HashMap<&'static str, EntityTypeName>,
    groups: Option<Arc<Groups>>,
}

/// What is asked about.
struct Question<'a> {
    principal: &'a Principal,
    action: &'a str,
    entry: (EntryKind, &'a str),
    hints: Option<ToolAnnotations>,
    context: Vec<(String, RestrictedExpression)>,
}

impl CedarEngine {
    /// Reads policies.
    ///
    /// # Errors
    ///
    /// The text is not Cedar, has templates, or names an entity of a type that there is none of here.
    pub fn new(policies: &str) -> Result<Self, ConfigError> {
        let bad = |value: String, remedy: String| ConfigError::new("policies", value, remedy);
        let policies: PolicySet = policies.parse().map_err(|error| {
            let error: cedar_policy::ParseErrors = error;
            bad(error.to_string(), "write policies in Cedar".to_owned())
        })?;
        if let Some(template) = policies.templates().next() {
            let id = template.id().to_string();
            return Err(bad(
                id,
                "write out templates: nothing links them".to_owned(),
            ));
        }
        for policy in policies.policies() {
            let literals = policy.entity_literals();
            let unknown = literals
                .iter()
                .find(|own| !TYPES.contains(&own.type_name().to_string().as_str()));
            if let Some(unknown) = unknown {
                let remedy = format!("name entities of the types {}", TYPES.join(", "));
                return Err(bad(unknown.to_string(), remedy));
            }
        }
        let mut types = HashMap::new();
        for name in TYPES {
            let parsed = name.parse();
            let parsed: EntityTypeName =
                parsed.map_err(|_| bad(name.to_owned(), "report this".to_owned()))?;
            types.insert(name.trim_start_matches("Mcp::"), parsed);
        }
        Ok(Self(Arc::new(Inner {
            policies,
            types,
            groups: None,
        })))
    }

    /// Puts principals into groups. Default is into none.
    #[must_use]
    pub fn with_groups(
        self,
        groups: impl Fn(&Principal) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.groups = Some(Arc::new(groups));
        Self(Arc::new(inner))
    }

    /// Names an entity of one of the types here.
    fn uid(&self, kind: &str, id: &str) -> Result<EntityUid, Error> {
        let unknown = || Error::new(ErrorKind::Internal, "the policies have no such type");
        let name = self.0.types.get(kind).ok_or_else(unknown)?.clone();
        Ok(EntityUid::from_type_name_and_id(name, EntityId::new(id)))
    }

    fn ask(&self, question: Question<'_>) -> Result<Response, Error> {
        let failed = |error: &dyn fmt::Display| {
            tracing::error!(%error, "a question cannot be put to the policies");
            Error::new(
                ErrorKind::Internal,
                "the policies cannot be asked about this call",
            )
        };
        let principal = self.uid("Principal", &question.principal.partition().to_string())?;
        let who = self.principal(question.principal, &principal)?;
        let (kind, name) = question.entry;
        let resource = self.uid(type_of(kind), name)?;
        let mut attributes = HashMap::from([("name".to_owned(), text(name))]);
        attributes.extend(question.hints.into_iter().flat_map(hints));
        let what = Entity::new(resource.clone(), attributes, HashSet::new());
        let what = what.map_err(|error| failed(&error))?;
        let entities = Entities::from_entities([who, what], None);
        let entities = entities.map_err(|error| failed(&error))?;
        let context = Context::from_pairs(question.context).map_err(|error| failed(&error))?;
        let action = self.uid("Action", question.action)?;
        let request = CedarRequest::new(principal, action, resource, context, None);
        let request = request.map_err(|error| failed(&error))?;
        Ok(Authorizer::new().is_authorized(&request, &self.0.policies, &entities))
    }

    fn principal(&self, principal: &Principal, own: &EntityUid) -> Result<Entity, Error> {
        let texts =
            |all: &mut dyn Iterator<Item = &str>| RestrictedExpression::new_set(all.map(text));
        let mut attributes = HashMap::from([
            ("kind".to_owned(), text(kind_of(principal))),
            ("issuer".to_owned(), text(principal.issuer())),
            ("subject".to_owned(), text(principal.subject())),
            ("scopes".to_owned(), texts(&mut principal.scopes())),
            ("actors".to_owned(), texts(&mut principal.actors())),
        ]);
        let mut parents = HashSet::new();
        for scope in principal.scopes() {
            parents.insert(self.uid("Scope", scope)?);
        }
        if let Some(tenant) = principal.tenant() {
            attributes.insert("tenant".to_owned(), text(tenant));
            parents.insert(self.uid("Tenant", tenant)?);
        }
        for group in self.0.groups.iter().flat_map(|groups| groups(principal)) {
            parents.insert(self.uid("Group", &group)?);
        }
        Entity::new(own.clone(), attributes, parents).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                "the principal cannot be described to the policies",
            )
            .with_source(error)
        })
    }

    /// Names the policy that decided.
    fn verdict(&self, answer: &Response) -> Verdict {
        let name = |id: &PolicyId| {
            let named = self.0.policies.annotation(id, "id");
            named.map_or_else(|| id.to_string(), str::to_owned)
        };
        let mut names: Vec<String> = answer.diagnostics().reason().map(name).collect();
        names.sort_unstable();
        match (answer.decision(), names.first()) {
            (Decision::Allow, Some(name)) => {
                Verdict::new(format!("cedar:{name}"), "a policy permits this")
            }
            (Decision::Deny, Some(name)) => {
                Verdict::new(format!("cedar:{name}"), "a policy forbids this")
            }
            _ => Verdict::new("cedar:default", "no policy permits this"),
        }
    }

    /// Returns whether an entry may be listed: where it can be called, or where that depends on what the call says. Of
    /// whole upstreams the policies say nothing.
    fn lists(&self, principal: &Principal, entry: &mcp_core::Entry<'_>) -> bool {
        if entry.kind == EntryKind::Upstream {
            return true;
        }
        let upstream = entry.upstream.map(mcp_core::UpstreamId::as_str);
        let answer = self.ask(Question {
            principal,
            action: method_of(entry.kind),
            entry: (entry.kind, entry.name),
            hints: Some(entry.annotations),
            context: upstream_of(upstream),
        });
        let Ok(answer) = answer else {
            return false;
        };
        let effect = |id: &PolicyId| self.0.policies.policy(id).map(cedar_policy::Policy::effect);
        // Only what might permit the call leaves it open whether the call is permitted.
        let mut errors = answer.diagnostics().errors();
        let undecided = errors.any(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => {
                effect(error.policy_id()) == Some(Effect::Permit)
            }
        });
        let mut reasons = answer.diagnostics().reason();
        let forbidden = reasons.any(|id| effect(id) == Some(Effect::Forbid));
        answer.decision() == Decision::Allow || undecided && !forbidden
    }
}

/// The method that uses entries of a kind.
const fn method_of(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Prompt => "prompts/get",
        EntryKind::Resource | EntryKind::ResourceTemplate => "resources/read",
        _ => "tools/call",
    }
}

const fn type_of(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Tool => "Tool",
        EntryKind::Prompt => "Prompt",
        EntryKind::Resource => "Resource",
        EntryKind::ResourceTemplate => "ResourceTemplate",
        _ => "Method",
    }
}

fn text(own: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(own.to_owned())
}

fn hints(own: ToolAnnotations) -> impl Iterator<Item = (String, RestrictedExpression)> {
    [
        ("readOnlyHint", own.read_only),
        ("destructiveHint", own.destructive),
        ("idempotentHint", own.idempotent),
        ("openWorldHint", own.open_world),
    ]
    .into_iter()
    .filter_map(|(name, hint)| Some((name.to_owned(), RestrictedExpression::new_bool(hint?))))
}

fn upstream_of(upstream: Option<&str>) -> Vec<(String, RestrictedExpression)> {
    let own = upstream.map(|own| ("upstream".to_owned(), text(own)));
    own.into_iter().collect()
}

/// Writes a JSON value as Cedar has it; `None` for a number that it cannot hold.
fn value(own: Value) -> Option<RestrictedExpression> {
    Some(match own {
        // The caller leaves it out.
        Value::Null => return None,
        Value::Bool(own) => RestrictedExpression::new_bool(own),
        Value::String(own) => RestrictedExpression::new_string(own),
        Value::Number(own) => match (own.as_i64(), own.as_f64()) {
            (Some(whole), _) => RestrictedExpression::new_long(whole),
            (None, Some(number)) => fraction(number)?,
            (None, None) => return None,
        },
        Value::Array(all) => {
            let all = all.into_iter().filter(|own| !own.is_null()).map(value);
            RestrictedExpression::new_set(all.collect::<Option<Vec<_>>>()?)
        }
        Value::Object(all) => {
            let all = all.into_iter().filter(|(_, own)| !own.is_null());
            let all = all.map(|(name, own)| Some((name, value(own)?)));
            RestrictedExpression::new_record(all.collect::<Option<Vec<_>>>()?).ok()?
        }
    })
}

/// Writes a number: whole ones as such, however they were written, others with up to four decimal places.
#[allow(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and small enough"
)]
fn fraction(own: f64) -> Option<RestrictedExpression> {
    // Beyond it neighbours are not told apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = |own: f64| own.fract().abs().total_cmp(&0.0).is_eq();
    if is_whole(own) {
        return (own.abs() < EXACT).then(|| RestrictedExpression::new_long(own as i64));
    }
    let text = format!("{own}");
    let (_, places) = text.split_once('.')?;
    let fits = places.len() <= 4 && own.abs() < 900_000_000_000_000.0;
    fits.then(|| RestrictedExpression::new_decimal(text))
}

#[async_trait]
impl PolicyEngine for CedarEngine {
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error> {
        const UNREADABLE: &str =
            "the arguments name a member twice, or have a number that policies cannot hold";
        let mut verdict = Verdict::new("cedar:not-an-entry", "the call acts on no entry");
        let entries = entries(request);
        if entries.is_empty() {
            return Ok(PolicyDecision::Allow(verdict));
        }
        let arguments = match request.param("arguments") {
            None => Some(Value::Object(serde_json::Map::new())),
            Some(own) => own.to_value().ok(),
        };
        let Some(arguments) = arguments.and_then(value) else {
            let verdict = Verdict::new("cedar:arguments", UNREADABLE);
            return Ok(PolicyDecision::Deny(verdict));
        };
        for (kind, name) in entries {
            let mut context = upstream_of(request.upstream().map(mcp_core::UpstreamId::as_str));
            context.push(("arguments".to_owned(), arguments.clone()));
            let answer = self.ask(Question {
                principal: request.principal(),
                action: request.method().as_str(),
                entry: (kind, &name),
                hints: request.annotations(),
                context,
            })?;
            if let Some(error) = answer.diagnostics().errors().next() {
                tracing::warn!(%error, "a policy cannot be evaluated, and the call is refused");
                let reason = "a policy cannot be evaluated for this call";
                return Ok(PolicyDecision::Deny(Verdict::new("cedar:error", reason)));
            }
            verdict = self.verdict(&answer);
            if answer.decision() != Decision::Allow {
                return Ok(PolicyDecision::Deny(verdict));
            }
        }
        Ok(PolicyDecision::Allow(verdict))
    }

    fn visibility(&self, principal: &Principal) -> Visibility {
        let (own, principal) = (self.clone(), principal.clone());
        Visibility::all().and(move |entry| own.lists(&principal, entry))
    }
}

impl fmt::Debug for CedarEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CedarEngine")
            .field("policies", &self.0.policies.policies().count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_what_they_say_or_nothing() {
        for (number, fits) in [
            (json!(5), true),
            (json!(5.0), true),
            (json!(1e3), true),
            (json!(0.25), true),
            (json!(-0.0001), true),
            (json!(0.00001), false),
            (json!(1e300), false),
            (json!(u64::MAX), false),
            (json!([1, [null, 0.123_456]]), false),
            (json!({ "a": null, "b": [null] }), true),
        ] {
            assert_eq!(value(number.clone()).is_some(), fits, "{number}");
        }
        assert_eq!(
            format!("{:?}", value(json!(5.0))),
            format!("{:?}", value(json!(5)))
        );
    }
}
