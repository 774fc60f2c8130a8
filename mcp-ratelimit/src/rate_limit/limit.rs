use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use mcp_core::Request;

use super::Quota;
use crate::keys::KeyBuilder;

const DEFAULT_MAX_KEYS: usize = 1_000_000;

/// Tells if a limit counts a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applies {
    /// The call counts.
    Yes,
    /// The limit has nothing to say about this call.
    No,
}

/// A fact of a call that a limit can be kept for each of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyPart {
    /// Who calls.
    Principal,
    /// The tool that is called. Calls of anything else are not counted.
    Tool,
    /// What the call is for: method, and the name or address of what it is about.
    Endpoint,
    /// The upstream that will answer. Calls that are not routed yet are not counted.
    Upstream,
}

type KeyFn<R> = Arc<dyn Fn(&R, &mut KeyBuilder) -> Applies + Send + Sync>;
type CostFn<R> = Arc<dyn Fn(&R) -> u32 + Send + Sync>;

/// One rule: what is counted together, how much of it is allowed, what a call costs.
///
/// `R` is the request: [`Request`] for calls of the seam, [`http::request::Parts`] for plain HTTP.
pub struct Limit<R = Request> {
    pub(super) name: Arc<str>,
    pub(super) quota: Quota,
    pub(super) key: KeyFn<R>,
    pub(super) cost: Option<CostFn<R>>,
    pub(super) max_keys: usize,
}

impl<R> Limit<R> {
    /// Allows `quota` to all calls together. The name appears in refusals, headers and metrics.
    #[must_use]
    pub fn new(name: &str, quota: Quota) -> Self {
        Self {
            name: name.into(),
            quota,
            key: Arc::new(|_, _| Applies::Yes),
            cost: None,
            max_keys: DEFAULT_MAX_KEYS,
        }
    }

    /// Counts calls apart by whatever the closure adds to the key.
    #[must_use]
    pub fn per_fn(
        mut self,
        key: impl Fn(&R, &mut KeyBuilder) -> Applies + Send + Sync + 'static,
    ) -> Self {
        self.key = Arc::new(key);
        self
    }

    /// Sets what a call costs. Default is 1. A call that costs zero is not counted; one that costs more than the
    /// burst can never be allowed and is refused permanently.
    #[must_use]
    pub fn with_cost(mut self, cost: impl Fn(&R) -> u32 + Send + Sync + 'static) -> Self {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// Bounds how many keys are held, at about 50 bytes each. Default is 1,000,000.
    ///
    /// A key is held until its burst has refilled. Keys that find no room share one quota between them.
    #[must_use]
    pub const fn with_max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// Tells who pays how much: `None` if this limit does not count the call.
    pub(super) fn charge(
        &self,
        request: &R,
        secret: [u64; 2],
    ) -> Option<(crate::keys::Key, NonZeroU32)> {
        let cost = match &self.cost {
            Some(cost) => NonZeroU32::new(cost(request))?,
            None => NonZeroU32::MIN,
        };
        let mut key = KeyBuilder::new(secret);
        match (self.key)(request, &mut key) {
            Applies::Yes => Some((key.finish(), cost)),
            Applies::No => None,
        }
    }
}

impl Limit<Request> {
    /// Counts calls apart by these facts.
    #[must_use]
    pub fn per(self, parts: impl IntoIterator<Item = KeyPart>) -> Self {
        let parts: Box<[KeyPart]> = parts.into_iter().collect();
        self.per_fn(move |request, key| {
            for part in &parts {
                match part {
                    KeyPart::Principal => key.partition(&request.principal().partition()),
                    KeyPart::Tool => match request.tool() {
                        Some(tool) => key.text(tool),
                        None => return Applies::No,
                    },
                    KeyPart::Endpoint => key
                        .text(request.method().as_str())
                        .text(request.name().unwrap_or_default()),
                    KeyPart::Upstream => match request.upstream() {
                        Some(upstream) => key.text(upstream.as_str()),
                        None => return Applies::No,
                    },
                };
            }
            Applies::Yes
        })
    }
}

impl<R> Clone for Limit<R> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            quota: self.quota,
            key: Arc::clone(&self.key),
            cost: self.cost.clone(),
            max_keys: self.max_keys,
        }
    }
}

impl<R> fmt::Debug for Limit<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.name)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}
