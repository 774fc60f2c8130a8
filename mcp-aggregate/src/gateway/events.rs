//! One stream of everything that happens to a gateway.

use std::sync::Arc;

use mcp_core::{CatalogueChange, Error, Principal, UpstreamId};
use tokio::sync::broadcast;

use super::{UpstreamState, classes::ClassKey, kinds::Kinds};

/// How many events a reader may lag behind.
const CAPACITY: usize = 256;

/// Something that happened to a gateway.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GatewayEvent {
    /// The catalogue changed.
    Catalogue(Arc<CatalogueChange>),
    /// The state of an upstream changed.
    #[non_exhaustive]
    Upstream {
        /// The upstream.
        id: UpstreamId,
        /// Its generation: 1, and one more for each replacement.
        generation: u64,
        /// Its state from now on.
        state: UpstreamState,
        /// Why it is not healthy.
        error: Option<Error>,
    },
    /// The graph of upstreams changed.
    #[non_exhaustive]
    Graph {
        /// The generation of the graph.
        generation: u64,
        /// What changed.
        diff: Arc<super::GraphDiff>,
    },
    /// A client's session was opened or has ended.
    #[non_exhaustive]
    Session {
        /// The id of the session ([`SessionKey::id`](mcp_core::SessionKey::id)), which authenticates no client.
        id: Arc<str>,
        /// Whose session it is.
        principal: Principal,
        /// What happened to it.
        state: SessionState,
    },
    /// The gateway has begun to drain: it takes no new calls.
    Draining,
    /// The reader was too slow and missed this many events: read the state again
    /// ([`Running::health`](super::Running::health), [`Running::catalogue`](super::Running::catalogue)).
    Missed(u64),
}

/// Whether a client's session has begun or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionState {
    /// It was opened.
    Opened,
    /// It has ended: the client ended it, was idle for too long or is gone.
    Closed,
}

/// Reads the events of a gateway, from when it was made. Made by [`Running::events`](super::Running::events).
///
/// A reader may lag behind by 256 events; one that lags more gets [`GatewayEvent::Missed`] with the number that it lost,
/// and continues with the oldest that is kept.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<GatewayEvent>);

impl EventStream {
    /// Returns the next event; `None` when the gateway has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn recv(&mut self) -> Option<GatewayEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(GatewayEvent::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Publishes events to readers outside, and signals to the listeners of clients.
#[derive(Debug)]
pub(crate) struct Events {
    public: broadcast::Sender<GatewayEvent>,
    signals: broadcast::Sender<Signal>,
}

/// What a client that listens may have to be told.
#[derive(Clone, Debug)]
pub(crate) enum Signal {
    /// Lists that are the same for all changed, or an upstream announced that they did.
    Lists(Kinds),
    /// Lists of the clients of one class changed.
    Class(UpstreamId, ClassKey, Kinds),
    /// Upstreams were added, replaced or removed.
    Members,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            public: broadcast::Sender::new(CAPACITY),
            signals: broadcast::Sender::new(CAPACITY),
        }
    }
}

impl Events {
    pub(crate) fn publish(&self, event: GatewayEvent) {
        // An error says that there is no reader.
        let _ = self.public.send(event);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // An error says that no client listens.
        let _ = self.signals.send(signal);
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream(self.public.subscribe())
    }

    pub(crate) fn signals(&self) -> broadcast::Receiver<Signal> {
        self.signals.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_lags_is_told_how_many_events_it_missed() {
        let events = Events::default();
        let mut stream = events.subscribe();
        for _ in 0..CAPACITY + 5 {
            events.publish(GatewayEvent::Draining);
        }
        assert!(matches!(stream.recv().await, Some(GatewayEvent::Missed(5))));
        assert!(matches!(stream.recv().await, Some(GatewayEvent::Draining)));
        drop(events);
        while let Some(event) = stream.recv().await {
            assert!(matches!(event, GatewayEvent::Draining));
        }
    }
}
