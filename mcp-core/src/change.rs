use std::sync::Arc;

use tokio::sync::broadcast;

use crate::{EntryKind, UpstreamId};

/// A source of catalogue change events.
pub trait ChangeFeed: Send + Sync + 'static {
    /// Starts listening. Changes from now on are seen.
    fn subscribe(&self) -> ChangeStream;
}

/// A change of a catalogue from one generation to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogueChange {
    /// The generation that the change leads to.
    pub generation: u64,
    /// What was added, removed or altered, by kind and name.
    pub entries: Vec<ChangedEntry>,
}

impl CatalogueChange {
    /// Describes a change.
    #[must_use]
    pub fn new(generation: u64, entries: Vec<ChangedEntry>) -> Self {
        Self {
            generation,
            entries,
        }
    }

    /// Returns whether entries of a kind changed.
    #[must_use]
    pub fn touches(&self, kind: EntryKind) -> bool {
        self.entries.iter().any(|entry| entry.kind == kind)
    }
}

/// One entry of a catalogue that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedEntry {
    /// What it is.
    pub kind: EntryKind,
    /// Its public name.
    pub name: Arc<str>,
    /// Who offers it.
    pub upstream: Option<UpstreamId>,
    /// What happened to it.
    pub change: Change,
}

impl ChangedEntry {
    /// Describes what happened to an entry.
    #[must_use]
    pub fn new(kind: EntryKind, name: Arc<str>, change: Change) -> Self {
        Self {
            kind,
            name,
            upstream: None,
            change,
        }
    }

    /// Sets who offers the entry.
    #[must_use]
    pub fn with_upstream(mut self, upstream: UpstreamId) -> Self {
        self.upstream = Some(upstream);
        self
    }
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its definition differs.
    Altered,
}

/// Reads a [`ChangeFeed`].
#[derive(Debug)]
pub struct ChangeStream(broadcast::Receiver<Arc<CatalogueChange>>);

/// What a [`ChangeStream`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeEvent {
    /// A change.
    Changed(Arc<CatalogueChange>),
    /// The reader was too slow and missed this many changes: read the whole catalogue again.
    Missed(u64),
}

impl ChangeStream {
    /// Returns the next event; `None` when the feed has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn recv(&mut self) -> Option<ChangeEvent> {
        match self.0.recv().await {
            Ok(change) => Some(ChangeEvent::Changed(change)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(ChangeEvent::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A feed in memory. Clones publish to the same readers.
#[derive(Clone, Debug)]
pub struct MemoryChangeFeed(broadcast::Sender<Arc<CatalogueChange>>);

impl MemoryChangeFeed {
    /// Creates a feed whose readers may lag behind by `capacity` changes.
    #[must_use]
    pub fn new(capacity: std::num::NonZeroUsize) -> Self {
        Self(broadcast::Sender::new(capacity.get()))
    }

    /// Publishes a change to all readers.
    pub fn publish(&self, change: CatalogueChange) {
        // An error says that there is no reader, which is fine.
        let _ = self.0.send(Arc::new(change));
    }
}

impl Default for MemoryChangeFeed {
    fn default() -> Self {
        Self(broadcast::Sender::new(64))
    }
}

impl ChangeFeed for MemoryChangeFeed {
    fn subscribe(&self) -> ChangeStream {
        ChangeStream(self.0.subscribe())
    }
}
