//! The decision on Redis: the same algorithm, with the server's clock.

use std::sync::Arc;
use std::time::Duration;

use mcp_core::ConfigError;
use mcp_core::store::RedisConnection;
use redis::{RedisError, Script};

use crate::rate_limit::Quota;

/// KEYS\[1\] arrival time of the next call; ARGV: interval in microseconds, burst, cost.
/// Answers whether the call is allowed, what is left, and after how many microseconds to come back.
///
/// One key, so it runs on any node of a cluster; the server's time, so the callers' clocks do not matter; and the
/// key ends by itself when its burst has refilled. A clock of the server that jumps back cannot lock anybody out
/// for longer than a burst takes to refill.
const GCRA: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local room = interval * burst
local arrival = tonumber(redis.call('GET', KEYS[1]) or now) or now
if arrival < now then arrival = now end
if arrival > now + room then arrival = now + room end
local after = arrival + interval * cost
local wait = after - room - now
if wait > 0 then return {0, 0, wait} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, math.floor((room - (after - now)) / interval), 0}";

/// KEYS\[1\] as above; ARGV: interval in microseconds, cost. Takes back what one call was charged: exactly, since every
/// call adds to the arrival time. A key that has ended owes nothing.
const REFUND: &str = r"
local arrival = tonumber(redis.call('GET', KEYS[1]))
if arrival then
  local before = arrival - tonumber(ARGV[1]) * tonumber(ARGV[2])
  redis.call('SET', KEYS[1], string.format('%.0f', before), 'KEEPTTL')
end";

/// One quota, as Redis is asked about it.
pub(super) struct Decider {
    connection: RedisConnection,
    script: Script,
    refund: Script,
    prefix: String,
    interval: u64,
    burst: u32,
    timeout: Duration,
}

/// What Redis decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Allowed,
    Refused(Duration),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Away {
    #[error("no answer in time")]
    Timeout,
    #[error("no usable answer")]
    Redis(#[from] RedisError),
}

impl Decider {
    pub(super) fn new(
        connection: RedisConnection,
        prefix: String,
        quota: Quota,
        timeout: Duration,
    ) -> Result<Arc<Self>, ConfigError> {
        // Rounded up, so that rounding never allows more.
        let interval = quota.interval().as_nanos().div_ceil(1000);
        let wrong = || {
            ConfigError::new(
                "shared_quota",
                format!("{quota:?}"),
                "a quota counted on Redis refills within 366 days",
            )
        };
        let interval = u64::try_from(interval).map_err(|_| wrong())?;
        let burst = quota.burst().get();
        Ok(Arc::new(Self {
            connection,
            script: Script::new(GCRA),
            refund: Script::new(REFUND),
            prefix,
            interval,
            burst,
            timeout,
        }))
    }

    pub(super) async fn ask(&self, key: [u64; 2], cost: u32) -> Result<Decision, Away> {
        let mut call = self.script.key(self.name(key));
        call.arg(self.interval).arg(self.burst).arg(cost);
        // A call whose answer was lost may be charged twice, which allows no more than the quota.
        let asked = self
            .connection
            .ask_repeatably(async |mut to| call.invoke_async::<(bool, i64, u64)>(&mut to).await);
        let answer = tokio::time::timeout(self.timeout, asked)
            .await
            .map_err(|_| Away::Timeout)?;
        let (allowed, _left, wait) = answer?;
        Ok(if allowed {
            Decision::Allowed
        } else {
            Decision::Refused(Duration::from_micros(wait.max(1)))
        })
    }

    /// Takes back what an allowed call was charged.
    pub(super) async fn refund(&self, key: [u64; 2], cost: u32) -> Result<(), Away> {
        let mut call = self.refund.key(self.name(key));
        call.arg(self.interval).arg(cost);
        let asked = self
            .connection
            .ask_once(async |mut to| call.invoke_async::<()>(&mut to).await);
        let answer = tokio::time::timeout(self.timeout, asked).await;
        Ok(answer.map_err(|_| Away::Timeout)??)
    }

    fn name(&self, key: [u64; 2]) -> String {
        format!("{}{:016x}{:016x}", self.prefix, key[0], key[1])
    }
}
