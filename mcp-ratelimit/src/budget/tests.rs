use std::sync::Arc;
use std::time::Duration;

use mcp_core::clock::FakeClock;
use mcp_core::store::{MemoryStore, Namespace, StateStore, StoreKey};
use mcp_core::{Account, Amount, Budget, Error, ErrorKind, Method, Principal, Request, Response};
use tower::{Layer, ServiceExt, service_fn};

use super::{BudgetLayer, BudgetPlan, Period, StoreBudget};

fn account(user: &str, service: &str) -> Account {
    Account::new(Principal::authenticated("i", user).partition(), service)
}

fn budget(store: MemoryStore, clock: &FakeClock) -> Arc<StoreBudget> {
    let plan = BudgetPlan::new(Period::Day, Amount::units(10));
    let cheap = BudgetPlan::new(Period::Day, Amount::units(1));
    let budget = StoreBudget::new(Arc::new(store), Namespace::new("b").unwrap(), plan);
    Arc::new(
        budget
            .with_service("cheap", cheap)
            .with_clock(Arc::new(clock.clone())),
    )
}

#[tokio::test]
async fn accounts_are_apart_and_shared_by_whoever_has_the_store() {
    let (store, clock) = (MemoryStore::new(), FakeClock::new());
    let (one, two) = (budget(store.clone(), &clock), budget(store, &clock));
    let (alice, bob, cheap) = (account("a", "s"), account("b", "s"), account("a", "cheap"));
    let held = one.reserve(&alice, Amount::units(6)).await.unwrap();
    let error = two.reserve(&alice, Amount::units(6)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (
            ErrorKind::BudgetExhausted,
            Some(Duration::from_secs(86_400))
        )
    );
    two.settle(held, Amount::units(1)).await.unwrap();
    assert_eq!(one.remaining(&alice).await.unwrap(), Amount::units(9));
    assert_eq!(one.remaining(&bob).await.unwrap(), Amount::units(10));
    assert!(one.reserve(&cheap, Amount::units(2)).await.is_err());
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(one.remaining(&alice).await.unwrap(), Amount::units(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_spend_no_more_than_there_is() {
    let (store, clock) = (MemoryStore::new(), FakeClock::new());
    let budget = budget(store, &clock);
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                let held = budget
                    .reserve(&account("a", "s"), Amount::units(1))
                    .await
                    .ok()?;
                budget.settle(held, Amount::units(1)).await.ok()
            })
        })
        .collect();
    let mut spent = 0;
    for task in tasks {
        spent += usize::from(task.await.unwrap().is_some());
    }
    assert_eq!(spent, 10);
    assert_eq!(
        budget.remaining(&account("a", "s")).await.unwrap(),
        Amount::ZERO
    );
}

#[tokio::test]
async fn what_is_not_sent_is_free_and_what_is_dropped_is_not() {
    let (store, clock) = (MemoryStore::new(), FakeClock::new());
    let budget = budget(store.clone(), &clock);
    let layer = BudgetLayer::new(budget.clone(), |request| {
        (*request.method() != Method::PING).then(|| (account("a", "s"), Amount::units(2)))
    });
    let service = layer.layer(service_fn(|request: Request| async move {
        match request.method().as_str() {
            "tools/list" => Err(Error::new(ErrorKind::NotSent, "away")),
            "prompts/list" => std::future::pending().await,
            _ => Ok::<_, Error>(Response::empty()),
        }
    }));
    let call = |method| service.clone().oneshot(Request::new(method, None).unwrap());
    let left = || async { budget.remaining(&account("a", "s")).await.unwrap() };
    call(Method::PING).await.unwrap();
    call(Method::TOOLS_LIST).await.unwrap_err();
    assert_eq!(left().await, Amount::units(10));
    call(Method::RESOURCES_LIST).await.unwrap();
    assert_eq!(left().await, Amount::units(8));
    let dropped = tokio::time::timeout(Duration::from_millis(1), call(Method::PROMPTS_LIST));
    assert!(dropped.await.is_err());
    tokio::task::yield_now().await;
    assert_eq!(left().await, Amount::units(6));
    let owner = Principal::authenticated("i", "a").partition().to_string();
    let key = StoreKey::new(&Namespace::new("b").unwrap(), [owner.as_str(), "s"]).unwrap();
    store.put(&key, "nonsense".into(), None).await.unwrap();
    assert_eq!(
        call(Method::RESOURCES_LIST).await.unwrap_err().kind(),
        ErrorKind::Unavailable,
        "money that cannot be counted"
    );
}
