use std::time::Duration;

use tower_layer::Layer;

use super::Timeout;

/// Applies a [`Timeout`].
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct TimeoutLayer {
    pub(super) longest: Option<Duration>,
    pub(super) idle: Option<Duration>,
    pub(super) longest_pause: Duration,
}

/// How long one call may wait for persons before its own time runs again.
const PAUSE: Duration = Duration::from_secs(900);

impl TimeoutLayer {
    /// Bounds the whole call. Zero ends every call that does not answer at once.
    pub const fn new(longest: Duration) -> Self {
        Self {
            longest: Some(longest),
            idle: None,
            longest_pause: PAUSE,
        }
    }

    /// Bounds the whole call by nothing but the deadline that the request carries.
    pub const fn by_request() -> Self {
        Self {
            longest: None,
            idle: None,
            longest_pause: PAUSE,
        }
    }

    /// Bounds the time in which one call may wait for the answers of persons before its own time runs again. Default is 15
    /// minutes; zero counts that time like any other.
    pub const fn with_longest_pause(mut self, longest: Duration) -> Self {
        self.longest_pause = longest;
        self
    }

    /// Bounds the time between two signs of life. By default it is not bounded.
    pub const fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout::new(inner, *self)
    }
}
