//! What every layer promises, whatever it does beyond that.
#![allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]

use std::{
    fmt,
    future::Future,
    num::{NonZeroU32, NonZeroUsize},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use mcp_auth::{
    approval::ApprovalLayer,
    audit::AuditLayer,
    consent::{AuthenticateLayer, ConsentLayer},
    edge::AttemptLimitLayer,
    oauth::Manager,
    policy::{PolicyLayer, Rbac},
    server::{ApiKeyScheme, ApiKeys, MemoryApiKeys, RequestBody, ResourceServer},
    vault::{KeyRing, Vault, VaultKey},
};
use mcp_core::{
    Error, MemoryAudit, Method, Request, Response, http_client::GuardedClient, secret::Secret,
    store::MemoryStore,
};
use tokio_test::{assert_ready, task};
use tower::{Layer, Service};
use tower_test::mock::{Handle, Mock, pair};

/// Does what the test says, and counts the calls in flight.
#[derive(Debug)]
struct Inner<Q, R> {
    mock: Mock<Q, R>,
    /// The inner one is shared by calls, the outer one by services.
    in_flight: Arc<Token>,
}

#[derive(Debug)]
struct Token(Arc<()>);

impl<Q, R> Clone for Inner<Q, R> {
    fn clone(&self) -> Self {
        Self {
            mock: self.mock.clone(),
            in_flight: Arc::clone(&self.in_flight),
        }
    }
}

/// The error of the mock, as the service that is tested wants it.
trait Fault: Sized + Send + 'static {
    fn of(error: tower::BoxError) -> Self;
    fn shown(&self) -> String;
}

impl Fault for Error {
    fn of(error: tower::BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(_) => Self::new(mcp_core::ErrorKind::Internal, "the mock"),
        }
    }

    fn shown(&self) -> String {
        self.to_rpc(mcp_core::Era::Stateless).as_str().to_owned()
    }
}

impl Fault for tower::BoxError {
    fn of(error: tower::BoxError) -> Self {
        error
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

#[derive(Debug)]
struct As<Q, R, E>(Inner<Q, R>, std::marker::PhantomData<fn() -> E>);

impl<Q, R, E> Clone for As<Q, R, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), std::marker::PhantomData)
    }
}

impl<Q: Send + 'static, R: Send + 'static, E: Fault> Service<Q> for As<Q, R, E> {
    type Response = R;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.0.mock.poll_ready(cx).map_err(E::of)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let (call, guard) = (self.0.mock.call(request), Arc::clone(&self.0.in_flight.0));
        Box::pin(async move {
            let _guard = guard;
            call.await.map_err(E::of)
        })
    }
}

type Pair<Q, R, E> = (As<Q, R, E>, Handle<Q, R>, Arc<()>);

fn inner<Q: Send + 'static, R: Send + 'static, E>() -> Pair<Q, R, E> {
    let (mock, handle) = pair();
    let in_flight = Arc::new(());
    let inner = Inner {
        mock,
        in_flight: Arc::new(Token(Arc::clone(&in_flight))),
    };
    (As(inner, std::marker::PhantomData), handle, in_flight)
}

/// What is asked and answered, and how the mock fails.
struct Case<Q, R> {
    request: fn() -> Q,
    response: fn() -> R,
    fault: fn() -> tower::BoxError,
}

fn contract<L, Q, I, R, E, O>(layer: &L, case: &Case<Q, R>)
where
    Q: Send + 'static,
    I: Send + 'static,
    R: Send + 'static,
    E: Fault,
    O: fmt::Debug,
    L: Layer<As<I, R, E>> + Clone + fmt::Debug + Send + Sync + 'static,
    L::Service: Service<Q, Response = O, Error = E> + Clone + Send + Sync + 'static,
    <L::Service as Service<Q>>::Future: Send + 'static,
{
    readiness_is_passed_on::<_, _, I, _, _, _>(layer, case);
    errors_are_unchanged::<_, _, I, _, _, _>(layer, case);
    dropped_calls_are_let_go::<_, _, I, _, _, _>(layer, case);
}

fn readiness_is_passed_on<L, Q, I, R, E, O>(layer: &L, case: &Case<Q, R>)
where
    I: Send + 'static,
    R: Send + 'static,
    E: Fault,
    L: Layer<As<I, R, E>>,
    L::Service: Service<Q, Response = O, Error = E> + Clone,
{
    let (inner, mut handle, _) = inner::<I, _, _>();
    handle.allow(0);
    let mut service = layer.layer(inner);
    let mut waiting = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert!(waiting.poll().is_pending());
    handle.allow(1);
    assert!(waiting.is_woken(), "a waiting caller is woken");
    assert!(matches!(waiting.poll(), Poll::Ready(Ok(()))));
    drop(waiting);
    let mut clone = service.clone();
    let mut call = task::spawn(service.call((case.request)()));
    assert!(call.poll().is_pending());
    let mut other = task::spawn(std::future::poll_fn(|cx| clone.poll_ready(cx)));
    assert!(
        other.poll().is_pending(),
        "a clone does not inherit readiness"
    );
    let mut asked = task::spawn(handle.next_request());
    let (_, answer) = assert_ready!(asked.poll()).expect("the ready instance is called");
    answer.send_response((case.response)());
    assert!(call.is_woken(), "an answer wakes the caller");
    assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
}

