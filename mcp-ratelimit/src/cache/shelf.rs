use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mcp_core::{ChangeEvent, ChangeStream, EntryKind, Method, Notification, Partition, UpstreamId};
use tokio::task::JoinSet;

use super::entry::{Entry, Topic};
use super::remote::Remote;
use crate::keys::{Key, KeyHasher};

/// Whose answer it is, and to which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FullKey {
    owner: Partition,
    call: Key,
}

impl FullKey {
    pub(super) const fn new(owner: Partition, call: Key) -> Self {
        Self { owner, call }
    }
}

impl Hash for FullKey {
    /// The owner is among the facts of the call's key.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.hash(state);
    }
}

/// The answers that all services of one layer share, and the way to look into it from outside.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    entries: moka::sync::Cache<FullKey, Arc<Entry>, KeyHasher>,
    /// Counts invalidations: an answer that was asked for before one is not kept after it.
    epoch: AtomicU64,
    hits: AtomicU64,
    stale: AtomicU64,
    misses: AtomicU64,
    remote: OnceLock<Remote>,
    /// Fetches in the background; dropping the cache ends them.
    tasks: Mutex<JoinSet<()>>,
}

/// Numbers since the cache was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Fresh answers served.
    pub hits: u64,
    /// Stale answers served, where that is allowed.
    pub stale: u64,
    /// Calls that could have been answered from the cache and were not.
    pub misses: u64,
    /// Answers held now, about.
    pub entries: u64,
    /// What they weigh in bytes, about.
    pub bytes: u64,
}

/// How a look-up went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Hit,
    Stale,
    Miss,
}

impl Cache {
    pub(super) fn new(max_bytes: u64, longest: Duration) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &FullKey, entry: &Arc<Entry>| entry.weight())
            .time_to_live(longest.min(Duration::from_secs(366 * 86_400)))
            .support_invalidation_closures()
            .build_with_hasher(KeyHasher::default());
        Self(Arc::new(Inner {
            entries,
            epoch: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            remote: OnceLock::new(),
            tasks: Mutex::default(),
        }))
    }

    /// The numbers so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.0.entries.run_pending_tasks();
        CacheStats {
            hits: self.0.hits.load(Ordering::Relaxed),
            stale: self.0.stale.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            entries: self.0.entries.entry_count(),
            bytes: self.0.entries.weighted_size(),
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.begin_anew();
        self.0.entries.invalidate_all();
    }

    fn begin_anew(&self) {
        self.0.epoch.fetch_add(1, Ordering::AcqRel);
        if let Some(remote) = self.remote() {
            let telling = remote.renew();
            // Outside of a runtime the others are not told, and this process goes its own way.
            if tokio::runtime::Handle::try_current().is_ok() {
                self.spawn(telling);
            }
        }
    }

    pub(super) fn set_remote(&self, remote: Remote) {
        // The first one stays: a cache has one store.
        let _ = self.0.remote.set(remote);
    }

    pub(super) fn remote(&self) -> Option<&Remote> {
        self.0.remote.get()
    }

    /// Forgets all answers to a method.
    pub fn invalidate_method(&self, method: &Method) {
        let method = method.clone();
        self.forget(move |topic| topic.method == method);
    }

    /// Forgets all answers about a name: a tool, a prompt, a resource's address.
    pub fn invalidate_name(&self, name: &str) {
        let name: Arc<str> = name.into();
        self.forget(move |topic| topic.name.as_ref() == Some(&name));
    }

    /// Forgets all answers of an upstream.
    pub fn invalidate_upstream(&self, upstream: &UpstreamId) {
        let upstream = upstream.clone();
        self.forget(move |topic| topic.upstream.as_ref() == Some(&upstream));
    }

    /// Forgets what a notification says is out of date; `upstream` narrows it to that one's answers.
    ///
    /// Understood are list-changed of tools, prompts and resources, and resource-updated. Others do nothing.
    pub fn apply(&self, notification: &Notification, upstream: Option<&UpstreamId>) {
        let kind: &'static str = match notification.method().as_str() {
            "notifications/tools/list_changed" => "tools/",
            "notifications/prompts/list_changed" => "prompts/",
            "notifications/resources/list_changed" => "resources/",
            "notifications/resources/updated" => {
                let uri = notification
                    .params()
                    .and_then(|params| params.member("uri")?.to_text());
                if let Some(uri) = uri {
                    self.invalidate_name(&uri);
                }
                return;
            }
            _ => return,
        };
        let upstream = upstream.cloned();
        self.forget(move |topic| {
            topic.method.as_str().starts_with(kind)
                && (upstream.is_none() || topic.upstream.is_none() || topic.upstream == upstream)
        });
    }

    /// Forgets what a catalogue says has changed, until the stream ends. Spawn it, or poll it beside the server.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops following; nothing else is lost.
    pub async fn follow(&self, mut changes: ChangeStream) {
        while let Some(event) = changes.recv().await {
            let ChangeEvent::Changed(change) = event else {
                self.clear();
                continue;
            };
            for kind in [
                (EntryKind::Tool, "tools/"),
                (EntryKind::Prompt, "prompts/"),
                (EntryKind::Resource, "resources/"),
                (EntryKind::ResourceTemplate, "resources/"),
            ] {
                if change.touches(kind.0) {
                    self.forget(move |topic| topic.method.as_str().starts_with(kind.1));
                }
            }
        }
    }

    fn forget(&self, about: impl Fn(&Topic) -> bool + Send + Sync + 'static) {
        self.begin_anew();
        let forgotten = self
            .0
            .entries
            .invalidate_entries_if(move |_, entry| about(&entry.topic));
        if forgotten.is_err() {
            // Cannot be, since the closures are supported; but what is asked to be forgotten must not stay.
            self.0.entries.invalidate_all();
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, key: &FullKey) -> Option<Arc<Entry>> {
        self.0.entries.get(key)
    }

    pub(super) fn put(&self, key: FullKey, entry: Entry, epoch: u64) {
        if self.epoch() == epoch {
            self.0.entries.insert(key, Arc::new(entry));
        }
        if self.epoch() != epoch {
            // An invalidation came in between and may have missed it.
            self.0.entries.invalidate(&key);
        }
    }

    pub(super) fn count(&self, found: Found) {
        // Literals: a label made at run time would be allocated on each call.
        let (number, counter) = match found {
            Found::Hit => (
                &self.0.hits,
                metrics::counter!("mcp_cache_lookups_total", "result" => "hit"),
            ),
            Found::Stale => (
                &self.0.stale,
                metrics::counter!("mcp_cache_lookups_total", "result" => "stale"),
            ),
            Found::Miss => (
                &self.0.misses,
                metrics::counter!("mcp_cache_lookups_total", "result" => "miss"),
            ),
        };
        number.fetch_add(1, Ordering::Relaxed);
        counter.increment(1);
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.0.entries.entry_count())
            .finish_non_exhaustive()
    }
}
