//! Every method reaches the upstream that it is for, and no other.

use mcp_aggregate::{Bare, ExtensionRule, Gateway};
use mcp_core::{EntryKind, ErrorKind, Method, Request, Visibility};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Client, Server, no_such_method, start, start_with, tool};

/// A server with one of everything, whose names begin with a letter.
fn full(letter: &'static str) -> Server {
    let capabilities = json!({
        "tools": {}, "prompts": {}, "resources": { "subscribe": true }, "completions": {},
        "logging": {}, "extensions": { "vendor/events": {} },
    });
    Server::new(capabilities, move |request| {
        let name = format!("{letter}1");
        Ok(match request.method().as_str() {
            "tools/list" => json!({ "tools": [tool(&name)] }),
            "prompts/list" => json!({ "prompts": [{ "name": name }] }),
            "resources/list" => {
                json!({ "resources": [{ "uri": format!("{letter}://1"), "name": name }] })
            }
            "resources/templates/list" => {
                json!({ "resourceTemplates": [{ "uriTemplate": format!("{letter}://t/{{id}}"), "name": name }] })
            }
            "events/list" => json!({ "events": [{ "name": name }] }),
            "vendor/unknown" => return Err(no_such_method(request)),
            method => json!({ "answered": method, "by": letter }),
        })
    })
}

async fn by(
    client: &Client,
    running: &mcp_aggregate::Running,
    method: &str,
    params: Value,
) -> Value {
    client.call(running, method, params).await.unwrap()["by"].clone()
}

