//! Calls that a person has to approve: in both eras, from the queue, and everything that is not this call.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "values are written where they are used"
)]

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mcp_auth::approval::{ApprovalLayer, ApprovalQueue};
use mcp_core::{
    Ask, Asker, AuditOutcome, ClientCapabilities, Error, ErrorKind, Json, MemoryAudit, Method,
    Principal, ProtocolVersion, Request, Response, ResultType, Seam, ToolAnnotations,
    clock::FakeClock,
    secret::Secret,
    store::{MemoryStore, StateStore},
};
use serde_json::{Value, json};
use tower::{Layer as _, ServiceExt as _, service_fn};

struct World {
    clock: FakeClock,
    store: Arc<dyn StateStore>,
    made: Arc<AtomicU32>,
}

impl World {
    fn new() -> Self {
        let clock = FakeClock::new();
        let store = MemoryStore::new().with_clock(Arc::new(clock.clone()));
        Self {
            clock,
            store: Arc::new(store),
            made: Arc::default(),
        }
    }

    fn layer(&self) -> ApprovalLayer {
        ApprovalLayer::new(Arc::clone(&self.store), &Secret::new("a secret"))
            .with_wall_clock(Arc::new(self.clock.clone()))
    }

    fn queue(&self) -> ApprovalQueue {
        ApprovalQueue::new(Arc::clone(&self.store)).with_wall_clock(Arc::new(self.clock.clone()))
    }

    /// A server that counts its calls.
    fn around(&self, layer: &ApprovalLayer) -> impl Seam + use<> {
        let made = Arc::clone(&self.made);
        layer.layer(service_fn(move |request: Request| {
            made.fetch_add(1, Ordering::SeqCst);
            async move {
                let state = request.param("requestState").unwrap_or(Json::NULL);
                Ok::<_, Error>(Response::new(json!({ "state": state.as_str() }).into()))
            }
        }))
    }

    fn made(&self) -> u32 {
        self.made.load(Ordering::SeqCst)
    }
}

fn call(user: &str, arguments: Value) -> Request {
    let params = json!({ "name": "delete", "arguments": arguments });
    let elicitation = ClientCapabilities::new(json!({ "elicitation": {} }).into());
    Request::new(Method::TOOLS_CALL, Some(params.into()))
        .unwrap()
        .with_principal(Principal::authenticated("https://as.example", user))
        .with_capabilities(elicitation)
}

/// The client's retry, with an answer to what it was asked.
fn retry(mut request: Request, asked: &Response, answer: Value) -> Request {
    let state = asked.result().member("requestState").unwrap();
    let params = request.params_mut();
    params.set("requestState", state);
    params.set(
        "inputResponses",
        json!({ "mcp-auth-approval": answer }).into(),
    );
    request
}

fn yes() -> Value {
    json!({ "action": "accept", "content": { "approve": true } })
}

async fn ask(service: &impl Seam, request: Request) -> Response {
    let answer = service.clone().oneshot(request).await.unwrap();
    assert_eq!(*answer.result_type(), ResultType::InputRequired);
    answer
}

