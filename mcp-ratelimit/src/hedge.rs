//! Sends a slow call a second time and takes whichever answer comes first.
//!
//! 1. Only calls that [`Repeat`] calls safe are sent twice, and only if their client has
//!    seen no notification yet.
//! 2. The second one is sent when the first has not answered after a delay. Its notifications are discarded.
//! 3. At most a share of all calls is hedged, so that a slow service is not called twice as often.
//! 4. The first good answer wins and the other call is dropped. If both fail, the first one's error is returned.
//!
//! Services of one layer share the budget. Put it inside of retries and outside of balancing between replicas,
//! so that the second call goes to another one.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use mcp_core::{Error, Method, Request, Response, Stack};
//! use mcp_ratelimit::hedge::HedgeLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(HedgeLayer::new(Duration::from_millis(200)))
//!     .into_service();
//! service.oneshot(Request::new(Method::TOOLS_LIST, None)?).await?;
//! # Ok(()) }
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_core::{ConfigError, Error, Notifier, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower_layer::Layer;
use tower_service::Service;

use crate::retry::Repeat;

/// Applies a [`Hedge`].
#[must_use]
#[derive(Clone)]
pub struct HedgeLayer {
    delay: Duration,
    budget: Arc<TpsBudget>,
}

impl HedgeLayer {
    /// Sends a second call after `delay`; best a little above the time in which 95 of 100 calls are answered.
    pub fn new(delay: Duration) -> Self {
        Self {
            delay,
            budget: Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.1)),
        }
    }

    /// Sets which share of calls may be hedged. Default is 0.1, and one in a second on top.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a share outside of 0 to 1.
    pub fn with_share(mut self, share: f32) -> Result<Self, ConfigError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(ConfigError::new(
                "hedge_share",
                share,
                "use a share from 0 to 1",
            ));
        }
        self.budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 1, share));
        Ok(self)
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge {
            inner,
            layer: self.clone(),
        }
    }
}

impl fmt::Debug for HedgeLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer")
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

/// Sends a slow call a second time.
#[derive(Debug, Clone)]
pub struct Hedge<S> {
    inner: S,
    layer: HedgeLayer,
}

impl<S> Hedge<S> {
    mcp_core::inner_service!();
}

impl<S> Service<Request> for Hedge<S>
where
    S: Service<Request, Response = Response, Error = Error> + Clone,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let spare = (Repeat::of(&request) == Repeat::Safe).then(|| Spare {
            service: self.inner.clone(),
            seen: request.notifier().sent(),
            request: request.clone(),
            layer: self.layer.clone(),
        });
        ResponseFuture {
            first: self.inner.call(request),
            failed: None,
            sleep: None,
            second: None,
            spare,
        }
    }
}

/// What a second call takes.
struct Spare<S> {
    service: S,
    request: Request,
    seen: u64,
    layer: HedgeLayer,
}

pin_project! {
    /// The answer of a [`Hedge`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops both calls.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S: Service<Request>> {
        #[pin]
        first: S::Future,
        // The first one's error, while the second is in flight.
        failed: Option<Error>,
        #[pin]
        sleep: Option<Sleep>,
        // Boxed, since few calls have one.
        second: Option<Pin<Box<Second<S>>>>,
        spare: Option<Spare<S>>,
    }
}

