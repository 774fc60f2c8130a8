//! Roles, scopes, chains: decisions, lists, explanations.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use mcp_auth::{
    ScopeHierarchy,
    policy::{Condition, Pattern, PolicyChain, PolicyLayer, Rbac, ScopeRules, UpstreamOwners},
};
use mcp_core::{
    Entry, EntryKind, Era, Error, ErrorKind, Json, Method, PolicyDecision, PolicyEngine, Principal,
    Request, Response, Stack, ToolAnnotations, UpstreamId, Verdict, Visibility,
};
use serde_json::json;
use tower::{ServiceExt, service_fn};

fn user(name: &str, scopes: &[&str]) -> Principal {
    Principal::authenticated("https://as.example", name).with_scopes(scopes.iter().copied())
}

fn call(who: &Principal, method: Method, params: serde_json::Value) -> Request {
    Request::new(method, Some(params.into()))
        .unwrap()
        .with_principal(who.clone())
}

fn tool(who: &Principal, name: &str) -> Request {
    call(
        who,
        Method::TOOLS_CALL,
        json!({ "name": name, "arguments": { "a": 1 } }),
    )
}

fn rbac() -> Rbac {
    Rbac::builder()
        .allow("reader", EntryKind::Tool, Pattern::new("*__read*"))
        .allow(
            "reader",
            EntryKind::Resource,
            Pattern::new("file:///data/*"),
        )
        .allow("writer", EntryKind::Tool, Pattern::new("files__write"))
        .deny("intern", EntryKind::Tool, Pattern::new("*secret*"))
        .allow_everything("admin")
        .assign_authenticated("reader")
        .assign_scope("files:write", "writer")
        .assign_subject("https://as.example", "root", "admin")
        .assign_subject("https://as.example", "ivan", "intern")
        .assign_tenant("acme", "admin")
        .build()
}

#[tokio::test]
async fn roles_allow_deny_and_default_to_no() {
    let rbac = rbac();
    let acme = user("x", &[]).with_tenant("acme");
    for (who, name, allowed) in [
        (user("alice", &[]), "files__read_text", true),
        (user("alice", &[]), "files__write", false),
        (user("alice", &["files:write"]), "files__write", true),
        (user("alice", &["files:writes"]), "files__write", false),
        (user("ivan", &[]), "files__read_secret", false),
        (user("root", &[]), "anything", true),
        // The same subject of another issuer is somebody else.
        (
            Principal::authenticated("https://evil.example", "root"),
            "anything",
            false,
        ),
        (acme, "anything", true),
        (Principal::anonymous(), "files__read_text", false),
        (Principal::local(), "files__read_text", false),
    ] {
        let decision = rbac.decide(&tool(&who, name)).await.unwrap();
        assert_eq!(
            decision.allows(),
            allowed,
            "{who:?} {name} {:?}",
            decision.verdict()
        );
        let seen = rbac
            .visibility(&who)
            .allows(&Entry::new(EntryKind::Tool, name));
        assert_eq!(seen, allowed, "lists agree: {who:?} {name}");
    }
}

