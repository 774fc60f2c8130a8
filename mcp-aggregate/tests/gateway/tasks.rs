//! Tasks of revision 2025-11-25, in raw messages.

use std::sync::{Arc, Mutex};

use mcp_aggregate::Upstream;
use mcp_core::{Error, ErrorKind, Json, Method, Notification, Request, Response};
use serde_json::{Value, json};
use tower::service_fn;

use crate::{client::Client, fixture::start};

/// An upstream with tasks that notes which ids it is asked for.
fn upstream(id: &str, asked: &Arc<Mutex<Vec<String>>>) -> Upstream {
    let asked = Arc::clone(asked);
    let own = id.to_owned();
    let service = service_fn(move |request: Request| {
        let (asked, own) = (Arc::clone(&asked), own.clone());
        async move { answer(request, &own, &asked).await }
    });
    Upstream::service(id, service)
}

async fn answer(
    request: Request,
    own: &str,
    asked: &Mutex<Vec<String>>,
) -> Result<Response, Error> {
    let task = |status: &str| json!({ "taskId": format!("task.{own}/1"), "status": status });
    let result = match request.method().as_str() {
        "server/discover" => json!({
            "capabilities": { "tools": {}, "tasks": { "list": {}, "cancel": {} } },
        }),
        "tools/list" => json!({
            "tools": [{ "name": "work", "inputSchema": { "type": "object" } }],
        }),
        "tools/call" => {
            let status = Json::from(task("working"));
            let told = Notification::new(Method::TASK_STATUS, Some(status));
            request.notifier().notify(told).await?;
            json!({ "task": task("working"), "vendor": 1 })
        }
        "tasks/get" | "tasks/result" | "tasks/cancel" => {
            let name = request.name().unwrap_or_default().to_owned();
            asked.lock().unwrap().push(name.clone());
            if name != format!("task.{own}/1") {
                return Err(Error::new(
                    ErrorKind::InvalidParams,
                    "there is no such task",
                ));
            }
            match request.method().as_str() {
                "tasks/result" => json!({
                    "content": [],
                    "_meta": { "io.modelcontextprotocol/related-task": { "taskId": name } },
                }),
                _ => task("completed"),
            }
        }
        "tasks/list" => json!({ "tasks": [task("working")] }),
        method => {
            let message = format!("{method} does not exist");
            return Err(Error::new(ErrorKind::MethodNotFound, message));
        }
    };
    Ok(Response::new(Json::from(result)))
}

async fn started(client: &Client, tool: &str) -> String {
    let params = json!({ "name": tool, "arguments": {}, "task": { "ttl": 60_000 } });
    let answer = client.request("tools/call", params).await;
    assert_eq!(answer["result"]["vendor"], 1, "{answer}");
    let id = answer["result"]["task"]["taskId"].as_str();
    let id = id
        .unwrap_or_else(|| panic!("{answer} has a task"))
        .to_owned();
    let told = client.notification("notifications/tasks/status").await;
    assert_eq!(told["params"]["taskId"], id);
    id
}

#[tokio::test]
async fn tasks_go_to_the_upstream_that_has_them_under_its_own_ids() {
    let asked = [Arc::default(), Arc::default()];
    let running = start([upstream("a", &asked[0]), upstream("b", &asked[1])]).await;
    let client = Client::session(&running, "alice").await;
    for (index, tool) in [(0, "a__work"), (1, "b__work")] {
        let id = started(&client, tool).await;
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            let answer = client.request(method, json!({ "taskId": id })).await;
            let result = &answer["result"];
            let named = match method {
                "tasks/result" => {
                    &result["_meta"]["io.modelcontextprotocol/related-task"]["taskId"]
                }
                _ => &result["taskId"],
            };
            assert_eq!(*named, id, "{answer}");
        }
        let own = ["task.a/1", "task.b/1"][index];
        assert_eq!(*asked[index].lock().unwrap(), [own; 3]);
    }
}

#[tokio::test]
async fn tasks_are_their_owners_only() {
    let asked = Arc::default();
    let running = start([upstream("a", &asked)]).await;
    let alice = Client::session(&running, "alice").await;
    let bob = Client::session(&running, "bob").await;
    let id = started(&alice, "a__work").await;
    for foreign in [&id, "task.a/1", "a.x.task.a/1", ""] {
        let answer = bob.request("tasks/get", json!({ "taskId": foreign })).await;
        assert_eq!(answer["error"]["code"], -32602, "{foreign}: {answer}");
    }
    assert!(asked.lock().unwrap().is_empty());
    let other = Client::session(&running, "alice").await;
    let answer = other.request("tasks/get", json!({ "taskId": id })).await;
    assert_eq!(
        answer["result"]["taskId"], id,
        "the same user, another session"
    );
}

#[tokio::test]
async fn lists_of_tasks_are_read_page_by_page() {
    let asked = Arc::default();
    let running = start([upstream("a", &asked), upstream("b", &asked)]).await;
    let client = Client::session(&running, "alice").await;
    let mut ids = Vec::new();
    let mut params = json!({});
    loop {
        let page = client.request("tasks/list", params).await["result"].clone();
        let tasks = page["tasks"].as_array().unwrap().iter();
        ids.extend(tasks.map(|task| task["taskId"].as_str().unwrap().to_owned()));
        match &page["nextCursor"] {
            Value::Null => break,
            cursor => params = json!({ "cursor": cursor }),
        }
    }
    assert_eq!(ids.len(), 2);
    for cursor in ["x", "9:", "0:é", "0:é=", "18446744073709551616:"] {
        let answer = client
            .request("tasks/list", json!({ "cursor": cursor }))
            .await;
        let over = answer["result"]["tasks"]
            .as_array()
            .is_some_and(Vec::is_empty);
        assert!(
            over || answer["error"]["code"] == -32602,
            "{cursor}: {answer}"
        );
    }
}
