//! The watcher of an upstream: it listens, lists, polls, and returns after a loss.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use mcp_aggregate::{
    Gateway, GatewayEvent, Lifecycle, LifecycleState, SessionState, Upstream, UpstreamState,
};
use mcp_core::{Error, ErrorKind, Method, Request};
use serde_json::json;
use tokio::{sync::watch, time::sleep};
use tower::service_fn;

use crate::support::{Client, Server, no_such_method, start, start_with, tool};

#[tokio::test(start_paused = true)]
async fn a_session_that_opens_and_ends_is_an_event() {
    let running = start_with(&[("up", &Server::with_tool("t"))]).await;
    let mut events = running.events();
    let client = Client::session("alice");
    let discover = json!({});
    let call = client.call(&running, "server/discover", discover);
    call.await.unwrap();
    client.session_key().close();
    let mut states = Vec::new();
    while states.len() < 2 {
        if let Some(GatewayEvent::Session {
            id,
            principal,
            state,
            ..
        }) = events.recv().await
        {
            assert_eq!(*id, *client.session_key().id());
            assert_eq!(principal.subject(), "alice");
            states.push(state);
        }
    }
    assert_eq!(states, [SessionState::Opened, SessionState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_cannot_be_listened_to_is_polled() {
    let calls = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&calls);
    let mut server = Server::new(json!({ "tools": {} }), move |request| {
        match *request.method() {
            Method::TOOLS_LIST => {
                let call = own.fetch_add(1, Ordering::SeqCst);
                Ok(json!({ "tools": [tool(&format!("t{call}"))] }))
            }
            // Whatever it answers: it was reached.
            _ => Err(Error::new(ErrorKind::Answered, "not allowed")),
        }
    });
    server.listens = false;
    let running = start_with(&[("up", &server)]).await;
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Healthy);
    assert_eq!(Client::session("a").tools(&running).await, ["up__t0"]);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(Client::session("a").tools(&running).await, ["up__t1"]);
    sleep(Duration::from_secs(300)).await;
    assert!(calls.load(Ordering::SeqCst) <= 13);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_acknowledges_no_listener_is_listed_after_a_moment() {
    let server = service_fn(|request: Request| async move {
        let result = match *request.method() {
            Method::DISCOVER => json!({ "capabilities": { "tools": {} } }),
            Method::TOOLS_LIST => json!({ "tools": [tool("t")] }),
            Method::SUBSCRIPTIONS_LISTEN => return std::future::pending().await,
            _ => return Err(no_such_method(&request)),
        };
        Ok(mcp_core::Response::new(result.into()))
    });
    let builder = Gateway::builder("gw").upstream(Upstream::service("up", server));
    let started = tokio::time::Instant::now();
    let running = start(builder).await;
    assert!(started.elapsed() <= Duration::from_secs(3));
    assert_eq!(running.counts().tools, 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_later_keeps_its_entries_and_is_reported() {
    let fails = Arc::new(Mutex::new(false));
    let own = Arc::clone(&fails);
    let server = Server::new(
        json!({ "tools": {}, "prompts": {} }),
        move |request| match (request.method().as_str(), *own.lock().unwrap()) {
            ("prompts/list", true) => Err(Error::new(ErrorKind::BadUpstream, "no database")),
            ("prompts/list", false) => Ok(json!({ "prompts": [{ "name": "p" }] })),
            (_, _) => Ok(json!({ "tools": [tool("t")] })),
        },
    );
    let running = start_with(&[("up", &server)]).await;
    *fails.lock().unwrap() = true;
    server.announce(Method::PROMPTS_CHANGED).await;
    sleep(Duration::from_secs(2)).await;
    let health = &running.health().upstreams[0];
    assert_eq!(health.state, UpstreamState::Degraded);
    assert_eq!(health.error.as_deref(), Some("prompts/list: no database"));
    assert_eq!((running.counts().prompts, running.counts().tools), (1, 1));
    *fails.lock().unwrap() = false;
    server.announce(Method::PROMPTS_CHANGED).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Healthy);
}

/// A lifecycle that records what is asked of it.
struct Recorded {
    calls: Mutex<Vec<&'static str>>,
    state: watch::Sender<LifecycleState>,
    fails: AtomicUsize,
}

#[async_trait]
impl Lifecycle for Recorded {
    async fn start(&self) -> Result<(), Error> {
        self.calls.lock().unwrap().push("start");
        let left = self.fails.load(Ordering::SeqCst);
        self.fails.store(left.saturating_sub(1), Ordering::SeqCst);
        match left {
            0 => Ok(()),
            _ => Err(Error::new(ErrorKind::NotSent, "not yet")),
        }
    }

    async fn drain(&self, _: Duration) {
        self.calls.lock().unwrap().push("drain");
    }

    async fn stop(&self) {
        self.calls.lock().unwrap().push("stop");
    }

    fn state(&self) -> watch::Receiver<LifecycleState> {
        self.state.subscribe()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_of_the_users_is_started_drained_and_stopped_in_order() {
    let lifecycle = Arc::new(Recorded {
        calls: Mutex::default(),
        state: watch::Sender::new(LifecycleState::Running),
        fails: AtomicUsize::new(2),
    });
    let server = service_fn(|request: Request| async move {
        match *request.method() {
            Method::DISCOVER => {
                let result = json!({ "capabilities": { "tools": {} } });
                Ok(mcp_core::Response::new(result.into()))
            }
            _ => Err(no_such_method(&request)),
        }
    });
    let own: Arc<dyn Lifecycle> = Arc::<Recorded>::clone(&lifecycle);
    let upstream = Upstream::service_with("up", server, own);
    let running = start(Gateway::builder("gw").upstream(upstream)).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Healthy);
    lifecycle.state.send_replace(LifecycleState::Stopped);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(running.health().upstreams[0].state, UpstreamState::Degraded);
    lifecycle.state.send_replace(LifecycleState::Running);
    running.remove("up").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let calls = lifecycle.calls.lock().unwrap().clone();
    assert_eq!(calls[..3], ["start", "start", "start"]);
    assert_eq!(calls[calls.len() - 2..], ["drain", "stop"]);
}
