//! Tasks keep to their upstream, their principal and their generation.

use mcp_aggregate::{Gateway, Running};
use mcp_core::secret::Secret;
use serde_json::{Value, json};

use crate::support::{Client, Server, start, tool};

/// A server that makes one task, under an id of its own.
fn server(task: &'static str) -> Server {
    Server::new(
        json!({ "tools": {}, "tasks": { "list": {} } }),
        move |request| {
            Ok(match request.method().as_str() {
                "tools/list" => json!({ "tools": [tool("make")] }),
                "tools/call" => json!({ "task": { "taskId": task, "status": "working" } }),
                "tasks/list" => json!({ "tasks": [{ "taskId": task, "status": "working" }] }),
                method => json!({ "method": method, "taskId": request.name() }),
            })
        },
    )
}

async fn make(client: &Client, running: &Running, tool: &str) -> String {
    let params = json!({ "name": tool, "task": {} });
    let made = client.call(running, "tools/call", params).await.unwrap();
    made["task"]["taskId"].as_str().unwrap().to_owned()
}

async fn get(client: &Client, running: &Running, task: &str) -> Result<Value, mcp_core::Error> {
    client
        .call(running, "tasks/get", json!({ "taskId": task }))
        .await
}

fn gateway(key: &str) -> mcp_aggregate::GatewayBuilder {
    Gateway::builder("gw").seal_key(Secret::new(key))
}

#[tokio::test(start_paused = true)]
async fn a_task_is_known_to_every_gateway_with_the_key_and_to_its_owner_only() {
    let (one, two) = (server("t-1"), server("t-2"));
    let with = |key| {
        gateway(key)
            .upstream(one.upstream("one"))
            .upstream(two.upstream("two"))
    };
    let (first, second) = (start(with("shared")).await, start(with("shared")).await);
    let stranger = start(with("another")).await;
    let alice = Client::session("alice");
    let task = make(&alice, &first, "two__make").await;
    assert!(!task.starts_with("t-2"));
    for running in [&first, &second] {
        assert_eq!(get(&alice, running, &task).await.unwrap()["taskId"], task);
    }
    assert!(one.seen("tasks/get").is_empty());
    assert_eq!(two.seen("tasks/get")[0].params["taskId"], "t-2");
    assert!(get(&alice, &stranger, &task).await.is_err());
    assert!(get(&Client::session("bob"), &first, &task).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_task_of_an_upstream_that_was_replaced_or_removed_is_gone_and_says_so() {
    let running = start(gateway("k").upstream(server("t").upstream("up"))).await;
    let alice = Client::session("alice");
    let task = make(&alice, &running, "up__make").await;
    running.replace(server("t").upstream("up")).await.unwrap();
    let error = get(&alice, &running, &task).await.unwrap_err();
    assert!(error.message().contains("up was replaced"), "{error}");
    running.remove("up").await.unwrap();
    let error = get(&alice, &running, &task).await.unwrap_err();
    assert!(error.message().contains("up was removed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_lists_of_all_upstreams_are_one_list_with_sealed_cursors() {
    let plain = Server::with_tool("t");
    let builder = gateway("k")
        .upstream(server("t-1").upstream("one"))
        .upstream(plain.upstream("plain"))
        .upstream(server("t-2").upstream("two"));
    let running = start(builder).await;
    let alice = Client::session("alice");
    let mut ids = Vec::new();
    let mut params = json!({});
    loop {
        let page = alice.call(&running, "tasks/list", params).await.unwrap();
        ids.extend(
            page["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["taskId"].clone()),
        );
        let Some(next) = page.get("nextCursor").cloned() else {
            break;
        };
        let stolen = json!({ "cursor": next });
        let bob = Client::session("bob");
        assert!(
            bob.call(&running, "tasks/list", stolen.clone())
                .await
                .is_err()
        );
        params = stolen;
    }
    assert_eq!(ids.len(), 2);
    for id in ids {
        get(&alice, &running, id.as_str().unwrap()).await.unwrap();
    }
    assert!(plain.seen("tasks/list").is_empty(), "it declares no tasks");
}
