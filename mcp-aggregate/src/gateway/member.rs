//! An upstream of the current graph, with its state and its watcher.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcp_core::Error;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{UpstreamState, classes::Classes};
use crate::{catalogue::Listing, node::Node};

/// A node with what the gateway knows about it.
pub(crate) struct Member {
    pub(crate) node: Arc<Node>,
    pub(crate) classes: Classes,
    /// Cancelled when the member leaves the graph: its watcher ends.
    pub(crate) leaving: CancellationToken,
    status: watch::Sender<Status>,
    since: Instant,
}

/// What is known about an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: UpstreamState,
    pub(crate) since: SystemTime,
    pub(crate) error: Option<Error>,
    /// How long the last listing took.
    pub(crate) took: Option<Duration>,
    /// What it has listed for the gateway itself.
    pub(crate) listing: Option<Arc<Listing>>,
}

impl Member {
    pub(crate) fn new(node: Node, leaving: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            node: Arc::new(node),
            classes: Classes::default(),
            leaving,
            status: watch::Sender::new(Status {
                state: UpstreamState::Starting,
                since: SystemTime::now(),
                error: None,
                took: None,
                listing: None,
            }),
            since: Instant::now(),
        })
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn listing(&self) -> Option<Arc<Listing>> {
        self.status.borrow().listing.clone()
    }

    pub(crate) fn state(&self) -> UpstreamState {
        self.status.borrow().state
    }

    /// Sets the state and returns whether it changed.
    pub(crate) fn set_state(&self, state: UpstreamState, error: Option<Error>) -> bool {
        let mut changed = false;
        self.status.send_modify(|status| {
            changed = status.state != state;
            if changed {
                status.since = SystemTime::now();
            }
            status.state = state;
            status.error = error;
        });
        changed
    }

    /// Notes a listing and how long it took.
    pub(crate) fn set_listing(&self, listing: Arc<Listing>, took: Duration) {
        self.status.send_modify(|status| {
            status.listing = Some(listing);
            status.took = Some(took);
        });
    }

    /// Waits until the first attempt to list the upstream has succeeded or failed.
    pub(crate) async fn settled(&self) {
        let mut status = self.status.subscribe();
        let settled = status.wait_for(|status| status.state != UpstreamState::Starting);
        // The sender lives as long as the member.
        drop(settled.await);
    }

    /// Returns how long a client waits for the first listing: the time runs from the start of the upstream, so that one
    /// which does not list in time is waited for once and not again by each client.
    pub(crate) fn patience(&self) -> Duration {
        let list = self.node.timing.list;
        list.saturating_sub(self.since.elapsed())
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("node", &self.node)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
