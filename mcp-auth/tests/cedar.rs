//! Policies in Cedar: decisions, lists, and what is refused before it could count.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use mcp_auth::policy::CedarEngine;
use mcp_core::{Entry, EntryKind, Json, Method, PolicyEngine, Principal, Request, ToolAnnotations};
use serde_json::json;

fn user(name: &str, scopes: &[&str]) -> Principal {
    Principal::authenticated("https://as.example", name).with_scopes(scopes.iter().copied())
}

fn call(who: &Principal, method: Method, params: serde_json::Value) -> Request {
    Request::new(method, Some(params.into()))
        .unwrap()
        .with_principal(who.clone())
}

const CEDAR: &str = r#"
    @id("readers")
    permit (principal in Mcp::Scope::"files:read", action, resource is Mcp::Tool)
    when { resource.name like "files__read*" };

    @id("own home only")
    forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files__read_text")
    unless { context.arguments.path like "/home/*" };

    @id("small payments")
    permit (principal, action, resource == Mcp::Tool::"pay")
    when { context.arguments.amount <= 100 };

    @id("nothing destructive for interns")
    forbid (principal in Mcp::Group::"interns", action, resource is Mcp::Tool)
    when { resource has destructiveHint && resource.destructiveHint };

    @id("one's own prompts")
    permit (principal, action, resource is Mcp::Prompt)
    when { principal.subject == "alice" && principal.issuer == "https://as.example" };

    permit (principal in Mcp::Tenant::"acme", action, resource is Mcp::Resource);
"#;

fn cedar() -> CedarEngine {
    let engine = CedarEngine::new(CEDAR).unwrap();
    engine.with_groups(|who| match who.subject() {
        "ivan" => vec!["interns".to_owned()],
        _ => Vec::new(),
    })
}

/// Who calls what with which arguments, which rule decides, and whether the call passes.
const CALLS: &str = r#"
alice | files__read_text | {"path":"/home/alice/x"} | cedar:readers         | yes
alice | files__read_text | {"path":"/etc/x"}        | cedar:own home only   | no
alice | files__read_text | {}                       | cedar:error           | no
alice | files__read_all  | {}                       | cedar:readers         | yes
alice | files__write     | {"path":"/home/alice/x"} | cedar:default         | no
bob   | files__read_text | {"path":"/home/alice/x"} | cedar:default         | no
bob   | files__read_all  | {}                       | cedar:default         | no
bob   | pay              | {"amount":100}           | cedar:small payments  | yes
bob   | pay              | {"amount":100.0}         | cedar:small payments  | yes
bob   | pay              | {"amount":101}           | cedar:default         | no
bob   | pay              | {"amount":100.5}         | cedar:error           | no
bob   | pay              | {"amount":"1"}           | cedar:error           | no
bob   | pay              | {"amount":null}          | cedar:error           | no
bob   | pay              | {"amount":1,"x":1e300}   | cedar:arguments       | no
bob   | pay              | {"amount":1,"amount":9}  | cedar:arguments       | no
"#;

#[tokio::test]
async fn policies_in_cedar_decide_by_scopes_groups_tenants_and_arguments() {
    let engine = cedar();
    let alice = user("alice", &["files:read"]);
    let bob = user("bob", &[]);
    for line in CALLS.lines().filter(|line| !line.is_empty()) {
        let mut cells = line.split('|').map(str::trim);
        let mut next = || cells.next().unwrap();
        let (who, tool, arguments, rule, passes) = (next(), next(), next(), next(), next());
        let who = if who == "alice" { &alice } else { &bob };
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        let params = Some(Json::parse(params).unwrap());
        let request = Request::new(Method::TOOLS_CALL, params).unwrap();
        let decision = engine.decide(&request.with_principal(who.clone())).await;
        let decision = decision.unwrap();
        assert_eq!(decision.verdict().rule(), rule, "{line}");
        assert_eq!(decision.allows(), passes == "yes", "{line}");
    }
}

#[tokio::test]
async fn policies_in_cedar_decide_about_prompts_resources_lists_and_annotations() {
    let engine = cedar();
    let alice = user("alice", &["files:read"]);
    let bob = user("bob", &[]);
    let acme = user("eve", &[]).with_tenant("acme");
    for (who, allowed) in [(&alice, true), (&bob, false)] {
        let request = call(who, Method::PROMPTS_GET, json!({ "name": "p" }));
        assert_eq!(engine.decide(&request).await.unwrap().allows(), allowed);
    }
    for (who, allowed) in [(&acme, true), (&bob, false)] {
        let request = call(who, Method::RESOURCES_READ, json!({ "uri": "file:///a" }));
        assert_eq!(engine.decide(&request).await.unwrap().allows(), allowed);
    }
    let list = call(&bob, Method::TOOLS_LIST, json!({}));
    assert!(engine.decide(&list).await.unwrap().allows());
    let mut destructive = ToolAnnotations::default();
    destructive.destructive = Some(true);
    let ivan = user("ivan", &["files:read"]);
    let request = call(
        &ivan,
        Method::TOOLS_CALL,
        json!({ "name": "files__read_all" }),
    )
    .with_annotations(destructive);
    let decision = engine.decide(&request).await.unwrap();
    assert_eq!(
        decision.verdict().rule(),
        "cedar:nothing destructive for interns"
    );
}

#[test]
fn what_a_policy_in_cedar_may_permit_is_listed_and_nothing_else() {
    let engine = cedar();
    let sees = |who: &Principal, kind, name| {
        let visibility = engine.visibility(who);
        visibility.allows(&Entry::new(kind, name))
    };
    let alice = user("alice", &["files:read"]);
    let bob = user("bob", &[]);
    assert!(sees(&alice, EntryKind::Tool, "files__read_text"));
    assert!(sees(&alice, EntryKind::Prompt, "p"));
    assert!(!sees(&bob, EntryKind::Tool, "files__read_text"));
    // Whether it is permitted depends on the amount.
    assert!(sees(&bob, EntryKind::Tool, "pay"));
    assert!(!sees(&bob, EntryKind::Prompt, "p"));
    let mut destructive = ToolAnnotations::default();
    destructive.destructive = Some(true);
    let ivan = user("ivan", &["files:read"]);
    let entry = Entry::new(EntryKind::Tool, "files__read_all");
    assert!(engine.visibility(&ivan).allows(&entry));
    assert!(
        !engine
            .visibility(&ivan)
            .allows(&entry.with_annotations(destructive))
    );
}

#[test]
fn policies_in_cedar_that_would_never_count_are_refused() {
    for (text, named) in [
        ("permit (principal, action", "policies"),
        (
            r#"forbid (principal, action, resource == Mcp::Tol::"x");"#,
            "Mcp::Tol",
        ),
        (
            r#"forbid (principal, action, resource == Tool::"x");"#,
            "Tool",
        ),
        (
            "permit (principal == ?principal, action, resource);",
            "template",
        ),
    ] {
        let error = CedarEngine::new(text).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
