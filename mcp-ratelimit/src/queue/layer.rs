use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mcp_core::{ConfigError, Request};
use tower_layer::Layer;

use super::core::Core;
use super::{Queue, QueueStatus};

/// How urgent a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Priority {
    /// Eight turns in thirteen.
    High = 0,
    /// Four turns in thirteen.
    Normal = 1,
    /// One turn in thirteen.
    Low = 2,
}

/// Lets the number of calls at once follow what the service stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) slow: Duration,
}

impl Adaptive {
    /// Moves between `least` and `most`. A call slower than `slow`, one that times out and one that is refused
    /// for load or rate take a tenth off; a round of good calls adds one.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `least` is zero or above `most`, or `slow` is zero.
    pub fn new(least: usize, most: usize, slow: Duration) -> Result<Self, ConfigError> {
        if least == 0 || least > most || slow.is_zero() {
            return Err(ConfigError::new(
                "adaptive_concurrency",
                format!("{least} to {most}, slow above {slow:?}"),
                "begin at 1 or more, end at or above it, with a time above zero",
            ));
        }
        Ok(Self { least, most, slow })
    }
}

/// How many calls wait by default.
const QUEUE: usize = 100;

pub(super) type PriorityFn = Arc<dyn Fn(&Request) -> Priority + Send + Sync>;

/// Applies a [`Queue`].
#[must_use]
#[derive(Clone)]
pub struct QueueLayer {
    pub(super) core: Arc<Core>,
    pub(super) deadline: Duration,
    pub(super) priority: Option<PriorityFn>,
}

impl QueueLayer {
    /// Lets `concurrency` calls through at once; 100 more wait for up to 10 s. The name appears in errors and metrics.
    pub fn new(name: &str, concurrency: NonZeroUsize) -> Self {
        Self::with_core(name, concurrency.get(), None)
    }

    /// Lets one call through at a time, for a server that loses work when calls overlap: all services of this layer, and so all
    /// sessions of an upstream, take turns.
    pub fn one_at_a_time(name: &str) -> Self {
        Self::new(name, NonZeroUsize::MIN)
    }

    /// Adaptive concurrency limit (AIMD): the number of calls at once follows what the service stands, beginning with
    /// `adaptive`'s least.
    pub fn adaptive(name: &str, adaptive: Adaptive) -> Self {
        Self::with_core(name, adaptive.least, Some(adaptive))
    }

    fn with_core(name: &str, concurrency: usize, adaptive: Option<Adaptive>) -> Self {
        Self {
            core: Arc::new(Core::new(name.into(), concurrency, QUEUE, adaptive)),
            deadline: Duration::from_secs(10),
            priority: None,
        }
    }

    /// Lets so many calls wait. Default is 100; zero refuses what cannot go through at once: a bulkhead. Set it before
    /// services are made: those that are there keep their queue.
    pub fn with_queue(mut self, calls: usize) -> Self {
        self.core = Arc::new(self.core.with_queue(calls));
        self
    }

    /// Bounds how long a call waits. Default is 10 s; the request's own deadline bounds it too. Zero refuses
    /// what cannot go through at once.
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how urgent a call is. Default is [`Priority::Normal`].
    pub fn with_priority(
        mut self,
        priority: impl Fn(&Request) -> Priority + Send + Sync + 'static,
    ) -> Self {
        self.priority = Some(Arc::new(priority));
        self
    }

    /// The numbers of the moment.
    #[must_use]
    pub fn status(&self) -> QueueStatus {
        self.core.status()
    }
}

impl<S> Layer<S> for QueueLayer {
    type Service = Queue<S>;

    fn layer(&self, inner: S) -> Queue<S> {
        Queue::new(inner, self.clone())
    }
}

impl fmt::Debug for QueueLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueLayer")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
