use std::sync::atomic::{AtomicU64, Ordering};

use mcp_core::{BoxSeam, EntryKind, Error, Method, Request, Response};
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::catalogue::{Bare, Prefixed, fetch};

/// A source whose upstream lists these results by member: `{"tools": [...]}`.
async fn source(id: &str, lists: Value) -> Source {
    let capabilities = json!({
        "tools": {}, "prompts": {}, "resources": {},
        "extensions": { "io.modelcontextprotocol/skills": {} },
    });
    let service = service_fn(move |request: Request| {
        let member = match *request.method() {
            Method::TOOLS_LIST => "tools",
            Method::PROMPTS_LIST => "prompts",
            Method::RESOURCES_LIST => "resources",
            Method::RESOURCE_TEMPLATES_LIST => "resourceTemplates",
            _ => "skills",
        };
        let result = match *request.method() {
            Method::DISCOVER => json!({ "capabilities": capabilities.clone() }),
            _ => json!({ member: lists.get(member).cloned().unwrap_or(json!([])) }),
        };
        std::future::ready(Ok::<_, Error>(Response::new(result.into())))
    });
    let service = BoxSeam::new(service);
    let context = Request::new(Method::DISCOVER, None).unwrap();
    let listing = fetch(&service, &context, std::time::Duration::from_secs(1)).await;
    Source {
        node: Node::of(id, service),
        listing: Some(listing.unwrap().into()),
    }
}

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

