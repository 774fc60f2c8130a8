//! Lists that change at the worst moment.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcp_aggregate::Upstream;
use mcp_core::{Error, ErrorKind, Method, Notification, Notifier, Request, Response, SessionKey};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower::service_fn;

use super::{client::Client, fixture::start_bare};

/// A server that gets a second tool while it answers the first listing of a session, and tells those who listen then.
#[derive(Clone, Default)]
struct Growing {
    known: Arc<Mutex<HashMap<Option<SessionKey>, Known>>>,
    /// How long it takes to listen.
    slowness: Duration,
}

#[derive(Default)]
struct Known {
    listener: Option<Notifier>,
    listed: bool,
}

impl Growing {
    fn upstream(&self) -> Upstream {
        let growing = self.clone();
        let service = service_fn(move |request| growing.clone().answer(request));
        Upstream::service("growing", service)
    }

    fn listeners(&self) -> usize {
        let known = self.known.lock().unwrap();
        known.values().filter(|one| one.listener.is_some()).count()
    }

    fn listens(&self, session: Option<SessionKey>, notifier: Notifier) {
        let mut known = self.known.lock().unwrap();
        known.entry(session).or_default().listener = Some(notifier);
    }

    async fn answer(self, request: Request) -> Result<Response, Error> {
        let session = request.session().cloned();
        let result = match *request.method() {
            Method::DISCOVER => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": { "tools": { "listChanged": true } },
            }),
            Method::SUBSCRIPTIONS_LISTEN => {
                self.listens(session, request.notifier().clone());
                sleep(self.slowness).await;
                let acknowledged = json!({ "notifications": { "toolsListChanged": true } });
                let acknowledged =
                    Notification::new(Method::ACKNOWLEDGED, Some(acknowledged.into()));
                request.notifier().notify(acknowledged).await?;
                std::future::pending().await
            }
            Method::TOOLS_CALL => json!({ "content": [] }),
            Method::TOOLS_LIST => self.list(session).await?,
            ref method => return Err(Error::new(ErrorKind::MethodNotFound, method.to_string())),
        };
        Ok(Response::new(result.into()))
    }

    async fn list(&self, session: Option<SessionKey>) -> Result<Value, Error> {
        let (before, listener) = {
            let mut known = self.known.lock().unwrap();
            let known = known.entry(session).or_default();
            let before = std::mem::replace(&mut known.listed, true);
            (before, known.listener.clone())
        };
        if !before && let Some(listener) = listener {
            listener
                .notify(Notification::new(Method::TOOLS_CHANGED, None))
                .await?;
        }
        let tool = |name| json!({ "name": name, "inputSchema": { "type": "object" } });
        let tools = if before {
            vec![tool("a"), tool("b")]
        } else {
            vec![tool("a")]
        };
        Ok(json!({ "resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private" }))
    }
}

#[tokio::test]
async fn what_changes_between_listing_and_listening_is_not_missed() {
    let running = start_bare(Growing::default().upstream().shared_lists()).await;
    let client = Client::session(&running, "alice").await;
    let complete = async {
        while client.names("tools").await.len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    // Well before an upstream would be listed again without a reason.
    timeout(Duration::from_secs(15), complete).await.unwrap();
    running.shutdown().await;
}

#[tokio::test]
async fn what_changes_while_it_is_listed_is_listed_again() {
    let growing = Growing::default();
    let running = start_bare(growing.upstream()).await;
    let client = Client::session(&running, "alice").await;
    let listening = async {
        // The gateway's own listener and the client's.
        while growing.listeners() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(15), listening).await.unwrap();
    let complete = async {
        while client.names("tools").await != ["a", "b"] {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(15), complete).await.unwrap();
    running.shutdown().await;
}

#[tokio::test]
async fn a_tool_called_before_its_upstream_listens_is_followed_by_the_changes_it_may_have_made() {
    let growing = Growing {
        slowness: Duration::from_secs(1),
        ..Growing::default()
    };
    let running = start_bare(growing.upstream()).await;
    let client = Client::session(&running, "alice").await;
    let asked = async {
        while growing.listeners() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(15), asked).await.unwrap();
    client.call("a", json!({})).await;
    client
        .notification("notifications/tools/list_changed")
        .await;
    running.shutdown().await;
}

/// A server that gets a second tool when the first is called, and tells nobody but who listened first: the gateway.
#[derive(Clone, Default)]
struct Whispering {
    grown: Arc<AtomicBool>,
    listeners: Arc<Mutex<Vec<Notifier>>>,
}

impl Whispering {
    async fn answer(self, request: Request) -> Result<Response, Error> {
        let result = match *request.method() {
            Method::DISCOVER => json!({ "capabilities": { "tools": { "listChanged": true } } }),
            Method::SUBSCRIPTIONS_LISTEN => {
                let notifier = request.notifier().clone();
                self.listeners.lock().unwrap().push(notifier);
                let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(json!({}).into()));
                request.notifier().notify(acknowledged).await?;
                std::future::pending().await
            }
            Method::TOOLS_CALL => {
                self.grown.store(true, Ordering::SeqCst);
                let first = self.listeners.lock().unwrap()[0].clone();
                first
                    .notify(Notification::new(Method::TOOLS_CHANGED, None))
                    .await?;
                json!({ "content": [] })
            }
            _ => {
                let tool = |name| json!({ "name": name, "inputSchema": { "type": "object" } });
                match self.grown.load(Ordering::SeqCst) {
                    true => json!({ "tools": [tool("a"), tool("b")] }),
                    false => json!({ "tools": [tool("a")] }),
                }
            }
        };
        Ok(Response::new(result.into()))
    }
}

#[tokio::test]
async fn a_client_that_is_told_of_a_change_finds_it_listed() {
    let whispering = Whispering::default();
    let listeners = Arc::clone(&whispering.listeners);
    let service = service_fn(move |request| whispering.clone().answer(request));
    let running = start_bare(Upstream::service("whispering", service)).await;
    let client = Client::session(&running, "alice").await;
    let listening = async {
        while listeners.lock().unwrap().len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(15), listening).await.unwrap();
    assert_eq!(client.names("tools").await, ["a"]);
    client.call("a", json!({})).await;
    client
        .notification("notifications/tools/list_changed")
        .await;
    assert_eq!(client.names("tools").await, ["a", "b"]);
    running.shutdown().await;
}
