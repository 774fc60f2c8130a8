//! The graph of upstreams changes while clients use it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcp_aggregate::{GatewayEvent, GraphSpec, Running, Upstream};
use mcp_core::{Error, ErrorKind, Json, Method, Request, Response};
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tower::{layer::util::Identity, service_fn};

use super::{client::Client, fixture::start};

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(20);

/// A server in this process with one tool that answers a text, and one that answers when it is let.
#[derive(Clone, Default)]
struct Scripted {
    says: &'static str,
    gate: Arc<Notify>,
    waiting: Arc<AtomicUsize>,
}

impl Scripted {
    fn saying(says: &'static str) -> Self {
        Self {
            says,
            ..Self::default()
        }
    }

    fn upstream(&self, id: &str) -> Upstream {
        let scripted = self.clone();
        let service = service_fn(move |request| scripted.clone().answer(request));
        Upstream::service(id, service)
    }

    async fn answer(self, request: Request) -> Result<Response, Error> {
        let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
        let result = match *request.method() {
            Method::DISCOVER => json!({ "capabilities": { "tools": { "listChanged": true } } }),
            Method::TOOLS_LIST => json!({ "tools": [tool("say"), tool("wait"), tool(self.says)] }),
            Method::TOOLS_CALL => {
                if request.tool() == Some("wait") {
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    self.gate.notified().await;
                }
                json!({ "content": [{ "type": "text", "text": self.says }] })
            }
            ref method => return Err(Error::new(ErrorKind::MethodNotFound, method.to_string())),
        };
        Ok(Response::new(Json::from(result)))
    }

    async fn is_waited_for(&self) {
        let waited = async {
            while self.waiting.load(Ordering::SeqCst) == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONGEST, waited).await.expect("the call has begun");
    }
}

/// An upstream that never lists.
fn broken(id: &str) -> Upstream {
    Upstream::service(
        id,
        service_fn(|_: Request| async {
            Err::<Response, _>(Error::new(ErrorKind::Unavailable, "it is broken"))
        }),
    )
}

fn ids(all: &[mcp_core::UpstreamId]) -> Vec<&str> {
    all.iter().map(mcp_core::UpstreamId::as_str).collect()
}

async fn eventually_lists(client: &Client, tool: &str) {
    let listed = async {
        while !client.names("tools").await.iter().any(|name| name == tool) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONGEST, listed).await.expect("it is listed");
}

/// Calls a tool in the background and returns its text.
fn call(running: &Arc<Running>, tool: &'static str) -> tokio::task::JoinHandle<String> {
    let running = Arc::clone(running);
    tokio::spawn(async move {
        let client = Client::session(&running, "alice").await;
        client.text(tool, json!({})).await
    })
}

#[tokio::test]
async fn upstreams_are_added_and_removed_and_clients_are_told() {
    let running = start([Scripted::saying("one").upstream("first")]).await;
    let client = Client::session(&running, "alice").await;
    assert_eq!(client.names("tools").await.len(), 3);
    let diff = running
        .add(Scripted::saying("two").upstream("second"))
        .await;
    assert_eq!(ids(&diff.unwrap().added), ["second"]);
    client
        .notification("notifications/tools/list_changed")
        .await;
    eventually_lists(&client, "second__say").await;
    assert_eq!(client.text("second__say", json!({})).await, "two");

    let diff = running.remove("second").await.unwrap();
    assert_eq!(ids(&diff.removed), ["second"]);
    assert_eq!(ids(&diff.kept), ["first"]);
    client
        .notification("notifications/tools/list_changed")
        .await;
    assert_eq!(client.names("tools").await.len(), 3);
    let answer = client.call("second__say", json!({})).await;
    assert!(answer["error"].is_object(), "{answer}");
    assert_eq!(client.text("first__say", json!({})).await, "one");
    running.shutdown().await;
}

#[tokio::test]
async fn a_call_finishes_on_the_upstream_it_began_on_while_new_ones_go_to_its_successor() {
    let old = Scripted::saying("old");
    let running = Arc::new(start([old.upstream("up")]).await);
    let slow = call(&running, "up__wait");
    old.is_waited_for().await;
    let diff = running
        .replace(Scripted::saying("new").upstream("up"))
        .await
        .unwrap();
    assert_eq!(ids(&diff.replaced), ["up"]);
    let client = Client::session(&running, "bob").await;
    assert_eq!(client.text("up__say", json!({})).await, "new");
    let entry = running.catalogue();
    let entry = entry.find(mcp_core::EntryKind::Tool, "up__say").unwrap();
    assert_eq!(entry.upstream_generation(), 2);
    old.gate.notify_one();
    assert_eq!(slow.await.unwrap(), "old");
    running.shutdown().await;
}

