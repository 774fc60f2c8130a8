use std::fmt;
use std::sync::Arc;

use mcp_core::{BoxSeam, Error, ErrorClass, ErrorKind, Request, Response, Seam};
use tower_layer::Layer;

use super::{Breaker, BreakerRegistry, BreakerService, Outcome};

type Classify = Arc<dyn Fn(&Result<Response, Error>) -> Outcome + Send + Sync>;
type Name = Arc<dyn Fn(&Request) -> Option<Breaker> + Send + Sync>;

#[derive(Clone)]
pub(super) enum Choice {
    One(Breaker),
    Each(Name),
}

/// Applies a [`BreakerService`].
#[must_use]
#[derive(Clone)]
pub struct BreakerLayer {
    pub(super) choice: Choice,
    pub(super) classify: Option<Classify>,
    pub(super) tool_errors: bool,
    pub(super) fallback: Option<BoxSeam>,
}

impl BreakerLayer {
    /// Guards all calls with one breaker.
    pub const fn new(breaker: Breaker) -> Self {
        Self {
            choice: Choice::One(breaker),
            classify: None,
            tool_errors: false,
            fallback: None,
        }
    }

    /// Guards calls with the breaker that the closure names, such as one for each tool; calls for which it names
    /// none are not guarded.
    pub fn keyed<N: AsRef<str>>(
        registry: BreakerRegistry,
        name: impl Fn(&Request) -> Option<N> + Send + Sync + 'static,
    ) -> Self {
        let choose = move |request: &Request| name(request).map(|name| registry.get(name.as_ref()));
        Self {
            choice: Choice::Each(Arc::new(choose)),
            classify: None,
            tool_errors: false,
            fallback: None,
        }
    }

    /// Counts a tool's own errors (`isError`) as failures. By default they are not, and results are not looked
    /// into.
    pub const fn with_tool_errors(mut self) -> Self {
        self.tool_errors = true;
        self
    }

    /// Decides how a call went. Default is [`Self::classify`].
    pub fn with_classifier(
        mut self,
        classify: impl Fn(&Result<Response, Error>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        self.classify = Some(Arc::new(classify));
        self
    }

    /// Answers rejected calls with another service. Default is an error of kind `CircuitOpen`.
    pub fn with_fallback(mut self, fallback: impl Seam) -> Self {
        self.fallback = Some(BoxSeam::new(fallback));
        self
    }

    /// The default view of how a call went.
    #[must_use]
    pub fn classify(result: &Result<Response, Error>) -> Outcome {
        let Err(error) = result else {
            return Outcome::Success;
        };
        match (error.class(), error.kind()) {
            (ErrorClass::RateLimited, _) => Outcome::RateLimited(error.retry_after()),
            (_, ErrorKind::Cancelled | ErrorKind::Stalled | ErrorKind::CircuitOpen) => {
                Outcome::Ignored
            }
            (ErrorClass::Transient, _) | (_, ErrorKind::BadUpstream) => Outcome::Failure,
            _ => Outcome::Success,
        }
    }

    pub(super) fn judge(&self, result: &Result<Response, Error>) -> Outcome {
        match (&self.classify, result) {
            (Some(classify), _) => classify(result),
            (None, Ok(response)) if self.tool_errors && response.is_tool_error() => {
                Outcome::Failure
            }
            (None, _) => Self::classify(result),
        }
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = BreakerService<S>;

    fn layer(&self, inner: S) -> BreakerService<S> {
        BreakerService::new(inner, Arc::new(self.clone()))
    }
}

impl fmt::Debug for BreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("BreakerLayer");
        if let Choice::One(breaker) = &self.choice {
            debug.field("breaker", breaker);
        }
        debug.finish_non_exhaustive()
    }
}