fn errors_are_unchanged<L, Q, I, R, E, O>(layer: &L, case: &Case<Q, R>)
where
    I: Send + 'static,
    R: Send + 'static,
    E: Fault,
    O: fmt::Debug,
    L: Layer<As<I, R, E>>,
    L::Service: Service<Q, Response = O, Error = E>,
{
    let (inner, mut handle, _) = inner::<I, _, _>();
    let mut service = layer.layer(inner);
    let mut ready = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert!(matches!(ready.poll(), Poll::Ready(Ok(()))));
    drop(ready);
    let mut call = task::spawn(service.call((case.request)()));
    assert!(call.poll().is_pending());
    let mut asked = task::spawn(handle.next_request());
    let (_, answer) = assert_ready!(asked.poll()).unwrap();
    answer.send_error((case.fault)());
    let Poll::Ready(Err(error)) = call.poll() else {
        panic!("the error is passed on");
    };
    assert_eq!(error.shown(), E::of((case.fault)()).shown());
}

fn dropped_calls_are_let_go<L, Q, I, R, E, O>(layer: &L, case: &Case<Q, R>)
where
    I: Send + 'static,
    R: Send + 'static,
    E: Fault,
    L: Layer<As<I, R, E>>,
    L::Service: Service<Q, Response = O, Error = E>,
{
    let (inner, mut handle, in_flight) = inner::<I, _, _>();
    let mut service = layer.layer(inner);
    for _ in 0..5 {
        let mut ready = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
        assert!(matches!(ready.poll(), Poll::Ready(Ok(()))));
        drop(ready);
        let before = Arc::strong_count(&in_flight);
        let mut call = task::spawn(service.call((case.request)()));
        assert!(call.poll().is_pending());
        let mut asked = task::spawn(handle.next_request());
        let _answer = assert_ready!(asked.poll()).expect("the call gets through");
        assert_eq!(Arc::strong_count(&in_flight), before + 1);
        drop(call);
        assert_eq!(
            Arc::strong_count(&in_flight),
            before,
            "the inner call is dropped"
        );
    }
}

const SEAM: Case<Request, Response> = Case {
    request: || Request::new(Method::PING, None).unwrap(),
    response: Response::empty,
    fault: || {
        let object = r#"{"code":-7,"message":"m","data":[1.0],"x":null}"#;
        Error::from_rpc(mcp_core::Json::parse(object).unwrap()).into()
    },
};

const HTTP: Case<http::Request<()>, http::Response<String>> = Case {
    request: || http::Request::post("/mcp").body(()).unwrap(),
    response: || http::Response::new(String::new()),
    fault: || "the inner error".into(),
};

async fn manager() -> Manager {
    let key = VaultKey::from_bytes(&[7; 32]).unwrap();
    let vault = Vault::open_with_ring(Arc::new(MemoryStore::default()), KeyRing::new(key)).await;
    let http = Arc::new(GuardedClient::builder().build().unwrap());
    let redirect = "https://gw.example/oauth/callback".parse().unwrap();
    Manager::builder(redirect, http, vault.unwrap())
        .build()
        .unwrap()
}

#[tokio::test]
async fn audit() {
    let sink = MemoryAudit::new(NonZeroUsize::new(64).unwrap());
    contract::<_, _, Request, _, _, _>(&AuditLayer::new(Arc::new(sink)), &SEAM);
}

#[tokio::test]
async fn policy() {
    let engine = Arc::new(Rbac::builder().build());
    contract::<_, _, Request, _, _, _>(&PolicyLayer::new(engine), &SEAM);
}

#[tokio::test]
async fn approval() {
    let store = Arc::new(MemoryStore::default());
    contract::<_, _, Request, _, _, _>(&ApprovalLayer::new(store, &Secret::new("a secret")), &SEAM);
}

#[tokio::test]
async fn consent() {
    contract::<_, _, Request, _, _, _>(
        &ConsentLayer::new(manager().await, &Secret::new("signs forms")),
        &SEAM,
    );
}

#[tokio::test]
async fn authenticate() {
    let base = "https://gw.example/oauth".parse().unwrap();
    contract::<_, _, Request, _, _, _>(&AuthenticateLayer::new(manager().await, base), &SEAM);
}

#[tokio::test]
async fn resource_server() {
    let keys = ApiKeys::new("gw", Secret::new("pepper"));
    let scheme = ApiKeyScheme::new("keys", keys, Arc::new(MemoryApiKeys::default()));
    let server = ResourceServer::builder("https://gw.example/mcp")
        .scheme(scheme)
        .optional()
        .build();
    contract::<_, _, http::Request<RequestBody<()>>, _, tower::BoxError, _>(
        &server.unwrap().layer(),
        &HTTP,
    );
}

#[tokio::test]
async fn attempts() {
    let layer = AttemptLimitLayer::per_minute(NonZeroU32::new(100).unwrap(), |_| None);
    contract::<_, _, http::Request<()>, _, tower::BoxError, _>(&layer, &HTTP);
}