#[tokio::test]
async fn every_method_that_acts_on_an_entry_is_judged() {
    let rbac = rbac();
    let alice = user("alice", &[]);
    for (method, params, allowed) in [
        (
            Method::RESOURCES_READ,
            json!({ "uri": "file:///data/x" }),
            true,
        ),
        (
            Method::RESOURCES_READ,
            json!({ "uri": "file:///etc/passwd" }),
            false,
        ),
        (
            Method::new("resources/subscribe"),
            json!({ "uri": "file:///etc/passwd" }),
            false,
        ),
        (Method::new("prompts/get"), json!({ "name": "p" }), false),
        (
            Method::new("completion/complete"),
            json!({ "ref": { "type": "ref/prompt", "name": "p" } }),
            false,
        ),
        (
            Method::SUBSCRIPTIONS_LISTEN,
            json!({ "notifications": { "resourceSubscriptions": ["file:///data/x", "file:///etc/passwd"] } }),
            false,
        ),
        (Method::TOOLS_LIST, json!({}), true),
    ] {
        let request = call(&alice, method.clone(), params);
        assert_eq!(
            rbac.decide(&request).await.unwrap().allows(),
            allowed,
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_method_outside_the_specification_needs_a_role_that_allows_it() {
    let rbac = Rbac::builder()
        .allow("operator", EntryKind::Method, Pattern::new("vendor/read-*"))
        .allow("reader", EntryKind::Tool, Pattern::new("*"))
        .allow_everything("admin")
        .assign_scope("operate", "operator")
        .assign_scope("admin", "admin")
        .assign_authenticated("reader")
        .build();
    for (scope, method, params, allowed) in [
        ("", "vendor/delete-everything", json!({}), false),
        ("", "vendor/read-state", json!({}), false),
        ("operate", "vendor/read-state", json!({}), true),
        ("operate", "vendor/delete-everything", json!({}), false),
        ("admin", "vendor/delete-everything", json!({}), true),
        ("", "tools/list", json!({}), true),
        ("", "ping", json!({}), true),
        // A method that should act on an entry and names none.
        (
            "",
            "completion/complete",
            json!({ "ref": { "type": "ref/new" } }),
            false,
        ),
    ] {
        let request = call(&user("alice", &[scope]), Method::new(method), params);
        let decision = rbac.decide(&request).await.unwrap();
        assert_eq!(decision.allows(), allowed, "{scope} {method}");
    }
}

#[tokio::test]
async fn an_ambiguous_uri_is_refused_by_every_policy() {
    let alice = user("alice", &["everything"]);
    let rbac = Rbac::builder()
        .allow(
            "reader",
            EntryKind::Resource,
            Pattern::new("doc://public/*"),
        )
        .assign_authenticated("reader")
        .build();
    let scopes = ScopeRules::new().require(
        EntryKind::Resource,
        Pattern::new("doc://private/*"),
        ["private"],
    );
    let engines: [Arc<dyn PolicyEngine>; 3] = [
        Arc::new(rbac),
        Arc::new(scopes),
        Arc::new(PolicyChain::new()),
    ];
    for engine in engines {
        for (uri, passes) in [
            ("doc://public/a.b", true),
            ("doc://public/../private/b", false),
            ("doc://public/%2E%2e/private/b", false),
            ("doc://public/..%2fprivate/b", false),
            ("doc://public/..\\private", false),
        ] {
            for method in [Method::RESOURCES_READ, Method::RESOURCES_SUBSCRIBE] {
                let request = call(&alice, method, json!({ "uri": uri }));
                let answer = through(engine.clone(), request).await;
                assert_eq!(answer.is_ok(), passes, "{uri}");
            }
            let listen = json!({ "notifications": { "resourceSubscriptions": [uri] } });
            let request = call(&alice, Method::SUBSCRIPTIONS_LISTEN, listen);
            let answer = through(engine.clone(), request).await;
            assert_eq!(answer.is_ok(), passes, "{uri}");
        }
    }
}

/// Adds an argument to every call of a tool.
struct Stamp(&'static str);

#[async_trait]
impl PolicyEngine for Stamp {
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error> {
        let mut params = request.params().cloned().unwrap();
        params.set("name", Json::string(self.0));
        params.set("stamped", Json::from(json!(true)));
        Ok(PolicyDecision::Modify(
            Verdict::new("stamp", "stamped"),
            params.to_json(),
        ))
    }

    fn visibility(&self, _: &Principal) -> Visibility {
        Visibility::all()
    }
}

/// Reaches no decision.
struct Broken;

#[async_trait]
impl PolicyEngine for Broken {
    async fn decide(&self, _: &Request) -> Result<PolicyDecision, Error> {
        Err(Error::new(
            ErrorKind::Unavailable,
            "the policy server is away",
        ))
    }

    fn visibility(&self, _: &Principal) -> Visibility {
        Visibility::all().and(|_| false)
    }
}

async fn through(engine: Arc<dyn PolicyEngine>, request: Request) -> Result<String, Error> {
    let inner = service_fn(|request: Request| async move {
        Ok::<_, Error>(Response::new(Json::string(
            request.params().unwrap().to_json().as_str(),
        )))
    });
    let service = Stack::new(inner)
        .layer(PolicyLayer::new(engine))
        .into_service();
    service
        .oneshot(request)
        .await
        .map(|answer| answer.result().to_text().unwrap())
}

#[tokio::test]
async fn a_refused_call_says_its_rule_and_is_not_made() {
    let error = through(Arc::new(rbac()), tool(&user("alice", &[]), "files__write"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(error.status(Era::Stateless).as_u16(), 403);
    assert!(
        error
            .to_rpc(Era::Stateless)
            .as_str()
            .contains("rbac:default")
    );
    let broken = through(Arc::new(Broken), tool(&user("alice", &[]), "x")).await;
    assert!(broken.is_err(), "no decision is a refusal");
}

#[tokio::test]
async fn a_mutator_changes_arguments_and_never_what_is_called() {
    let alice = user("alice", &[]);
    let seen = through(Arc::new(Stamp("a__read")), tool(&alice, "a__read"))
        .await
        .unwrap();
    assert!(seen.contains("stamped"), "{seen}");
    assert!(
        through(Arc::new(Stamp("other")), tool(&alice, "a__read"))
            .await
            .is_err()
    );
    let chain = PolicyChain::new()
        .then("stamp", Arc::new(Stamp("a__read")))
        .then("roles", Arc::new(rbac()));
    assert!(
        through(Arc::new(chain), tool(&alice, "a__read"))
            .await
            .unwrap()
            .contains("stamped")
    );
}

#[tokio::test]
async fn check_11_scopes_are_asked_for_all_at_once_and_a_hierarchy_counts() {
    let rules = ScopeRules::new()
        .require(EntryKind::Tool, Pattern::new("files__*"), ["files:read"])
        .require(
            EntryKind::Tool,
            Pattern::new("*write*"),
            ["files:write", "audit"],
        )
        .with_hierarchy(ScopeHierarchy::new().with("files:write", ["files:read"]));
    let needed = |who: Principal, name: &'static str| {
        let rules = rules.clone();
        async move {
            match rules.decide(&tool(&who, name)).await.unwrap() {
                PolicyDecision::NeedScopes(_, scopes) => scopes,
                _ => Vec::new(),
            }
        }
    };
    assert_eq!(
        needed(user("a", &[]), "files__write").await,
        ["files:read", "files:write", "audit"]
    );
    assert_eq!(
        needed(user("a", &["files:write"]), "files__read").await,
        [""; 0]
    );
    assert_eq!(
        needed(user("a", &["files:write", "audit"]), "files__write").await,
        [""; 0]
    );
    assert_eq!(needed(user("a", &[]), "other").await, [""; 0]);
    assert!(rules.visibility(&user("a", &[])).is_all());
}

#[tokio::test]
async fn an_explanation_has_every_verdict_and_makes_no_call() {
    let chain = PolicyChain::new()
        .then("roles", Arc::new(rbac()))
        .then(
            "scopes",
            Arc::new(ScopeRules::new().require(EntryKind::Tool, Pattern::new("*"), ["s"])),
        )
        .then("broken", Arc::new(Broken));
    let alice = user("alice", &[]);
    let all = chain
        .explain(&alice, &tool(&Principal::anonymous(), "files__read_x"))
        .await;
    let names: Vec<_> = all
        .iter()
        .map(|one| (one.engine.as_str(), one.reached))
        .collect();
    assert_eq!(
        names,
        [("roles", true), ("scopes", true), ("broken", false)]
    );
    assert!(all[0].decision.as_ref().unwrap().allows());
    assert!(matches!(
        all[1].decision,
        Some(PolicyDecision::NeedScopes(..))
    ));
    assert!(all[2].decision.is_none());
    assert!(
        !chain
            .visibility(&alice)
            .allows(&Entry::new(EntryKind::Tool, "files__read_x"))
    );
}

fn tool_call(user: &str, tool: &str, arguments: &str) -> Request {
    let params = Json::parse(format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#)).unwrap();
    Request::new(Method::TOOLS_CALL, Some(params))
        .unwrap()
        .with_principal(Principal::authenticated("https://as.example", user))
}

#[tokio::test]
async fn conditions_decide_by_arguments_and_what_cannot_be_told_is_refused() {
    let home = Condition::argument_matches("/path", Pattern::new("/home/*"));
    let etc = Condition::argument_matches("/path", Pattern::new("/etc/*"));
    let rbac = Rbac::builder()
        .allow_if("writer", Pattern::new("write"), home)
        .allow("reader", EntryKind::Tool, Pattern::new("read"))
        .deny_if("reader", Pattern::new("read"), etc)
        .allow_if(
            "payer",
            Pattern::new("pay"),
            Condition::argument_at_most("/amount", 100.0),
        )
        .assign_authenticated("writer")
        .assign_authenticated("reader")
        .assign_authenticated("payer")
        .build();
    for (tool, arguments, allowed) in [
        ("write", r#"{"path":"/home/a"}"#, true),
        ("write", r#"{"path":"/etc/a"}"#, false),
        ("write", r#"{"path":"/home/../etc/a"}"#, false),
        ("write", r#"{"path":["/home/a"]}"#, false),
        ("write", r#"{"path":"/etc/a","path":"/home/a"}"#, false),
        ("write", "{}", false),
        ("read", r#"{"path":"/home/a"}"#, true),
        ("read", "{}", true),
        ("read", r#"{"path":"/etc/a"}"#, false),
        ("read", r#"{"path":"/home/../etc/a"}"#, false),
        ("read", r#"{"path":["/etc/a"]}"#, false),
        ("read", r#"{"path":"/etc/a","path":"/home/a"}"#, false),
        ("pay", r#"{"amount":100}"#, true),
        ("pay", r#"{"amount":1e2}"#, true),
        ("pay", r#"{"amount":100.5}"#, false),
        ("pay", r#"{"amount":"1"}"#, false),
        ("pay", "{}", false),
    ] {
        let call = tool_call("alice", tool, arguments);
        let decision = rbac.decide(&call).await.unwrap();
        assert_eq!(
            decision.allows(),
            allowed,
            "{tool} {arguments} {decision:?}"
        );
    }
    // A tool that may be called with some arguments is listed.
    let alice = Principal::authenticated("https://as.example", "alice");
    let explained = rbac.explain(&alice, EntryKind::Tool, "write");
    assert!(explained.visible);
    assert_eq!(explained.conditions, ["rbac:writer:allow-if:write"]);
    let explained = rbac.explain(&alice, EntryKind::Tool, "other");
    assert!(!explained.visible && explained.verdict.rule() == "rbac:default");
}

#[tokio::test]
async fn annotations_are_conditions_too() {
    let rbac = Rbac::builder()
        .allow_if("guest", Pattern::new("*"), Condition::read_only())
        .allow("user", EntryKind::Tool, Pattern::new("*"))
        .deny_if("user", Pattern::new("*"), Condition::destructive())
        .assign_subject("https://as.example", "guest", "guest")
        .assign_subject("https://as.example", "user", "user")
        .build();
    let hints = |read_only, destructive| {
        let mut own = ToolAnnotations::default();
        own.read_only = read_only;
        own.destructive = destructive;
        own
    };
    for (who, own, allowed) in [
        ("guest", Some(hints(Some(true), None)), true),
        ("guest", Some(hints(None, Some(false))), false),
        ("guest", None, false),
        ("user", Some(hints(Some(true), None)), true),
        ("user", Some(hints(None, Some(false))), true),
        ("user", Some(hints(None, None)), false),
        ("user", None, false),
    ] {
        let mut call = tool_call(who, "t", "{}");
        if let Some(own) = own {
            call = call.with_annotations(own);
        }
        let decision = rbac.decide(&call).await.unwrap();
        assert_eq!(decision.allows(), allowed, "{who} {own:?}");
    }
}

#[tokio::test]
async fn roles_inherit_what_others_allow_and_deny() {
    let rbac = Rbac::builder()
        .allow("reader", EntryKind::Tool, Pattern::new("read*"))
        .deny("reader", EntryKind::Tool, Pattern::new("read_secret"))
        .inherit("writer", "reader")
        .allow("writer", EntryKind::Tool, Pattern::new("write*"))
        .inherit("admin", "writer")
        // A circle is no more than its members.
        .inherit("reader", "reader2")
        .inherit("reader2", "reader")
        .assign_subject("https://as.example", "alice", "admin")
        .build();
    let alice = Principal::authenticated("https://as.example", "alice");
    for (tool, allowed) in [
        ("read_text", true),
        ("write_text", true),
        ("read_secret", false),
        ("other", false),
    ] {
        assert_eq!(
            rbac.allows(&alice, EntryKind::Tool, tool),
            allowed,
            "{tool}"
        );
    }
    let explained = rbac.explain(&alice, EntryKind::Tool, "read_secret");
    assert_eq!(explained.roles, ["admin", "writer", "reader", "reader2"]);
    assert_eq!(explained.verdict.rule(), "rbac:reader:deny:read_secret");
}

/// Speaks the Data API of the Open Policy Agent, with a policy of its own.
async fn agent() -> (url::Url, Arc<std::sync::Mutex<Vec<serde_json::Value>>>) {
    use axum::{Json, Router, http::StatusCode, routing::post};
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let answer = move |Json(body): Json<serde_json::Value>| {
        seen.lock().unwrap().push(body.clone());
        async move {
            let input = &body["input"];
            let answer = match input["entries"][0]["name"].as_str().unwrap_or_default() {
                "plain" => json!({ "result": true }),
                "own" => {
                    json!({ "result": { "allow": input["arguments"]["owner"] == input["principal"]["subject"],
                    "rule": "owners", "reason": "only your own" } })
                }
                "scoped" => json!({ "result": { "allow": false, "scopes": ["mcp:write"] } }),
                "undefined" => json!({}),
                "odd" => json!({ "result": "yes" }),
                _ => {
                    return (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        Json(json!({ "code": "internal_error" })),
                    );
                }
            };
            (StatusCode::OK, Json(answer))
        }
    };
    let app = Router::new().route("/v1/data/mcp/allow", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url.parse().unwrap(), asked)
}

#[tokio::test]
async fn an_agent_decides_and_whatever_is_no_decision_refuses() {
    use mcp_auth::policy::OpaEngine;
    use mcp_core::http_client::GuardedClient;
    let (url, asked) = agent().await;
    let http = Arc::new(GuardedClient::operator(url.as_str()).unwrap());
    let engine = OpaEngine::new(http.clone(), &url, "mcp/allow").unwrap();
    let mine = r#"{"owner":"alice"}"#;
    for (tool, arguments, allowed) in [
        ("plain", "{}", true),
        ("own", mine, true),
        ("own", r#"{"owner":"bob"}"#, false),
        ("undefined", "{}", false),
        // The server might read the other of the two.
        ("plain", r#"{"owner":"alice","owner":"bob"}"#, false),
    ] {
        let decision = engine
            .decide(&tool_call("alice", tool, arguments))
            .await
            .unwrap();
        assert_eq!(decision.allows(), allowed, "{tool} {arguments}");
        if tool == "own" {
            let verdict = decision.verdict();
            assert_eq!(
                (verdict.rule(), verdict.reason()),
                ("opa:owners", "only your own")
            );
        }
    }
    let scoped = engine
        .decide(&tool_call("alice", "scoped", "{}"))
        .await
        .unwrap();
    assert!(matches!(scoped, PolicyDecision::NeedScopes(_, scopes) if scopes == ["mcp:write"]));
    for tool in ["odd", "broken"] {
        let error = engine
            .decide(&tool_call("alice", tool, "{}"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{tool}");
    }
    let first = asked.lock().unwrap()[1].clone();
    assert_eq!(first["input"]["principal"]["subject"], "alice");
    assert_eq!(
        first["input"]["entries"],
        json!([{ "kind": "tool", "name": "own" }])
    );
    assert!(OpaEngine::new(http.clone(), &"http://opa.example".parse().unwrap(), "x").is_err());
    // An agent that is not there.
    let nowhere = OpaEngine::new(http, &"http://127.0.0.1:1".parse().unwrap(), "x").unwrap();
    assert!(
        nowhere
            .decide(&tool_call("alice", "plain", "{}"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn roles_of_tenants_have_names_and_holders_of_their_own() {
    let tenant = |pattern: &str| {
        Rbac::builder()
            .allow("reader", EntryKind::Tool, Pattern::new(pattern))
            .inherit("operator", "reader")
            .allow("operator", EntryKind::Tool, Pattern::new("erase"))
            .assign_scope("role:operator", "operator")
            .assign_subject("i", "7", "reader")
            .assign_authenticated("admin")
    };
    let rbac = Rbac::builder()
        .allow_everything("admin")
        .allow("reader", EntryKind::Tool, Pattern::new("common"))
        .assign_scope("role:reader", "reader")
        .tenant("acme", tenant("acme_*"))
        .tenant(
            "blue",
            tenant("blue_*").deny("reader", EntryKind::Tool, Pattern::new("blue_secret")),
        )
        .build();
    let of = |tenant: &str, subject: &str, scopes: &[&str]| {
        let who = Principal::authenticated("i", subject).with_scopes(scopes.iter().copied());
        match tenant {
            "" => who,
            tenant => who.with_tenant(tenant),
        }
    };
    for (who, tools) in [
        (of("acme", "1", &["role:operator"]), "acme_x erase"),
        (of("blue", "1", &["role:operator"]), "blue_x erase"),
        (of("acme", "7", &[]), "acme_x"),
        (of("blue", "7", &[]), "blue_x"),
        // A role without permissions in the tenant is none, whatever is so named outside.
        (of("acme", "1", &[]), ""),
        (of("", "7", &["role:operator"]), ""),
        (of("green", "7", &["role:operator"]), ""),
        (of("acme", "1", &["role:reader"]), "common"),
    ] {
        let all = [
            "acme_x",
            "blue_x",
            "blue_secret",
            "erase",
            "common",
            "other",
        ];
        let allowed = all
            .into_iter()
            .filter(|tool| rbac.allows(&who, EntryKind::Tool, tool));
        assert_eq!(allowed.collect::<Vec<_>>().join(" "), tools, "{who:?}");
    }
    let roles = rbac.roles(&of("acme", "7", &["role:operator"])).join(" ");
    assert!(
        roles.contains("acme/operator") && roles.contains("acme/reader"),
        "{roles}"
    );
}

#[tokio::test]
async fn a_role_that_is_denied_an_upstream_neither_sees_nor_calls_it() {
    let crm = UpstreamId::new("crm").unwrap();
    let rbac = Rbac::builder()
        .allow_everything("user")
        .deny("guest", EntryKind::Upstream, Pattern::new("crm*"))
        .assign_everybody("user")
        .assign_scope("guest", "guest")
        .build();
    let (guest, member) = (user("g", &["guest"]), user("m", &[]));
    for (who, sees) in [(&guest, false), (&member, true)] {
        let visibility = rbac.visibility(who);
        assert_eq!(visibility.allows_upstream(&crm), sees);
        let entry = Entry::new(EntryKind::Tool, "x").with_upstream(&crm);
        assert_eq!(visibility.allows(&entry), sees);
        assert!(visibility.allows(&Entry::new(EntryKind::Tool, "x")));
        let at = tool(who, "x").with_upstream(crm.clone());
        assert_eq!(rbac.decide(&at).await.unwrap().allows(), sees);
        assert_eq!(rbac.allows(who, EntryKind::Upstream, "crm-2"), sees);
    }
    // Roles that say nothing about upstreams hide none.
    let plain = Rbac::builder().build();
    assert!(plain.visibility(&member).allows_upstream(&crm));
}

#[tokio::test]
async fn an_upstream_is_its_owners_and_everybodys_only_where_nobody_owns_it() {
    let [crm, notes, open] = ["crm", "notes", "open"].map(|id| UpstreamId::new(id).unwrap());
    let owners = UpstreamOwners::new();
    owners.give_to_tenant(&crm, "acme");
    owners.give_to_subject(&notes, "i", "7");
    let acme = Principal::authenticated("i", "1").with_tenant("acme");
    let seven = Principal::authenticated("i", "7");
    let impostor = Principal::authenticated("other", "7");
    for (who, own) in [
        (&acme, [true, false, true]),
        (&seven, [false, true, true]),
        (&impostor, [false, false, true]),
        (&Principal::local(), [false, false, true]),
        (&Principal::anonymous(), [false, false, true]),
    ] {
        let visibility = owners.visibility(who);
        for (id, may) in [&crm, &notes, &open].into_iter().zip(own) {
            assert_eq!(owners.may_use(who, id), may, "{who:?} {id}");
            assert_eq!(visibility.allows_upstream(id), may);
            let request = tool(who, "x").with_upstream(id.clone());
            assert_eq!(owners.decide(&request).await.unwrap().allows(), may);
            let strict = owners.clone().owned_only();
            assert_eq!(strict.may_use(who, id), may && *id != open);
        }
    }
    // What nobody is left to own stays hidden.
    assert_eq!(owners.remove_tenant("acme"), std::slice::from_ref(&crm));
    assert!(!owners.may_use(&acme, &crm) && !owners.may_use(&seven, &crm));
    assert!(owners.release(&crm) && !owners.release(&crm));
    assert!(owners.may_use(&seven, &crm));
}