#[tokio::test(start_paused = true)]
async fn each_method_reaches_its_upstream_under_the_upstreams_own_names() {
    let (a, b) = (full("a"), full("b"));
    let running = start_with(&[("one", &a), ("two", &b)]).await;
    for client in [Client::session("alice"), Client::stateless("alice")] {
        for (method, params, expected) in [
            (
                "tools/call",
                json!({ "name": "two__b1" }),
                json!({ "name": "b1" }),
            ),
            (
                "prompts/get",
                json!({ "name": "two__b1" }),
                json!({ "name": "b1" }),
            ),
            (
                "resources/read",
                json!({ "uri": "b://1" }),
                json!({ "uri": "b://1" }),
            ),
            (
                "resources/read",
                json!({ "uri": "b://t/7" }),
                json!({ "uri": "b://t/7" }),
            ),
            (
                "completion/complete",
                json!({ "ref": { "type": "ref/prompt", "name": "two__b1" }, "argument": {} }),
                json!({ "ref": { "type": "ref/prompt", "name": "b1" }, "argument": {} }),
            ),
            (
                "completion/complete",
                json!({ "ref": { "type": "ref/resource", "uri": "b://t/{id}" }, "argument": {} }),
                json!({ "ref": { "type": "ref/resource", "uri": "b://t/{id}" }, "argument": {} }),
            ),
        ] {
            let before = b.seen(method).len();
            assert_eq!(by(&client, &running, method, params).await, "b", "{method}");
            let seen = b.seen(method);
            assert_eq!(seen[before].params, expected, "{method}");
            assert!(
                a.seen(method).is_empty(),
                "{method} reached another upstream"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_level_and_a_notification_reach_every_upstream_with_a_session_of_the_clients() {
    let (a, b) = (full("a"), full("b"));
    let running = start_with(&[("one", &a), ("two", &b)]).await;
    let client = Client::session("alice");
    let level = client.call(&running, "logging/setLevel", json!({ "level": "info" }));
    level.await.unwrap();
    let roots = Request::notification(Method::new("notifications/roots/list_changed"), None)
        .unwrap()
        .with_context_of(&client.request("ping", json!({})));
    running.service().oneshot(roots).await.unwrap();
    for server in [&a, &b] {
        assert_eq!(server.seen("logging/setLevel").len(), 1);
        assert_eq!(server.seen("notifications/roots/list_changed").len(), 1);
    }
    assert!(
        a.seen("ping").is_empty(),
        "the gateway answers a ping itself"
    );
    client.call(&running, "ping", json!({})).await.unwrap();
    assert!(a.seen("ping").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_an_error_that_names_it() {
    let running = start_with(&[("one", &full("a")), ("two", &full("b"))]).await;
    let client = Client::session("alice");
    for (method, params, expected) in [
        (
            "tools/call",
            json!({ "name": "two__nothing" }),
            "unknown tool: two__nothing",
        ),
        ("prompts/get", json!({ "name": "b1" }), "unknown prompt: b1"),
        (
            "resources/read",
            json!({ "uri": "nothing://1" }),
            "no such resource",
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "x" } }),
            "unknown prompt",
        ),
        ("completion/complete", json!({ "ref": {} }), "params.ref"),
        ("completion/complete", json!({}), "params.ref"),
        ("tools/list", json!({ "cursor": 7 }), "params.cursor"),
    ] {
        let error = client.call(&running, method, params).await.unwrap_err();
        assert!(error.message().contains(expected), "{method}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hidden_entry_can_neither_be_called_nor_read_nor_subscribed_to() {
    let running = start_with(&[("one", &full("a")), ("two", &full("b"))]).await;
    let client = Client::session("alice");
    let hides = || {
        Visibility::all().and(|entry: &mcp_core::Entry<'_>| {
            entry.upstream.is_none_or(|id| id.as_str() != "two") && entry.kind != EntryKind::Prompt
        })
    };
    let listen = json!({ "notifications": { "resourceSubscriptions": ["b://1", "a://1"] } });
    for (method, params) in [
        ("tools/call", json!({ "name": "two__b1" })),
        ("prompts/get", json!({ "name": "one__a1" })),
        ("resources/read", json!({ "uri": "b://1" })),
    ] {
        let request = client.request(method, params).with_visibility(hides());
        assert!(
            running.service().oneshot(request).await.is_err(),
            "{method}"
        );
    }
    let (notifier, mut stream) = mcp_core::Notifier::channel(std::num::NonZeroUsize::MIN);
    let request = client.request("subscriptions/listen", listen);
    let request = request.with_visibility(hides()).with_notifier(notifier);
    let listening = tokio::spawn(running.service().oneshot(request));
    let acknowledged = stream.recv().await.unwrap();
    let honoured: Value = acknowledged.params().unwrap().decode().unwrap();
    assert_eq!(
        honoured["notifications"]["resourceSubscriptions"],
        json!(["a://1"])
    );
    listening.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_caller_reaches_an_upstream_that_is_hidden_and_nothing_of_it_the_caller() {
    let (a, b) = (full("a"), full("b"));
    let running = start_with(&[("one", &a), ("two", &b)]).await;
    let hidden = || {
        Visibility::all().and(|entry: &mcp_core::Entry<'_>| {
            let id = entry.upstream.map(mcp_core::UpstreamId::as_str);
            id != Some("two")
        })
    };
    for client in [Client::session("alice"), Client::stateless("alice")] {
        let before = b.seen_at_all();
        for (method, params) in [
            ("server/discover", json!({})),
            ("tools/list", json!({})),
            ("resources/list", json!({})),
            ("tools/call", json!({ "name": "two__b1" })),
            ("resources/read", json!({ "uri": "b://t/7" })),
            ("logging/setLevel", json!({ "level": "info" })),
            ("tasks/list", json!({})),
            ("events/list", json!({})),
            ("vendor/own", json!({})),
            ("notifications/roots/list_changed", json!({})),
            (
                "completion/complete",
                json!({ "ref": { "type": "ref/resource", "uri": "b://t/{id}" } }),
            ),
        ] {
            let request = client.request(method, params).with_visibility(hidden());
            let answer = running.service().oneshot(request).await;
            let shown = match &answer {
                Ok(answer) => answer.result().to_string(),
                Err(error) => error.to_rpc(mcp_core::Era::Stateless).to_string(),
            };
            let asked = ["two__b1", "b://t/7", "b://t/{id}"];
            let shown = asked
                .iter()
                .fold(shown, |shown, own| shown.replace(own, ""));
            assert!(
                !shown.contains("two") && !shown.contains("b1"),
                "{method}: {shown}"
            );
        }
        assert_eq!(b.seen_at_all(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_method_goes_to_the_only_upstream_and_to_no_other() {
    let (a, b) = (full("a"), full("b"));
    let client = Client::session("alice");
    let alone = start_with(&[("one", &a)]).await;
    assert_eq!(by(&client, &alone, "vendor/own", json!({})).await, "a");
    let both = start_with(&[("one", &a), ("two", &b)]).await;
    let before = a.seen("vendor/other").len();
    let error = client
        .call(&both, "vendor/other", json!({}))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MethodNotFound);
    assert!(error.message().contains("vendor/other"), "{error}");
    assert_eq!(a.seen("vendor/other").len(), before);
    // The only one that declares an extension without a rule is asked.
    let plain = Server::with_tool("t");
    let mixed = start_with(&[("plain", &plain), ("one", &a)]).await;
    assert_eq!(by(&client, &mixed, "vendor/own", json!({})).await, "a");
    let discovered = client
        .call(&mixed, "server/discover", json!({}))
        .await
        .unwrap();
    assert!(
        discovered["capabilities"].get("extensions").is_none(),
        "{discovered}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_extension_with_a_rule_is_merged_routed_and_advertised() {
    let (a, b) = (full("a"), full("b"));
    let rule = ExtensionRule::new("vendor/events")
        .list("events/list", "events", "name")
        .by_id("events/poll", "name");
    let builder = Gateway::builder("gw").extension(rule);
    let running = start(
        builder
            .upstream(a.upstream("one"))
            .upstream(b.upstream("two")),
    )
    .await;
    let client = Client::stateless("alice");
    let merged = client
        .call(&running, "events/list", json!({}))
        .await
        .unwrap();
    assert_eq!(
        merged["events"],
        json!([{ "name": "one__a1" }, { "name": "two__b1" }])
    );
    let polled = by(
        &client,
        &running,
        "events/poll",
        json!({ "name": "two__b1" }),
    )
    .await;
    assert_eq!(polled, "b");
    assert_eq!(b.seen("events/poll")[0].params, json!({ "name": "b1" }));
    for unknown in [
        json!({ "name": "b1" }),
        json!({ "name": "three__x" }),
        json!({}),
    ] {
        assert!(client.call(&running, "events/poll", unknown).await.is_err());
    }
    let discovered = client
        .call(&running, "server/discover", json!({}))
        .await
        .unwrap();
    assert!(
        discovered["capabilities"]["extensions"]
            .get("vendor/events")
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_of_the_only_upstream_without_a_prefix_is_the_upstreams_to_refuse() {
    let a = full("a");
    let running = start(
        Gateway::builder("gw")
            .upstream(a.upstream("one"))
            .naming(Bare),
    )
    .await;
    let client = Client::session("alice");
    let answer = by(
        &client,
        &running,
        "tools/call",
        json!({ "name": "unlisted" }),
    )
    .await;
    assert_eq!(answer, "a");
}

#[tokio::test(start_paused = true)]
async fn a_tools_annotations_and_schemas_are_known_to_every_layer() {
    use std::sync::{Arc, Mutex};

    let annotated = Server::new(json!({ "tools": {} }), |request| {
        let mut tool = tool("t");
        tool["annotations"] = json!({ "readOnlyHint": true });
        match *request.method() {
            Method::TOOLS_LIST => Ok(json!({ "tools": [tool] })),
            _ => Ok(json!({ "content": [] })),
        }
    });
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let layer = |seen: &Arc<Mutex<Vec<bool>>>| {
        let seen = Arc::clone(seen);
        tower::util::MapRequestLayer::new(move |request: Request| {
            if request.tool().is_some() {
                let read_only = request
                    .annotations()
                    .is_some_and(|own| own.read_only == Some(true));
                let input = request.schemas().and_then(|own| own.input.clone());
                let is_schema = input.is_some_and(|own| own.as_str().contains("object"));
                seen.lock().unwrap().push(read_only && is_schema);
            }
            request
        })
    };
    let upstream = annotated.upstream("up").layer(layer(&seen));
    let running = start(
        Gateway::builder("gw")
            .upstream(upstream)
            .layer(layer(&seen)),
    )
    .await;
    let client = Client::session("alice");
    client
        .call(&running, "tools/call", json!({ "name": "up__t" }))
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [true, true]);
}
