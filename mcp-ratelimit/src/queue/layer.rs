use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mcp_core::{ConfigError, Request};
use tower_layer::Layer;

use super::core::Core;
use super::{QueueService, QueueStatus};

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

pub(super) type PriorityFn = Arc<dyn Fn(&Request) -> Priority + Send + Sync>;

/// Applies a [`QueueService`].
#[must_use]
#[derive(Clone)]
pub struct QueueLayer {
    pub(super) core: Arc<Core>,
    pub(super) deadline: Duration,
    pub(super) priority: Option<PriorityFn>,
}

impl QueueLayer {
    /// Lets `concurrency` calls through at once and `queue_len` wait for up to 10 s. A queue of zero refuses
    /// what cannot go through at once: a bulkhead. The name appears in errors and metrics.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `concurrency` is zero.
    pub fn new(name: &str, concurrency: usize, queue_len: usize) -> Result<Self, ConfigError> {
        if concurrency == 0 {
            return Err(ConfigError::new(
                "concurrency",
                concurrency,
                "let at least one call through",
            ));
        }
        let core = Arc::new(Core::new(name.into(), concurrency, queue_len, None));
        Ok(Self {
            core,
            deadline: Duration::from_secs(10),
            priority: None,
        })
    }

    /// Lets the number of calls at once follow what the service stands, beginning with `adaptive`'s least.
    pub fn adaptive(name: &str, adaptive: Adaptive, queue_len: usize) -> Self {
        let core = Arc::new(Core::new(
            name.into(),
            adaptive.least,
            queue_len,
            Some(adaptive),
        ));
        Self {
            core,
            deadline: Duration::from_secs(10),
            priority: None,
        }
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
    type Service = QueueService<S>;

    fn layer(&self, inner: S) -> QueueService<S> {
        QueueService::new(inner, self.clone())
    }
}

impl fmt::Debug for QueueLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueLayer")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
