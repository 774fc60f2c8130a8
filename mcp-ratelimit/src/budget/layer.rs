use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use mcp_core::{Account, Amount, Budget, Error, ErrorKind, Request, Reservation, Response};
use tower_layer::Layer;
use tower_service::Service;

type Estimate = Arc<dyn Fn(&Request) -> Option<(Account, Amount)> + Send + Sync>;
type Actual = Arc<dyn Fn(Amount, &Result<Response, Error>) -> Amount + Send + Sync>;

/// Applies a [`BudgetService`].
#[must_use]
#[derive(Clone)]
pub struct BudgetLayer {
    budget: Arc<dyn Budget>,
    estimate: Estimate,
    actual: Actual,
}

impl BudgetLayer {
    /// Sets aside, before each call, what the closure says it may cost whom; `None` costs nothing.
    pub fn new(
        budget: Arc<dyn Budget>,
        estimate: impl Fn(&Request) -> Option<(Account, Amount)> + Send + Sync + 'static,
    ) -> Self {
        Self {
            budget,
            estimate: Arc::new(estimate),
            actual: Arc::new(Self::full_unless_unseen),
        }
    }

    /// Books afterwards what the closure says a call really cost, given what was set aside. Default is all of it,
    /// except for a call that no one has seen (kind `NotSent`, or one that a layer inside refused).
    pub fn with_actual(
        mut self,
        actual: impl Fn(Amount, &Result<Response, Error>) -> Amount + Send + Sync + 'static,
    ) -> Self {
        self.actual = Arc::new(actual);
        self
    }

    fn full_unless_unseen(amount: Amount, result: &Result<Response, Error>) -> Amount {
        let unseen = |error: &Error| {
            matches!(
                error.kind(),
                ErrorKind::NotSent
                    | ErrorKind::CircuitOpen
                    | ErrorKind::Overloaded
                    | ErrorKind::RateLimited
            )
        };
        if result.as_ref().is_err_and(unseen) {
            Amount::ZERO
        } else {
            amount
        }
    }
}

impl<S> Layer<S> for BudgetLayer {
    type Service = BudgetService<S>;

    fn layer(&self, inner: S) -> BudgetService<S> {
        BudgetService {
            inner,
            layer: self.clone(),
        }
    }
}

impl fmt::Debug for BudgetLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetLayer").finish_non_exhaustive()
    }
}

/// Refuses calls that cost more than is left.
#[derive(Debug, Clone)]
pub struct BudgetService<S> {
    inner: S,
    layer: BudgetLayer,
}

impl<S> BudgetService<S> {
    mcp_core::inner_service!();
}

impl<S> Service<Request> for BudgetService<S>
where
    S: Service<Request, Response = Response, Error = Error, Future: Send> + Clone + Send + 'static,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        // Boxed: accounts are read and written behind a trait object.
        ResponseFuture(Box::pin(async move {
            let Some((account, amount)) = (layer.estimate)(&request) else {
                return ready.call(request).await;
            };
            let reservation = layer.budget.reserve(&account, amount).await?;
            let mut open = Open {
                budget: Arc::clone(&layer.budget),
                reservation: Some(reservation),
            };
            let result = ready.call(request).await;
            if let Some(reservation) = open.reservation.take() {
                let spent = (layer.actual)(reservation.amount(), &result);
                if let Err(error) = layer.budget.settle(reservation, spent).await {
                    // The call has been made: its answer is worth more than the account.
                    tracing::warn!(%error, "a call could not be booked; its reservation stands");
                }
            }
            result
        }))
    }
}

/// A reservation whose call is in flight. A call that is dropped has cost what was set aside.
struct Open {
    budget: Arc<dyn Budget>,
    reservation: Option<Reservation>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        // Outside of a runtime the reservation stands until it counts as spent by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (budget, amount) = (Arc::clone(&self.budget), reservation.amount());
            runtime.spawn(async move {
                if let Err(error) = budget.settle(reservation, amount).await {
                    tracing::warn!(%error, "a dropped call could not be booked; its reservation stands");
                }
            });
        }
    }
}

/// The answer of a [`BudgetService`].
///
/// # Cancel safety
///
/// A call that is dropped in flight is booked in full.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("budget::ResponseFuture")
    }
}
