use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcp_core::clock::SystemClock;
use mcp_core::store::RedisConnection;
use mcp_core::{ConfigError, Request};
use tokio::time::Instant;

use super::decide::{Decider, Decision};
use crate::keys::Key;
use crate::rate_limit::{Limit, Limiter, Refusal};

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(50);
/// How often one call asks a Redis that was unavailable if it is back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const HERE: u64 = 0;

/// What happens to calls while Redis does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenAway {
    /// Every call is allowed.
    Open,
    /// Every call is refused, with an invitation to come back in a second.
    Closed,
    /// Each process allows its share of the quota, by its own count.
    Local {
        /// How many processes share the quota.
        replicas: NonZeroU32,
    },
}

/// A limit that many processes count together on Redis; clones share the connection.
#[derive(Clone)]
pub struct SharedLimiter(Arc<Inner>);

struct Inner {
    limit: Limit,
    decider: Arc<Decider>,
    when_away: WhenAway,
    local: Option<Limiter<Request>>,
    /// Zero while Redis answers; else when to ask it again, in milliseconds after `start`.
    away: AtomicU64,
    start: Instant,
}

/// Where an allowed call was charged.
pub(super) enum Taken {
    /// Nowhere: the limit does not count it, or allows everything for now.
    Nothing,
    /// On Redis.
    Shared(Key, NonZeroU32),
    /// In this process, while Redis is unavailable.
    Alone,
}

impl SharedLimiter {
    /// Counts a limit on Redis under `prefix`, the limit's name and a hash of the key. All processes must use the
    /// same of these and the same quota. Waits 50 ms for an answer.
    ///
    /// # Errors
    ///
    /// Those of [`with_timeout`](Self::with_timeout).
    pub fn new(
        limit: Limit,
        connection: RedisConnection,
        prefix: &str,
        when_away: WhenAway,
    ) -> Result<Self, ConfigError> {
        Self::with_timeout(limit, connection, prefix, when_away, DEFAULT_TIMEOUT)
    }

    /// Counts a limit on Redis and waits as long as given for each answer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the prefix is longer than 64 bytes or is not printable ASCII, the timeout is
    /// zero, or the quota refills in less than a microsecond for each call.
    pub fn with_timeout(
        limit: Limit,
        connection: RedisConnection,
        prefix: &str,
        when_away: WhenAway,
        timeout: Duration,
    ) -> Result<Self, ConfigError> {
        if prefix.len() > 64 || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::new(
                "redis_prefix",
                prefix,
                "use at most 64 printable ASCII characters without spaces",
            ));
        }
        if timeout.is_zero() {
            return Err(ConfigError::new(
                "redis_timeout",
                format!("{timeout:?}"),
                "wait for some time above zero",
            ));
        }
        let key = format!("{prefix}{}:", limit.name);
        let decider = Decider::new(connection, key, limit.quota, timeout)?;
        let local = match when_away {
            WhenAway::Local { replicas } => {
                let mut share = limit.clone();
                share.quota = limit.quota.share(replicas);
                Some(Limiter::new([share], Arc::new(SystemClock::new())))
            }
            WhenAway::Open | WhenAway::Closed => None,
        };
        let (away, start) = (AtomicU64::new(HERE), Instant::now());
        Ok(Self(Arc::new(Inner {
            limit,
            decider,
            when_away,
            local,
            away,
            start,
        })))
    }

    /// Counts the call if the limit allows it.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], with the time to come back.
    ///
    /// # Cancel safety
    ///
    /// A dropped check may have been counted.
    pub async fn check(&self, request: &Request) -> Result<(), Box<Refusal>> {
        self.take(request).await.map(drop)
    }

    pub(super) async fn take(&self, request: &Request) -> Result<Taken, Box<Refusal>> {
        // The same in every process, which a random secret would not be.
        let Some((key, cost)) = self.0.limit.charge(request, [0, 0]) else {
            return Ok(Taken::Nothing);
        };
        if !self.asks() {
            return self.decide_alone(request);
        }
        match self.0.decider.ask(key.halves(), cost.get()).await {
            Ok(decision) => {
                self.came_back();
                match decision {
                    Decision::Allowed => Ok(Taken::Shared(key, cost)),
                    Decision::Refused(wait) if cost <= self.0.limit.quota.burst() => {
                        Err(self.refuse(Some(wait)))
                    }
                    Decision::Refused(_) => Err(self.refuse(None)),
                }
            }
            Err(error) => {
                self.went_away(&error);
                self.decide_alone(request)
            }
        }
    }

    /// Gives back what a call was charged that another limit refused. What cannot be given back stays counted.
    pub(super) async fn give_back(&self, taken: Taken, request: &Request) {
        match (taken, &self.0.local) {
            (Taken::Shared(key, cost), _) => {
                if let Err(error) = self.0.decider.refund(key.halves(), cost.get()).await {
                    tracing::debug!(limit = &*self.0.limit.name, %error, "a charge stays");
                }
            }
            (Taken::Alone, Some(local)) => local.give_back(request),
            (Taken::Alone, None) | (Taken::Nothing, _) => {}
        }
    }

    /// Tells if Redis did not answer the last time it was asked.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.0.away.load(Ordering::Acquire) != HERE
    }

    /// Whether this call asks Redis: always while it answers, else one call in a second.
    fn asks(&self) -> bool {
        let due = self.0.away.load(Ordering::Acquire);
        if due == HERE {
            return true;
        }
        let now = self.now();
        now >= due
            && self
                .0
                .away
                .compare_exchange(
                    due,
                    now + millis(LOOK_AGAIN),
                    Ordering::AcqRel,
                    Ordering::Acquire,
                )
                .is_ok()
    }

    fn decide_alone(&self, request: &Request) -> Result<Taken, Box<Refusal>> {
        match (self.0.when_away, &self.0.local) {
            (WhenAway::Open, _) => Ok(Taken::Nothing),
            (_, Some(local)) => local.check(request).map(|_| Taken::Alone),
            (_, None) => Err(self.refuse(Some(LOOK_AGAIN))),
        }
    }

    fn refuse(&self, wait: Option<Duration>) -> Box<Refusal> {
        Box::new(Refusal::new(
            Arc::clone(&self.0.limit.name),
            self.0.limit.quota,
            wait,
        ))
    }

    fn went_away(&self, error: &super::decide::Away) {
        let before = self
            .0
            .away
            .swap(self.now() + millis(LOOK_AGAIN), Ordering::AcqRel);
        if before == HERE {
            tracing::warn!(limit = &*self.0.limit.name, %error, when_away = ?self.0.when_away, "redis is away");
            self.show(1.0);
        }
    }

    fn came_back(&self) {
        if self.0.away.load(Ordering::Acquire) != HERE
            && self.0.away.swap(HERE, Ordering::AcqRel) != HERE
        {
            tracing::info!(limit = &*self.0.limit.name, "redis is back");
            self.show(0.0);
        }
    }

    fn show(&self, away: f64) {
        let name = metrics::SharedString::from(Arc::clone(&self.0.limit.name));
        metrics::gauge!("mcp_limit_shared_away", "limit" => name).set(away);
    }

    fn now(&self) -> u64 {
        millis(self.0.start.elapsed()) + 1
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

impl fmt::Debug for SharedLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimiter")
            .field("limit", &self.0.limit)
            .field("when_away", &self.0.when_away)
            .field("is_away", &self.is_away())
            .finish()
    }
}
