use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

/// A part of a stack that shuts down in two steps: it is drained, then closed.
///
/// Server transports and gateways implement it, so that one signal ends a stack in order: see
/// [`Server`](crate::serve::Server) (feature `serve`).
#[async_trait]
pub trait Drain: Send + Sync {
    /// Refuses what is new from now on, and waits for what is in flight to finish. Returns whether all has finished
    /// within `deadline`.
    async fn drain(&self, deadline: Duration) -> bool;

    /// Ends what is left and waits until it has ended.
    async fn close(&self);
}

#[async_trait]
impl<T: Drain + ?Sized> Drain for Arc<T> {
    async fn drain(&self, deadline: Duration) -> bool {
        (**self).drain(deadline).await
    }

    async fn close(&self) {
        (**self).close().await;
    }
}