pin_project! {
    #[project = SecondProj]
    enum Second<S: Service<Request>> {
        // The service is not ready yet.
        Waiting { service: S, request: Option<Request> },
        // The call is in flight.
        Called { #[pin] future: S::Future },
    }
}

impl<S: Service<Request, Error = Error>> Second<S> {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, Error>> {
        loop {
            let future = match self.as_mut().project() {
                SecondProj::Called { future } => return future.poll(cx),
                SecondProj::Waiting { service, request } => {
                    std::task::ready!(service.poll_ready(cx))?;
                    service.call(request.take().expect("called once"))
                }
            };
            self.set(Self::Called { future });
        }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.failed.is_none()
            && let Poll::Ready(result) = this.first.poll(cx)
        {
            match result {
                Err(error) if this.second.is_some() => *this.failed = Some(error),
                result => {
                    if let Some(spare) = this.spare {
                        spare.layer.budget.deposit();
                    }
                    return Poll::Ready(result);
                }
            }
        }
        if this.second.is_none() {
            let Some(delay) = this.spare.as_ref().map(|spare| spare.layer.delay) else {
                return Poll::Pending;
            };
            if this.sleep.is_none() {
                this.sleep.set(Some(sleep(delay)));
            }
            let up = this
                .sleep
                .as_pin_mut()
                .is_some_and(|sleep| sleep.poll(cx).is_ready());
            if !up {
                return Poll::Pending;
            }
            *this.second = this.spare.take().and_then(begin);
        }
        let Some(second) = this.second else {
            return Poll::Pending;
        };
        match (second.as_mut().poll(cx), this.failed.is_some()) {
            (Poll::Ready(Ok(response)), _) => Poll::Ready(Ok(response)),
            (Poll::Ready(Err(error)), true) => {
                Poll::Ready(Err(this.failed.take().unwrap_or(error)))
            }
            (Poll::Ready(Err(_)), false) => {
                *this.second = None;
                Poll::Pending
            }
            (Poll::Pending, _) => Poll::Pending,
        }
    }
}

/// Prepares the second call if the client has seen nothing of the first and the budget pays for it.
fn begin<S: Service<Request>>(spare: Spare<S>) -> Option<Pin<Box<Second<S>>>> {
    let Spare {
        service,
        request,
        seen,
        layer,
    } = spare;
    if request.notifier().sent() != seen || !layer.budget.withdraw() {
        return None;
    }
    metrics::counter!("mcp_hedges_total").increment(1);
    let request = request.with_notifier(Notifier::none());
    Some(Box::pin(Second::Waiting {
        service,
        request: Some(request),
    }))
}

impl<S: Service<Request>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hedge::ResponseFuture")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use mcp_core::{ErrorKind, Json, Method};
    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// The first call takes `first` ms and the rest take 50; a call of an odd time fails.
    async fn run(request: Request, first: u64, rest: u64) -> (Result<Response, Error>, u64, u32) {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let inner = service_fn(move |_: Request| {
            let time = if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                first
            } else {
                rest
            };
            async move {
                sleep(Duration::from_millis(time)).await;
                if time % 2 == 1 {
                    Err(Error::new(ErrorKind::Unavailable, time.to_string()))
                } else {
                    Ok(Response::empty())
                }
            }
        });
        let start = Instant::now();
        let result = HedgeLayer::new(Duration::from_millis(100))
            .layer(inner)
            .oneshot(request)
            .await;
        (
            result,
            u64::try_from(start.elapsed().as_millis()).unwrap(),
            calls.load(Ordering::SeqCst),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_good_answer_wins() {
        let list = || Request::new(Method::TOOLS_LIST, None).unwrap();
        for (first, rest, ok, time, calls) in [
            (80, 50, true, 80, 1),
            (500, 50, true, 150, 2),
            (120, 50, true, 120, 2),
            (81, 50, false, 81, 1),
            (121, 50, true, 150, 2),
            (200, 51, true, 200, 2),
            (501, 51, false, 501, 2),
            (121, 81, false, 181, 2),
        ] {
            let (result, took, made) = run(list(), first, rest).await;
            assert_eq!(
                (result.is_ok(), took, made),
                (ok, time, calls),
                "{first} {rest}"
            );
            if let Err(error) = result {
                assert_eq!(error.message(), first.to_string(), "the first one's error");
            }
        }
        let params = Json::parse(r#"{"name":"pay"}"#).unwrap();
        let unsafe_call = Request::new(Method::TOOLS_CALL, Some(params)).unwrap();
        assert_eq!(
            run(unsafe_call, 500, 50).await.2,
            1,
            "not safe to send twice"
        );
        assert!(HedgeLayer::new(Duration::ZERO).with_share(2.0).is_err());
    }
}
