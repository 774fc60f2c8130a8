//! What every layer promises, whatever it does beyond that.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "a contract test fails by panicking")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_core::store::{MemoryStore, Namespace};
use mcp_core::{
    Account, Amount, Error, ErrorKind, IntoSeam, Method, Request, Response, SchemaSource,
    ToolSchemas,
};
use mcp_ratelimit::{
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    budget::{BudgetLayer, BudgetPlan, Period, StoreBudget},
    cache::CacheLayer,
    coalesce::CoalesceLayer,
    diagnose::{MemoryRecorder, RecordLayer, ToolFailureLayer},
    hedge::HedgeLayer,
    meter::MeterLayer,
    preset::{Preset, ProviderConfig},
    queue::QueueLayer,
    rate_limit::{Limit, Overflow, Quota, RateLimitLayer},
    retry::{LoopGuardLayer, RetryLayer},
    timeout::TimeoutLayer,
    validate::ValidateLayer,
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, Service};
use tower_test::mock::{Handle, Mock, pair};

/// Tells what it is told by the test, and how many calls are under way.
#[derive(Debug, Clone)]
struct Inner {
    mock: IntoSeam<Mock<Request, Response>>,
    under_way: Arc<Token>,
}

/// Shared by calls; the one around it by services.
#[derive(Debug, Default)]
struct Token(Arc<()>);

impl Service<Request> for Inner {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.mock.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (call, guard) = (self.mock.call(request), Arc::clone(&self.under_way.0));
        Box::pin(async move {
            let _guard = guard;
            call.await
        })
    }
}

fn inner() -> (Inner, Handle<Request, Response>) {
    let (mock, handle) = pair();
    (
        Inner {
            mock: IntoSeam::new(mock),
            under_way: Arc::default(),
        },
        handle,
    )
}

fn ping() -> Request {
    Request::new(Method::PING, None).unwrap()
}

async fn contract<L>(layer: L)
where
    L: Layer<Inner> + Clone + std::fmt::Debug + Send + Sync + 'static,
    L::Service:
        Service<Request, Response = Response, Error = Error> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request>>::Future: Send + 'static,
{
    readiness_is_passed_on(&layer);
    answers_and_errors_are_unchanged(&layer);
    dropped_calls_are_let_go(&layer);
}

fn readiness_is_passed_on<L>(layer: &L)
where
    L: Layer<Inner>,
    L::Service: Service<Request, Response = Response, Error = Error> + Clone,
{
    let (inner, mut handle) = inner();
    handle.allow(0);
    let mut service = layer.layer(inner);
    let mut waiting = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert_pending!(waiting.poll());
    handle.allow(1);
    assert!(waiting.is_woken(), "a waiting caller is woken");
    assert_ready_ok!(waiting.poll());
    drop(waiting);
    let mut clone = service.clone();
    let mut call = task::spawn(service.call(ping()));
    assert_pending!(call.poll());
    let mut other = task::spawn(std::future::poll_fn(|cx| clone.poll_ready(cx)));
    assert_pending!(other.poll(), "a clone does not inherit readiness");
    let mut asked = task::spawn(handle.next_request());
    let (_, answer) = assert_ready!(asked.poll()).expect("the ready instance is called");
    answer.send_response(Response::empty());
    assert!(call.is_woken(), "an answer wakes the caller");
    assert_ready_ok!(call.poll());
}

fn answers_and_errors_are_unchanged<L>(layer: &L)
where
    L: Layer<Inner>,
    L::Service: Service<Request, Response = Response, Error = Error>,
{
    let (inner, mut handle) = inner();
    let mut service = layer.layer(inner);
    let mut ready = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
    assert_ready_ok!(ready.poll());
    drop(ready);
    let mut call = task::spawn(service.call(ping()));
    assert_pending!(call.poll());
    let mut asked = task::spawn(handle.next_request());
    let (_, answer) = assert_ready!(asked.poll()).unwrap();
    let object =
        mcp_core::Json::parse(r#"{"code":-7,"message":"m","data":[1.0],"x":null}"#).unwrap();
    answer.send_error(Error::from_rpc(object.clone()));
    let error = assert_ready_err!(call.poll());
    assert_eq!(error.kind(), ErrorKind::Answered);
    assert_eq!(
        error.to_rpc(mcp_core::Era::Stateless).as_str(),
        object.as_str()
    );
}

fn dropped_calls_are_let_go<L>(layer: &L)
where
    L: Layer<Inner>,
    L::Service: Service<Request, Response = Response, Error = Error>,
{
    let (inner, mut handle) = inner();
    let under_way = Arc::clone(&inner.under_way.0);
    let mut service = layer.layer(inner);
    // More often than any limit allows at once: what a dropped call held is free for the next one.
    for _ in 0..5 {
        let mut ready = task::spawn(std::future::poll_fn(|cx| service.poll_ready(cx)));
        assert_ready_ok!(ready.poll());
        drop(ready);
        let before = Arc::strong_count(&under_way);
        let mut call = task::spawn(service.call(ping()));
        assert_pending!(call.poll());
        let mut asked = task::spawn(handle.next_request());
        let _answer = assert_ready!(asked.poll()).expect("the call gets through");
        assert_eq!(Arc::strong_count(&under_way), before + 1);
        drop(call);
        assert_eq!(
            Arc::strong_count(&under_way),
            before,
            "dropping a call drops the inner call"
        );
    }
}

fn accounts() -> Arc<StoreBudget> {
    let plan = BudgetPlan::new(Period::Day, Amount::units(100));
    Arc::new(StoreBudget::new(
        Arc::new(MemoryStore::new()),
        Namespace::new("b").unwrap(),
        plan,
    ))
}

#[derive(Debug)]
struct NoSchemas;

impl SchemaSource for NoSchemas {
    fn schemas(&self, _: &Request) -> Option<ToolSchemas> {
        None
    }

    fn generation(&self) -> u64 {
        0
    }
}

macro_rules! contracts {
    ($($name:ident: $layer:expr;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                contract($layer).await;
            }
        )*
    };
}

contracts! {
    rate_limit: RateLimitLayer::new(Limit::new("l", Quota::per_second(100).unwrap()));
    rate_limit_waiting: RateLimitLayer::new(Limit::new("l", Quota::per_second(100).unwrap()))
        .with_overflow(Overflow::Wait { up_to: Duration::from_secs(1), waiting: 1 });
    timeout: TimeoutLayer::new(Duration::from_secs(30)).with_idle(Duration::from_secs(1));
    breaker: BreakerLayer::new(Breaker::new("b", BreakerConfig::new()));
    retry: RetryLayer::safe_only();
    loop_guard: LoopGuardLayer::new(3, Duration::from_secs(1)).unwrap();
    queue: QueueLayer::one_at_a_time("q").with_queue(1);
    hedge: HedgeLayer::new(Duration::from_secs(1));
    coalesce: CoalesceLayer::new();
    budget: BudgetLayer::new(accounts(), |request| {
        Some((Account::new(request.principal().partition(), "s"), Amount::units(1)))
    });
    validate: ValidateLayer::new(Arc::new(NoSchemas));
    record: RecordLayer::start(Arc::new(MemoryRecorder::new(10))).0;
    tool_failure: ToolFailureLayer::new();
    preset: Preset::new("p", &ProviderConfig::default()).unwrap();
    meter: MeterLayer::new("m");
    cache: CacheLayer::new(1000).with_ttl(|_| Some(Duration::from_secs(1))).with_longest_ttl(Duration::ZERO);
}
