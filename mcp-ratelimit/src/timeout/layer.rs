use std::time::Duration;

use tower_layer::Layer;

use super::Timeout;

/// Applies a [`Timeout`].
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct TimeoutLayer {
    pub(super) longest: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

impl TimeoutLayer {
    /// Bounds the whole call. Zero ends every call that does not answer at once.
    pub const fn new(longest: Duration) -> Self {
        Self {
            longest: Some(longest),
            idle: None,
        }
    }

    /// Bounds the whole call by nothing but the deadline that the request carries.
    pub const fn by_request() -> Self {
        Self {
            longest: None,
            idle: None,
        }
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
