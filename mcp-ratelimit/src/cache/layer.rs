use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mcp_core::clock::{Clock, SystemClock};
use mcp_core::store::{Namespace, StateStore};
use mcp_core::{Partition, Request, Shared};
use tower_layer::Layer;

use super::entry::has_hints;
use super::remote::Remote;
use super::shelf::FullKey;
use super::{Cache, CacheService};
use crate::keys::{identity, public_key, random_secret};

type TtlFn = Arc<dyn Fn(&Request) -> Option<Duration> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) longest: Duration,
    pub(super) max_entry: usize,
    pub(super) ttl: Option<TtlFn>,
    pub(super) public: Option<Partition>,
    pub(super) while_revalidate: Duration,
    pub(super) on_error: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) secret: [u64; 2],
}

/// Applies a [`CacheService`].
#[must_use]
#[derive(Clone)]
pub struct CacheLayer {
    pub(super) cache: Cache,
    pub(super) settings: Arc<Settings>,
}

impl CacheLayer {
    /// Keeps up to `max_bytes` of answers, each up to 1 MiB and for up to a day.
    pub fn new(max_bytes: u64) -> Self {
        let settings = Settings {
            longest: Duration::from_secs(86_400),
            max_entry: 1024 * 1024,
            ttl: None,
            public: None,
            while_revalidate: Duration::ZERO,
            on_error: Duration::ZERO,
            clock: Arc::new(SystemClock::new()),
            secret: random_secret(),
        };
        let keep = Duration::from_secs(2 * 86_400);
        Self {
            cache: Cache::new(max_bytes, keep),
            settings: Arc::new(settings),
        }
    }

    /// Sets how long to keep answers that do not say so themselves: of tools, of prompts, of servers before
    /// revision 2026-07-28. `None` leaves a call alone, which is the default for all of those.
    ///
    /// # Security
    ///
    /// A tool whose answer is kept is not called. Name only tools that do nothing but read.
    pub fn with_ttl(
        mut self,
        ttl: impl Fn(&Request) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.edit().ttl = Some(Arc::new(ttl));
        self
    }

    /// Keeps the answers of one tool; like [`with_ttl`](Self::with_ttl), and besides it.
    pub fn with_tool(self, tool: &str, ttl: Duration) -> Self {
        let (tool, before) = (tool.to_owned(), self.settings.ttl.clone());
        self.with_ttl(move |request| {
            let mine = request.tool() == Some(&*tool);
            mine.then_some(ttl)
                .or_else(|| before.as_ref().and_then(|before| before(request)))
        })
    }

    /// Keeps no answer longer, whatever it says. Default is a day; zero keeps nothing.
    pub fn with_longest_ttl(mut self, longest: Duration) -> Self {
        self.edit().longest = longest.min(Duration::from_secs(86_400));
        self
    }

    /// Keeps no answer larger, in bytes. Default is 1 MiB.
    pub fn with_max_entry(mut self, bytes: usize) -> Self {
        self.edit().max_entry = bytes;
        self
    }

    /// Serves answers whose `cacheScope` is `public` to all callers of the same protocol revision. By default each principal
    /// has its own, for each revision, set of scopes and set of client capabilities.
    ///
    /// # Security
    ///
    /// Believes the upstream that such an answer does not depend on who asks.
    pub fn with_public(mut self, shared: Shared) -> Self {
        self.edit().public = Some(Partition::shared(shared));
        self
    }

    /// Serves an answer that has been stale for less than this, and fetches a new one in the background. Default
    /// is zero: never.
    pub fn with_stale_while_revalidate(mut self, time: Duration) -> Self {
        self.edit().while_revalidate = time.min(Duration::from_secs(86_400));
        self
    }

    /// Serves an answer that has been stale for less than this if a new one cannot be had because of an error that
    /// may pass. Default is zero: never.
    pub fn with_stale_on_error(mut self, time: Duration) -> Self {
        self.edit().on_error = time.min(Duration::from_secs(86_400));
        self
    }

    /// Keeps answers on a state store too, where other processes find them. Default is memory alone.
    pub fn with_store(self, store: Arc<dyn StateStore>, namespace: Namespace) -> Self {
        self.cache.set_remote(Remote::new(store, namespace));
        self
    }

    /// Counts time by another clock. Default is the system's.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.edit().clock = clock;
        self
    }

    /// The answers, for numbers and invalidation.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    fn edit(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> CacheService<S> {
        CacheService::new(inner, self.clone())
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Where a call's answer is kept and for how long.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) own: FullKey,
    pub(super) public: Option<FullKey>,
    /// Where the operator said so; else the answer decides.
    pub(super) ttl: Option<Duration>,
    pub(super) is_tool: bool,
    pub(super) epoch: u64,
}

impl CacheLayer {
    /// Finds out if a call may be answered from the cache.
    pub(super) fn plan(&self, request: &Request) -> Option<Plan> {
        let hinted = has_hints(request.method());
        if request.is_notification() || (!hinted && self.settings.ttl.is_none()) {
            return None;
        }
        let ttl = self.settings.ttl.as_ref().and_then(|ttl| ttl(request));
        let round = |params: &mcp_core::Object| {
            params.contains("inputResponses") || params.contains("requestState")
        };
        let later_round = request.params().is_some_and(round);
        if (!hinted && ttl.is_none()) || !request.visibility().is_all() || later_round {
            return None;
        }
        let secret = self.settings.secret;
        let owner = request.principal().partition();
        let shared = self.settings.public.filter(|_| hinted);
        let public =
            shared.map(|shared| FullKey::new(shared, public_key(secret, &shared, request)));
        Some(Plan {
            own: FullKey::new(owner, identity(secret, &owner, request)),
            public,
            ttl,
            is_tool: request.tool().is_some(),
            epoch: self.cache.epoch(),
        })
    }
}
