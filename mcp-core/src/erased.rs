use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{Error, Request, Response, Seam};

/// The future of a [`BoxSeam`].
pub type BoxSeamFuture = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

/// A service of the seam whose type has been erased.
///
/// A clone is a pointer copy and is never ready: it has to be polled. Each call makes one allocation, which holds the inner
/// service until the request is sent and its future from then on. The readiness of the inner service is kept, so that
/// concurrency limits and load shedding work through it.
///
/// # Examples
///
/// ```
/// use mcp_core::{BoxSeam, Error, Method, Request, Response};
/// use tower::{ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let service = BoxSeam::new(service_fn(|_: Request| async { Ok(Response::empty()) }));
/// let answer = service.oneshot(Request::new(Method::PING, None)?).await?;
/// assert_eq!(answer.result().as_str(), "{}");
/// # Ok(())
/// # }
/// ```
pub struct BoxSeam {
    shared: Arc<dyn Erased>,
    /// The instance that was polled. The mutex only makes the type `Sync`: it is never locked on the way of a call.
    polled: Mutex<Option<Box<dyn Lane>>>,
}

/// What every clone shares: a service that is cloned for each call.
trait Erased: Send + Sync {
    /// Clones the service for one call; `None` for a service that is always ready.
    fn lane(&self) -> Option<Box<dyn Lane>>;

    /// Calls a service that is always ready.
    fn call(&self, request: Request) -> BoxSeamFuture;
}

/// One instance of a service on its way from readiness to its answer.
trait Lane: Future<Output = Result<Response, Error>> + Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    fn start(&mut self, request: Request);
}

impl BoxSeam {
    /// Erases the type of a service.
    #[must_use]
    pub fn new(service: impl Seam) -> Self {
        Self::shared(Cloned(service))
    }

    /// Makes a service of a function whose future is boxed already, which saves a box. It is always ready.
    #[must_use]
    pub fn from_fn(call: impl Fn(Request) -> BoxSeamFuture + Send + Sync + 'static) -> Self {
        Self::shared(Function(call))
    }

    fn shared(service: impl Erased + 'static) -> Self {
        Self {
            shared: Arc::new(service),
            polled: Mutex::new(None),
        }
    }

    fn polled(&mut self) -> &mut Option<Box<dyn Lane>> {
        self.polled
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Request> for BoxSeam {
    type Response = Response;
    type Error = Error;
    type Future = BoxSeamFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.polled().is_none() {
            let Some(lane) = self.shared.lane() else {
                return Poll::Ready(Ok(()));
            };
            *self.polled() = Some(lane);
        }
        match self.polled() {
            Some(lane) => lane.poll_ready(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request) -> BoxSeamFuture {
        match self.polled().take().or_else(|| self.shared.lane()) {
            Some(mut lane) => {
                lane.start(request);
                Box::into_pin(lane)
            }
            None => self.shared.call(request),
        }
    }
}

impl Clone for BoxSeam {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            polled: Mutex::new(None),
        }
    }
}

impl fmt::Debug for BoxSeam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxSeam")
    }
}

struct Cloned<S>(S);

impl<S: Seam> Erased for Cloned<S> {
    fn lane(&self) -> Option<Box<dyn Lane>> {
        Some(Box::new(Instance::Idle {
            service: self.0.clone(),
        }))
    }

    fn call(&self, request: Request) -> BoxSeamFuture {
        let mut lane = Instance::Idle {
            service: self.0.clone(),
        };
        lane.start(request);
        Box::pin(lane)
    }
}

struct Function<F>(F);

impl<F: Fn(Request) -> BoxSeamFuture + Send + Sync> Erased for Function<F> {
    fn lane(&self) -> Option<Box<dyn Lane>> {
        None
    }

    fn call(&self, request: Request) -> BoxSeamFuture {
        (self.0)(request)
    }
}

pin_project! {
    /// A clone of a service, and then the future of its one call, in the same place.
    #[project = InstanceProject]
    enum Instance<S: Service<Request>> {
        // It waits for its turn.
        Idle { service: S },
        // It answers.
        Running { #[pin] future: S::Future },
        // It has been moved out of its place and is about to run.
        Moved,
    }
}

impl<S: Seam> Lane for Instance<S> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self {
            Self::Idle { service } => service.poll_ready(cx),
            Self::Running { .. } | Self::Moved => Poll::Ready(Ok(())),
        }
    }

    fn start(&mut self, request: Request) {
        if let Self::Idle { mut service } = std::mem::replace(self, Self::Moved) {
            *self = Self::Running {
                future: service.call(request),
            };
        }
    }
}

impl<S: Seam> Future for Instance<S> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            InstanceProject::Running { future } => future.poll(cx),
            // A lane is only polled after it was started.
            InstanceProject::Idle { .. } | InstanceProject::Moved => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::{Layer, ServiceExt, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer};

    use super::*;
    use crate::{IntoSeam, Method};

    fn request() -> Request {
        Request::new(Method::PING, None).unwrap()
    }

    #[test]
    fn an_erased_service_can_be_shared_by_threads() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<BoxSeam>();
    }

    #[tokio::test]
    async fn the_readiness_of_the_inner_service_is_kept() {
        let inner = ConcurrencyLimitLayer::new(1)
            .layer(BoxSeam::from_fn(|_| Box::pin(std::future::pending())));
        let erased = BoxSeam::new(inner);
        let mut first = erased.clone();
        let held = first.ready().await.unwrap().call(request());
        let mut second = tower_test::mock::Spawn::new(erased.clone());
        assert!(second.poll_ready().is_pending(), "the one permit is taken");
        drop(held);
        assert!(second.is_woken());
        assert!(second.poll_ready().is_ready());
    }

    #[tokio::test]
    async fn load_is_shed_through_an_erased_limit() {
        let limited = ConcurrencyLimitLayer::new(1)
            .layer(BoxSeam::from_fn(|_| Box::pin(std::future::pending())));
        let shedding = LoadShedLayer::new().layer(BoxSeam::new(limited));
        let shedding = BoxSeam::new(IntoSeam::new(shedding));
        let mut busy = tokio_test::task::spawn(shedding.clone().oneshot(request()));
        assert!(busy.poll().is_pending());
        assert!(shedding.oneshot(request()).await.is_err());
    }

    #[tokio::test]
    async fn a_clone_does_not_inherit_readiness_and_errors_pass() {
        let failing = BoxSeam::from_fn(|_| {
            Box::pin(async { Err(Error::new(crate::ErrorKind::Unavailable, "gone")) })
        });
        let mut erased = BoxSeam::new(failing);
        erased.ready().await.unwrap();
        assert!(erased.polled().is_some() && erased.clone().polled().is_none());
        let error = erased.call(request()).await.unwrap_err();
        assert_eq!(error.message(), "gone");
    }
}