#[tokio::test]
async fn a_call_that_does_not_finish_gets_one_clear_error_at_the_drain_deadline() {
    let old = Scripted::saying("old");
    let timing = mcp_core::Timing::default().with_drain(Duration::from_millis(100));
    let running = Arc::new(start([old.upstream("up").timing(timing)]).await);
    let own = Arc::clone(&running);
    let slow = tokio::spawn(async move {
        let client = Client::session(&own, "alice").await;
        client.call("up__wait", json!({})).await
    });
    old.is_waited_for().await;
    running.remove("up").await.unwrap();
    let answer = timeout(LONGEST, slow).await.expect("it ends").unwrap();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("drain deadline"), "{message}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_successor_that_does_not_come_up_leaves_the_old_one_at_work() {
    let running = start([Scripted::saying("old").upstream("up")]).await;
    let diff = running.replace(broken("up")).await.unwrap();
    assert!(diff.replaced.is_empty());
    assert_eq!(diff.failed[0].0.as_str(), "up");
    assert!(diff.failed[0].1.message().contains("it is broken"));
    let client = Client::session(&running, "alice").await;
    assert_eq!(client.text("up__say", json!({})).await, "old");
    // The description is the one that is at work.
    let diff = running.apply(running.spec().await).await.unwrap();
    assert_eq!(ids(&diff.kept), ["up"]);
    running.shutdown().await;
}

#[tokio::test]
async fn what_stays_the_same_goes_on_and_what_is_wrong_changes_nothing() {
    let same = Scripted::saying("same").upstream("same");
    let other = Scripted::saying("other");
    let running = start([same.clone(), other.upstream("other")]).await;
    let before = running.catalogue().generation();
    let spec = GraphSpec::new()
        .upstream(same.clone())
        .upstream(Upstream::http("bad", "no address"))
        .upstream(Upstream::http("Worse", "http://127.0.0.1:1/"));
    let errors = running.apply(spec).await.unwrap_err();
    let keys: Vec<_> = errors.iter().map(|error| error.key().to_owned()).collect();
    assert_eq!(keys, ["upstreams.bad.url", "upstreams.Worse.id"]);
    assert_eq!(running.catalogue().generation(), before);

    let layered = other.upstream("other").layer(Identity::new());
    let spec = GraphSpec::new().upstream(same).upstream(layered);
    let diff = running.apply(spec).await.unwrap();
    assert_eq!(
        (ids(&diff.kept), ids(&diff.replaced)),
        (vec!["same"], vec!["other"])
    );
    assert!(running.add(broken("same")).await.is_err());
    assert!(running.replace(broken("nothing")).await.is_err());
    assert!(running.remove("nothing").await.is_err());
    running.shutdown().await;
}

#[tokio::test]
async fn a_drain_lets_calls_finish_and_refuses_new_ones() {
    let slow = Scripted::saying("done");
    let running = Arc::new(start([slow.upstream("up")]).await);
    let mut events = running.events();
    let client = Client::session(&running, "bob").await;
    let in_flight = call(&running, "up__wait");
    slow.is_waited_for().await;
    let own = Arc::clone(&running);
    let draining = tokio::spawn(async move { own.drain(LONGEST).await });
    while !running.health().draining {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!running.health().is_ready());
    let refused = client.call("up__say", json!({})).await;
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("shutting down"), "{message}");
    assert!(!draining.is_finished());
    slow.gate.notify_one();
    assert_eq!(in_flight.await.unwrap(), "done");
    assert!(timeout(LONGEST, draining).await.expect("it ends").unwrap());
    running.shutdown().await;
    let mut seen = false;
    while let Ok(Some(event)) = timeout(Duration::from_millis(100), events.recv()).await {
        seen |= matches!(event, GatewayEvent::Draining);
    }
    assert!(seen, "readers of the events are told");
}

#[tokio::test]
async fn the_events_tell_of_states_catalogues_and_graphs() {
    let running = start([Scripted::saying("one").upstream("first")]).await;
    let mut events = running.events();
    running
        .add(Scripted::saying("two").upstream("second"))
        .await
        .unwrap();
    let (mut graph, mut healthy, mut catalogue) = (false, false, false);
    let all = async {
        while !(graph && healthy && catalogue) {
            match events.recv().await.expect("the gateway runs") {
                GatewayEvent::Graph { diff, .. } => graph |= ids(&diff.added) == ["second"],
                GatewayEvent::Upstream { id, state, .. } => {
                    healthy |= id.as_str() == "second" && state.name() == "healthy";
                }
                GatewayEvent::Catalogue(change) => catalogue |= change.entries.len() == 3,
                _ => {}
            }
        }
    };
    timeout(LONGEST, all).await.expect("all of them come");
    running.shutdown().await;
}

#[tokio::test]
async fn swapping_an_upstream_under_load_fails_no_call() {
    let others = (0..20).map(|number| Scripted::saying("other").upstream(&format!("up-{number}")));
    let running = Arc::new(start(others.chain([Scripted::saying("v").upstream("swapped")])).await);
    let (done, stop) = tokio::sync::watch::channel(false);
    let load: Vec<_> = (0..16)
        .map(|number| {
            let (running, stop) = (Arc::clone(&running), stop.clone());
            tokio::spawn(async move {
                let client = Client::session(&running, &format!("user-{number}")).await;
                let mut calls = 0;
                while !*stop.borrow() {
                    assert_eq!(client.text("swapped__say", json!({})).await, "v");
                    assert_eq!(client.text("up-7__say", json!({})).await, "other");
                    calls += 2;
                }
                calls
            })
        })
        .collect();
    for _ in 0..10 {
        let diff = running
            .replace(Scripted::saying("v").upstream("swapped"))
            .await;
        assert_eq!(ids(&diff.unwrap().replaced), ["swapped"]);
        sleep(Duration::from_millis(20)).await;
    }
    done.send_replace(true);
    for one in load {
        assert!(one.await.unwrap() > 0);
    }
    running.shutdown().await;
}
