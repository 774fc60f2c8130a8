//! One upstream of one generation: the service that calls go to, and what ends it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcp_core::{BoxSeam, Error, ErrorKind, Request, Response, Timing, UpstreamId};
use tokio::time::timeout;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::{Lifecycle, digest::Digest};

/// An upstream that calls can be sent to. A call holds its node and finishes on it, whatever the graph is meanwhile.
pub(crate) struct Node {
    pub(crate) id: UpstreamId,
    /// Counts the nodes that had this id, from 1.
    pub(crate) generation: u64,
    pub(crate) digest: Digest,
    pub(crate) sharing: Sharing,
    pub(crate) timing: Timing,
    /// Whether there are layers around the service, which may want to know more of a call.
    pub(crate) has_layers: bool,
    service: BoxSeam,
    lifecycle: Option<Arc<dyn Lifecycle>>,
    calls: TaskTracker,
    /// Set when the node has left the graph: new calls go to its successor.
    retired: AtomicBool,
    cut: CancellationToken,
}

/// Who is offered the same lists by an upstream, and where its clients have sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    pub(crate) lists: Lists,
    /// Whether a session of a client's own costs next to nothing, so that it is listened to before the first call.
    pub(crate) eager: bool,
    /// Whether all clients share what the server keeps: tasks are then told apart by who made them.
    pub(crate) shared_state: bool,
}

/// Whose lists of an upstream are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    /// Everyone's.
    Everyone,
    /// Clients with the same capabilities.
    Capabilities,
    /// Clients with the same capabilities of one principal, whose credential goes to the upstream.
    Principal,
}

/// What a node is made of.
pub(crate) struct NodeParts {
    pub(crate) id: UpstreamId,
    pub(crate) digest: Digest,
    pub(crate) sharing: Sharing,
    pub(crate) timing: Timing,
    pub(crate) has_layers: bool,
    pub(crate) service: BoxSeam,
    pub(crate) lifecycle: Option<Arc<dyn Lifecycle>>,
}

impl Node {
    pub(crate) fn new(parts: NodeParts, generation: u64) -> Self {
        Self {
            id: parts.id,
            generation,
            digest: parts.digest,
            sharing: parts.sharing,
            timing: parts.timing,
            has_layers: parts.has_layers,
            service: parts.service,
            lifecycle: parts.lifecycle,
            calls: TaskTracker::new(),
            retired: AtomicBool::new(false),
            cut: CancellationToken::new(),
        }
    }

    /// Returns the service for one call; `None` when the node takes no new calls.
    pub(crate) fn enter(&self) -> Option<(BoxSeam, Pass)> {
        let token = self.calls.token();
        // After the token was counted: whoever retires the node sees either the token or no call.
        let open = !self.retired.load(Ordering::SeqCst);
        open.then(|| (self.service.clone(), Pass { _counted: token }))
    }

    /// Returns the service for calls of the gateway's own, which a drain does not wait for.
    pub(crate) fn service(&self) -> BoxSeam {
        self.service.clone()
    }

    pub(crate) fn lifecycle(&self) -> Option<&Arc<dyn Lifecycle>> {
        self.lifecycle.as_ref()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Returns whether the client of a request has a session of its own here.
    pub(crate) fn has_session(&self, request: &Request) -> bool {
        match &self.lifecycle {
            Some(lifecycle) => lifecycle.has_session(request),
            None => true,
        }
    }

    /// Returns whether a session of the client of a request would answer now.
    pub(crate) fn is_started(&self, request: &Request) -> bool {
        match &self.lifecycle {
            Some(lifecycle) => lifecycle.is_started(request),
            None => true,
        }
    }

    /// Returns whether the client's own session is listened to before the client calls.
    pub(crate) fn is_listened_to(&self, request: &Request) -> bool {
        self.sharing.eager || self.has_session(request)
    }

    /// Makes a call that fails when the drain is over and the call is still there. For services without an end of their
    /// own.
    pub(crate) async fn unless_cut(
        &self,
        call: impl Future<Output = Result<Response, Error>>,
    ) -> Result<Response, Error> {
        tokio::select! {
            answer = call => answer,
            () = self.cut.cancelled() => Err(Error::new(
                ErrorKind::Unavailable,
                "the upstream was removed, and the call did not finish before the drain deadline",
            )
            .with_upstream(self.id.clone())),
        }
    }

    pub(crate) fn cuts_calls(&self) -> bool {
        self.lifecycle.is_none()
    }

    /// Takes no new calls from now on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.calls.close();
    }

    /// Takes no new calls and waits for those in flight, at most `deadline`. Returns whether all have finished.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        self.retire();
        let draining = async {
            match &self.lifecycle {
                Some(lifecycle) => drop(tokio::join!(self.calls.wait(), lifecycle.drain(deadline))),
                None => self.calls.wait().await,
            }
        };
        timeout(deadline, draining).await.is_ok()
    }

    /// Ends the calls that are left, and what the service needed.
    pub(crate) async fn stop(&self) {
        self.retire();
        self.cut.cancel();
        if let Some(lifecycle) = &self.lifecycle {
            lifecycle.stop().await;
        }
    }

    /// Lets calls in flight finish for at most `deadline`, and ends the rest.
    pub(crate) async fn end(&self, deadline: Duration) {
        if !self.drain(deadline).await {
            tracing::warn!(upstream = %self.id, "calls in flight are cut off at the drain deadline");
        }
        self.stop().await;
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({} #{})", self.id, self.generation)
    }
}

/// One call in flight. The node waits for it when it ends.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pass {
    _counted: TaskTrackerToken,
}

#[cfg(test)]
impl Node {
    /// A node around a service, for tests.
    pub(crate) fn of(id: &str, service: impl mcp_core::Seam) -> Arc<Self> {
        let parts = crate::Upstream::service(id, service)
            .prepare(&crate::upstream::Shared::default())
            .expect("the id is well formed");
        Arc::new(Self::new(parts, 1))
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::{Method, Response};
    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn slow() -> Arc<Node> {
        Node::of(
            "slow",
            service_fn(|_: Request| async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Ok(Response::empty())
            }),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_in_flight_finishes_and_none_begins_after() {
        let node = slow();
        let (service, pass) = node.enter().unwrap();
        let call = tokio::spawn(async move {
            let answer = service
                .oneshot(Request::new(Method::PING, None).unwrap())
                .await;
            drop(pass);
            answer
        });
        let started = Instant::now();
        node.end(Duration::from_secs(60)).await;
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        assert!(call.await.unwrap().is_ok());
        assert!(node.enter().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_cuts_what_does_not_finish() {
        let node = slow();
        let (_service, _pass) = node.enter().unwrap();
        let started = Instant::now();
        node.end(Duration::from_secs(1)).await;
        assert_eq!(started.elapsed(), Duration::from_secs(1));
        let cut = node.unless_cut(std::future::pending()).await;
        assert!(cut.unwrap_err().message().contains("drain deadline"));
    }
}
