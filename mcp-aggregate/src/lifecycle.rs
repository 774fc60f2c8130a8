//! What is beside the service of an upstream: its start, its drain and its end.

use std::time::Duration;

use async_trait::async_trait;
use mcp_core::{Error, Request};
use tokio::sync::watch;

/// Where an upstream is between its start and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LifecycleState {
    /// It takes calls, starting what they need.
    #[default]
    Running,
    /// It finishes the calls that it has.
    Draining,
    /// It has ended and takes no calls any more.
    Stopped,
}

/// Starts and ends what an upstream's service needs: processes, sessions, connections.
///
/// A gateway calls [`start`](Self::start) once, before the first call, then [`drain`](Self::drain) and
/// [`stop`](Self::stop) once each when the upstream leaves the graph or the gateway ends. The connectors implement it;
/// [`Upstream::service_with`](crate::Upstream::service_with) takes one of the caller's.
#[async_trait]
pub trait Lifecycle: Send + Sync + 'static {
    /// Prepares the service. The upstream is not called before this returns.
    ///
    /// # Errors
    ///
    /// The upstream cannot be used; it is started again after a backoff.
    async fn start(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Finishes calls in flight, at most this long. No new calls come.
    async fn drain(&self, deadline: Duration) {
        let _ = deadline;
    }

    /// Ends everything, calls in flight included. Returns when it has ended.
    async fn stop(&self);

    /// Returns whether the client of a request has a session or process of its own here already.
    fn has_session(&self, request: &Request) -> bool {
        let _ = request;
        true
    }

    /// Returns whether a session or process of the client of a request would answer now, rather than be started first.
    fn is_started(&self, request: &Request) -> bool {
        self.has_session(request)
    }

    /// Returns the state, and says when it changes. A service that stops by itself makes its upstream unavailable.
    fn state(&self) -> watch::Receiver<LifecycleState>;
}