#[tokio::test]
async fn a_stateless_client_approves_exactly_this_call_once() {
    let world = World::new();
    let service = world.around(&world.layer());
    let own = || call("alice", json!({ "id": 7 }));
    let asked = ask(&service, own()).await;
    let form = asked.result().member("inputRequests").unwrap();
    assert!(form.as_str().contains("delete") && form.as_str().contains("approve"));
    // Another argument, another user, no answer: nothing is done.
    let other = retry(call("alice", json!({ "id": 8 })), &asked, yes());
    ask(&service, other).await;
    let stolen = retry(call("bob", json!({ "id": 7 })), &asked, yes());
    let error = service.clone().oneshot(stolen).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParams);
    assert_eq!(world.made(), 0);
    let good = || retry(own(), &asked, yes());
    assert!(service.clone().oneshot(good()).await.is_ok());
    assert_eq!(world.made(), 1);
    // The same approval again is asked for anew.
    ask(&service, good()).await;
    assert_eq!(world.made(), 1);
    for answer in [
        json!({ "action": "decline" }),
        json!({ "action": "accept", "content": { "approve": false } }),
        json!({ "action": "accept" }),
    ] {
        let asked = ask(&service, own()).await;
        let refused = service.clone().oneshot(retry(own(), &asked, answer)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    let late = ask(&service, own()).await;
    world.clock.advance(Duration::from_secs(601));
    ask(&service, retry(own(), &late, yes())).await;
    assert_eq!(world.made(), 1);
}

#[tokio::test]
async fn what_the_call_carried_comes_back_to_it() {
    let world = World::new();
    let service = world.around(&world.layer());
    let mut own = call("alice", json!({}));
    own.params_mut().set("requestState", Json::string("inner"));
    let asked = ask(&service, own.clone()).await;
    let answer = service.clone().oneshot(retry(own, &asked, yes())).await;
    let state = answer.unwrap().result().member("state").unwrap();
    assert_eq!(state.to_text().as_deref(), Some("\"inner\""));
}

/// A client that answers as it is told.
struct Client(Mutex<Vec<Value>>);

#[async_trait::async_trait]
impl Ask for Client {
    async fn ask(&self, method: Method, _: Option<Json>) -> Result<Json, Error> {
        assert_eq!(method.as_str(), "elicitation/create");
        Ok(self.0.lock().unwrap().remove(0).into())
    }
}

#[tokio::test]
async fn a_session_client_is_asked_within_the_call() {
    let world = World::new();
    let audit = Arc::new(MemoryAudit::new(NonZeroUsize::new(8).unwrap()));
    let service = world.around(&world.layer().with_audit(audit.clone()));
    let answers = vec![
        yes(),
        json!({ "action": "cancel" }),
        json!({ "action": "accept" }),
    ];
    let asker = Asker::new(Client(Mutex::new(answers)));
    let own = || {
        call("alice", json!({ "id": 7 }))
            .with_version(ProtocolVersion::V_2025_11_25)
            .with_asker(asker.clone())
    };
    assert!(service.clone().oneshot(own()).await.is_ok());
    for _ in 0..2 {
        let error = service.clone().oneshot(own()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    assert_eq!(world.made(), 1);
    let events = audit.events();
    let outcomes: Vec<_> = events
        .iter()
        .map(|own| own.outcome == AuditOutcome::Succeeded)
        .collect();
    assert_eq!(outcomes, [true, false, false]);
    assert!(
        events
            .iter()
            .all(|own| own.digest == events[0].digest && own.digest.is_some())
    );
}

#[tokio::test]
async fn an_administrator_approves_from_the_queue_and_nobody_their_own() {
    let world = World::new();
    let queue = world.queue();
    let service = world.around(&world.layer().by_administrator(queue.clone()));
    let own = || call("alice", json!({ "id": 7 }));
    let waits = service.clone().oneshot(own()).await.unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::PermissionDenied);
    assert!(waits.retry_after().is_some());
    // The answer of the client's own form counts for nothing.
    let mut forged = own();
    forged.params_mut().set(
        "inputResponses",
        json!({ "mcp-auth-approval": yes() }).into(),
    );
    assert!(service.clone().oneshot(forged).await.is_err());
    let pending = queue.pending().await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!(
        (&*pending[0].tool, pending[0].principal.subject()),
        ("delete", "alice")
    );
    assert_eq!(pending[0].arguments.as_str(), r#"{"id":7}"#);
    assert!(queue.approve(&pending[0].id).await.unwrap());
    assert!(
        !queue.approve(&pending[0].id).await.unwrap(),
        "decided already"
    );
    for other in [
        call("alice", json!({ "id": 8 })),
        call("bob", json!({ "id": 7 })),
    ] {
        assert!(service.clone().oneshot(other).await.is_err());
    }
    // Of many that come with one approval one goes through.
    let calls = (0..10).map(|_| service.clone().oneshot(own()));
    let done = futures_util::future::join_all(calls).await;
    assert_eq!(done.iter().filter(|own| own.is_ok()).count(), 1);
    assert_eq!(world.made(), 1);
    let again = queue.pending().await.unwrap();
    let again = again
        .iter()
        .find(|own| own.arguments.as_str() == r#"{"id":7}"#);
    assert!(queue.refuse(&again.unwrap().id).await.unwrap());
    let refused = service.clone().oneshot(own()).await.unwrap_err();
    assert!(refused.message().contains("refused"), "{refused}");
    assert!(!queue.approve("no/such").await.unwrap() && !queue.approve("x").await.unwrap());
}

#[tokio::test]
async fn calls_of_one_principal_leave_room_for_others_and_end() {
    let world = World::new();
    let queue = world.queue();
    let service = world.around(&world.layer().by_administrator(queue.clone()));
    for n in 0..50 {
        assert!(
            service
                .clone()
                .oneshot(call("alice", json!({ "n": n })))
                .await
                .is_err()
        );
    }
    assert_eq!(queue.pending().await.unwrap().len(), 16);
    assert!(
        service
            .clone()
            .oneshot(call("bob", json!({})))
            .await
            .is_err()
    );
    assert_eq!(queue.pending().await.unwrap().len(), 17);
    let large = call("carol", json!({ "text": "a".repeat(100_000) }));
    assert!(service.clone().oneshot(large).await.is_err());
    assert_eq!(queue.pending().await.unwrap().len(), 17);
    world.clock.advance(Duration::from_secs(601));
    assert!(queue.pending().await.unwrap().is_empty());
}

#[tokio::test]
async fn annotations_choose_and_whoever_cannot_be_asked_is_refused() {
    let world = World::new();
    let service = world.around(&world.layer());
    let mut reads = ToolAnnotations::default();
    reads.read_only = Some(true);
    let read = call("alice", json!({})).with_annotations(reads);
    assert!(service.clone().oneshot(read).await.is_ok());
    let list = Request::new(Method::TOOLS_LIST, None).unwrap();
    assert!(service.clone().oneshot(list).await.is_ok());
    let mute = call("alice", json!({})).with_capabilities(ClientCapabilities::NONE);
    let error = service.clone().oneshot(mute.clone()).await.unwrap_err();
    assert!(error.message().contains("elicitation"), "{error}");
    let never = world.around(&world.layer().with_rule(|_| false));
    assert!(never.oneshot(mute).await.is_ok());
}
