//! One call at a time.

use std::sync::Arc;

use mcp_core::{Method, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets the calls of a server pass one after the other, or all at once.
#[derive(Clone, Default)]
pub(crate) struct Turns(Option<Arc<Semaphore>>);

impl Turns {
    /// Lets one call pass at a time, in the order in which they came.
    pub(crate) fn one_at_a_time() -> Self {
        Self(Some(Arc::new(Semaphore::new(1))))
    }

    /// Waits for the turn of a call, which ends when the permit is dropped. Notifications, pings and listeners have none to
    /// wait for: they run beside calls.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in the queue up.
    pub(crate) async fn wait(&self, request: &Request) -> Option<OwnedSemaphorePermit> {
        let turns = self.0.as_ref()?;
        let beside = matches!(
            *request.method(),
            Method::PING | Method::SUBSCRIPTIONS_LISTEN | Method::DISCOVER
        );
        if beside || request.is_notification() {
            return None;
        }
        // It is never closed. Boxed, so that calls that wait for no turn are small.
        Box::pin(Arc::clone(turns).acquire_owned()).await.ok()
    }
}