fn compose(sources: &[Source]) -> Snapshot {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    let info = Json::parse(r#"{"name":"gw","version":"1"}"#).unwrap();
    Snapshot::compose(sources.to_vec(), &Prefixed, &info, generation)
}

fn page(snapshot: &Snapshot, kind: ListKind, shape: Shape) -> Value {
    let page = snapshot.page(kind, 0, &Visibility::all(), shape);
    page.unwrap().json.decode().unwrap()
}

fn places(snapshot: &Snapshot, uri: &str) -> Vec<String> {
    let places = snapshot.find_resource(uri).into_iter();
    places.map(|place| place.node.id.to_string()).collect()
}

#[tokio::test]
async fn of_two_entries_with_one_name_the_first_is_offered_and_the_other_reported() {
    let all = [
        source("a", json!({ "resources": [{ "uri": "x:1" }] })).await,
        source(
            "b",
            json!({ "resources": [{ "uri": "x:1" }, { "uri": "x:2" }] }),
        )
        .await,
    ];
    let snapshot = compose(&all);
    assert_eq!(snapshot.entries(ListKind::Resources).len(), 2);
    let withheld = &snapshot.withheld()[0];
    assert_eq!(
        (
            &*withheld.name,
            withheld.offered.as_str(),
            withheld.withheld.as_str()
        ),
        ("x:1", "a", "b")
    );
    assert_eq!(places(&snapshot, "x:1"), ["a"]);
}

#[tokio::test]
async fn a_definition_keeps_every_byte_but_its_name() {
    let odd = json!({ "name": "t", "x-vendor": 1.0, "inputSchema": { "a": [1e3] } });
    let snapshot = compose(&[source("up", json!({ "tools": [odd] })).await]);
    let entry = snapshot.find(ListKind::Tools, "up__t").unwrap();
    let expected = odd.to_string().replace("\"t\"", "\"up__t\"");
    assert_eq!(entry.json.as_str(), expected);
}

#[tokio::test]
async fn a_resource_is_looked_for_where_it_is_likeliest() {
    let all = [
        source(
            "web",
            json!({ "resources": [{ "uri": "https://a.example/1" }] }),
        )
        .await,
        source(
            "other",
            json!({ "resources": [{ "uri": "https://b.example/1" }] }),
        )
        .await,
        source(
            "files",
            json!({ "resourceTemplates": [{ "uriTemplate": "file:///{+path}" }] }),
        )
        .await,
    ];
    let snapshot = compose(&all);
    for (uri, expected) in [
        ("https://a.example/1", &["web"][..]),
        ("https://a.example/unlisted", &["web", "other"]),
        ("https://c.example/", &["web", "other"]),
        ("file:///etc/motd", &["files"]),
        ("mailto:someone", &[]),
    ] {
        assert_eq!(places(&snapshot, uri), expected, "{uri}");
    }
    let alone = compose(&all[..1]);
    assert_eq!(
        places(&alone, "mailto:someone"),
        ["web"],
        "the only one is asked"
    );
}

#[tokio::test]
async fn pages_hold_a_megabyte_and_every_entry_is_on_one() {
    let tools: Vec<_> = (0..30)
        .map(|number| json!({ "name": format!("t{number}"), "description": "x".repeat(100_000) }))
        .collect();
    let snapshot = compose(&[source("up", json!({ "tools": tools })).await]);
    assert!(snapshot.is_paged());
    let mut names = Vec::new();
    let mut number = Some(0);
    let mut pages = 0;
    while let Some(at) = number {
        let page = snapshot
            .page(ListKind::Tools, at, &Visibility::all(), Shape::Stateless)
            .unwrap();
        assert!(page.json.len() < PAGE + 200_000);
        names.extend(page.json.member("tools").unwrap().elements());
        number = page.next;
        pages += 1;
    }
    assert_eq!((names.len(), pages), (30, 3));
    assert!(
        snapshot
            .page(ListKind::Tools, 99, &Visibility::all(), Shape::Stateless)
            .is_none()
    );
}

#[tokio::test]
async fn a_page_for_one_caller_lists_what_it_sees_and_is_private() {
    let snapshot = compose(&[source("up", json!({ "tools": [tool("a"), tool("b")] })).await]);
    let sees =
        Visibility::all().and(|entry| entry.kind != EntryKind::Tool || entry.name == "up__a");
    let page = snapshot
        .page(ListKind::Tools, 0, &sees, Shape::Stateless)
        .unwrap();
    let page: Value = page.json.decode().unwrap();
    assert_eq!(page["tools"].as_array().unwrap().len(), 1);
    assert_eq!(page["cacheScope"], "private");
}

#[tokio::test]
async fn only_stateless_clients_get_what_their_revision_adds() {
    let mut missing = source("late", json!({})).await;
    missing.listing = None;
    let snapshot = compose(&[source("up", json!({ "tools": [tool("a")] })).await, missing]);
    let stateless = page(&snapshot, ListKind::Tools, Shape::Stateless);
    assert_eq!(stateless["resultType"], "complete");
    assert_eq!(
        stateless["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "gw"
    );
    let session = page(&snapshot, ListKind::Tools, Shape::Session);
    assert!(session.get("resultType").is_none() && session.get("ttlMs").is_none());
    for page in [stateless, session] {
        assert_eq!(page["_meta"]["mcp-aggregate/degraded"], json!(["late"]));
    }
}

#[tokio::test]
async fn what_changed_is_told_entry_by_entry() {
    let before = compose(&[source("up", json!({ "tools": [tool("a"), tool("b")] })).await]);
    let altered = json!({ "name": "b", "description": "new" });
    let after = compose(&[source("up", json!({ "tools": [altered, tool("c")] })).await]);
    let changes = after.changes_since(&before);
    let changes: Vec<_> = changes.iter().map(|one| (&*one.name, one.change)).collect();
    assert_eq!(
        changes,
        [
            ("up__b", Change::Altered),
            ("up__c", Change::Added),
            ("up__a", Change::Removed)
        ]
    );
    assert!(after.changes_since(&after).is_empty());
}

#[tokio::test]
async fn a_skill_that_two_upstreams_have_is_found_at_each_under_a_path_of_its_own() {
    let skill = json!({
        "uri": "skill://greet/SKILL.md",
        "frontmatter": { "name": "greet", "description": "d" },
        "resources": [{ "uri": "skill://greet/a.md", "digest": "sha256:00", "size": 1 }],
    });
    let all = [
        source("a", json!({ "skills": [skill] })).await,
        source("b", json!({ "skills": [skill] })).await,
    ];
    let snapshot = compose(&all);
    let listed = page(&snapshot, ListKind::Skills, Shape::Stateless);
    assert_eq!(listed["skills"][0], skill);
    let second = &listed["skills"][1];
    assert_eq!(second["uri"], "skill://b/greet/SKILL.md");
    assert_eq!(second["resources"][0]["uri"], "skill://b/greet/a.md");
    assert_eq!(second["resources"][0]["digest"], "sha256:00");
    assert_eq!(places(&snapshot, "skill://greet/a.md"), ["a"]);
    let place = snapshot.find_resource("skill://b/greet/a.md").remove(0);
    assert_eq!(place.node.id.as_str(), "b");
    assert_eq!(
        place
            .skill
            .unwrap()
            .original_of("skill://b/greet/a.md")
            .unwrap(),
        "skill://greet/a.md"
    );
}

#[tokio::test]
async fn a_single_upstream_speaks_for_itself_and_several_are_merged() {
    let one = source("a", json!({})).await;
    let advertises = |id: &str| id == crate::catalogue::SKILLS;
    let info = Json::parse(r#"{"name":"gw","version":"1"}"#).unwrap();
    let alone = compose(std::slice::from_ref(&one)).discovered(&info, None, &advertises, &|_| true);
    let alone: Value = alone.decode().unwrap();
    assert!(alone["capabilities"]["tools"].get("listChanged").is_none());
    let both = compose(&[one, source("b", json!({})).await]);
    let both: Value = both
        .discovered(&info, Some("hello"), &advertises, &|_| true)
        .decode()
        .unwrap();
    assert_eq!(both["capabilities"]["tools"]["listChanged"], true);
    assert_eq!(both["instructions"], "hello");
    assert_eq!(
        both["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "gw"
    );
    assert!(
        both["capabilities"]["extensions"]
            .get(crate::catalogue::SKILLS)
            .is_some()
    );
}

#[tokio::test]
async fn names_can_be_left_as_they_are() {
    let source = source("up", json!({ "tools": [tool("a")] })).await;
    let info = Json::EMPTY_OBJECT;
    let snapshot = Snapshot::compose(vec![source], &Bare, &info, 1);
    assert!(snapshot.find(ListKind::Tools, "a").is_some());
}

#[tokio::test]
async fn clients_of_older_revisions_keep_every_tool_without_what_they_cannot_read() {
    let listing = json!({
        "name": "t", "icons": [{ "src": "data:" }], "outputSchema": { "type": "array" },
    });
    let snapshot = compose(&[source("up", json!({ "tools": [listing, tool("plain")] })).await]);
    for (shape, icons, schema) in [
        (Shape::Stateless, true, true),
        (Shape::SessionWithIcons, true, false),
        (Shape::Session, false, false),
    ] {
        let tools = page(&snapshot, ListKind::Tools, shape);
        let first = &tools["tools"][0];
        let has = |member: &str| first.get(member).is_some();
        assert_eq!(
            (has("icons"), has("outputSchema")),
            (icons, schema),
            "{shape:?}"
        );
        assert_eq!(tools["tools"].as_array().unwrap().len(), 2);
    }
}
