//! Breakers that tell each other, over a state store, that they have opened.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mcp_core::clock::{SystemWallClock, WallClock};
use mcp_core::store::{Namespace, StateStore, StoreKey, StorePrefix};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::{Breaker, BreakerState};

/// How many entries one look takes in.
const PAGE: usize = 100;

/// How breakers share that they have opened.
#[derive(Clone, Debug)]
pub struct Sharing {
    open: Duration,
    interval: Duration,
    wall: Arc<dyn WallClock>,
}

impl Sharing {
    /// Has others stay open for at most this long, best the first reset timeout. They look once a second.
    #[must_use]
    pub fn new(open: Duration) -> Self {
        Self {
            open,
            interval: Duration::from_secs(1),
            wall: Arc::new(SystemWallClock::new()),
        }
    }

    /// Sets how often the store is looked at. Default is 1 s; less than 1 ms counts as that.
    #[must_use]
    pub const fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Writes and reads dates by another clock. Default is the system's.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: Arc<dyn WallClock>) -> Self {
        self.wall = wall;
        self
    }
}

/// Connects a breaker with those of the same name in other processes.
///
/// When one opens by itself, it writes so; the others look at an interval and open too, for what is left of the
/// time. They probe and close each for itself: nothing is written about that, and a forced state stays where it is.
/// While the store is unavailable each breaker goes by what it sees itself.
///
/// A breaker learns of another one after the interval at most, plus what the clocks of the machines differ by.
#[derive(Debug)]
pub struct SharedBreaker {
    task: Option<JoinHandle<()>>,
}

impl SharedBreaker {
    /// Spawns the task that connects; must be called within a tokio runtime.
    ///
    /// The store is scanned below the namespace and the breaker's name at each interval.
    #[must_use]
    pub fn start(
        breaker: Breaker,
        store: Arc<dyn StateStore>,
        namespace: Namespace,
        sharing: Sharing,
    ) -> Self {
        let interval = sharing.interval;
        let link = Link {
            breaker,
            store,
            namespace,
            open: sharing.open,
            clock: sharing.wall,
            me: format!("{:016x}", rand::random::<u64>()),
        };
        Self {
            task: Some(tokio::spawn(link.run(interval))),
        }
    }

    /// Ends the connection.
    pub async fn shutdown(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Cancelled is what it was told to be.
            let _ = task.await;
        }
    }
}

impl Drop for SharedBreaker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Link {
    breaker: Breaker,
    store: Arc<dyn StateStore>,
    namespace: Namespace,
    open: Duration,
    clock: Arc<dyn WallClock>,
    /// Tells what this process wrote from what others did.
    me: String,
}

impl Link {
    async fn run(self, interval: Duration) {
        let mut changes = self.breaker.subscribe();
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) if change.to == BreakerState::Open && !change.forced => {
                        self.write().await;
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => {
                    if self.follow().await {
                        // Opened because another one did: that is not news, and needs no answer.
                        let _ = changes.try_recv();
                    }
                }
            }
        }
    }

    /// Opens the breaker if another one is open; returns whether it did.
    async fn follow(&self) -> bool {
        if self.breaker.state() != BreakerState::Closed {
            return false;
        }
        let left = self.look().await;
        if let Some(left) = left {
            self.breaker.open_for(left);
        }
        left.is_some()
    }

    async fn write(&self) {
        let Ok(key) = StoreKey::new(&self.namespace, [self.breaker.name(), self.me.as_str()])
        else {
            return;
        };
        let until = millis(self.clock.now() + self.open);
        let value = Bytes::copy_from_slice(&until.to_le_bytes());
        if let Err(error) = self.store.put(&key, value, Some(self.open)).await {
            tracing::warn!(breaker = self.breaker.name(), %error, "others could not be told that a breaker opened");
        }
    }

    /// For how long the others' breakers are open still, the longest of them.
    async fn look(&self) -> Option<Duration> {
        let prefix = StorePrefix::new(&self.namespace, [self.breaker.name()]).ok()?;
        let now = millis(self.clock.now());
        let (mut cursor, mut longest) = (None, 0);
        loop {
            let page = self.store.scan(&prefix, cursor, PAGE).await.ok()?;
            for (key, entry) in page.entries {
                let theirs = key.parts().last().is_some_and(|who| *who != self.me);
                let until = entry
                    .value
                    .as_ref()
                    .try_into()
                    .map_or(0, u64::from_le_bytes);
                if theirs {
                    longest = longest.max(until.saturating_sub(now));
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let left = Duration::from_millis(longest).min(self.open);
        (!left.is_zero()).then_some(left)
    }
}

fn millis(date: SystemTime) -> u64 {
    let since = date
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use mcp_core::store::MemoryStore;
    use tokio::time::sleep;

    use super::*;
    use crate::breaker::{BreakerConfig, Outcome};

    #[tokio::test]
    async fn one_opens_and_the_others_follow() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let ms = Duration::from_millis;
        let config = BreakerConfig::new()
            .with_reset_timeout(ms(200), ms(200))
            .unwrap()
            .with_jitter(0.0)
            .unwrap();
        let breakers = [(); 3].map(|()| Breaker::new("crm", config.clone()));
        let other = Breaker::new("other", config.clone());
        let links: Vec<_> = breakers
            .iter()
            .chain([&other])
            .map(|breaker| {
                let namespace = Namespace::new("breakers").unwrap();
                let sharing = Sharing::new(ms(200)).with_interval(ms(10));
                SharedBreaker::start(breaker.clone(), store.clone(), namespace, sharing)
            })
            .collect();
        sleep(ms(30)).await;
        for _ in 0..5 {
            breakers[0].admit().unwrap().report(Outcome::Failure);
        }
        sleep(ms(60)).await;
        assert!(
            breakers
                .iter()
                .all(|breaker| breaker.state() == BreakerState::Open)
        );
        assert_eq!(other.state(), BreakerState::Closed);
        sleep(ms(250)).await;
        for breaker in &breakers {
            breaker.admit().unwrap().report(Outcome::Success);
        }
        sleep(ms(60)).await;
        assert!(
            breakers
                .iter()
                .all(|breaker| breaker.state() == BreakerState::Closed),
            "no echo"
        );
        for link in links {
            link.shutdown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn others_stay_open_for_what_is_left_by_their_own_clock_and_never_longer() {
        use mcp_core::clock::FakeClock;
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let seconds = Duration::from_secs;
        // Its clock is an hour ahead, and so is what it writes.
        for (behind, follows) in [(0, true), (3600, true), (-3600, false)] {
            let config = || {
                let own = BreakerConfig::new().with_reset_timeout(seconds(60), seconds(60));
                own.unwrap().with_jitter(0.0).unwrap()
            };
            let name = format!("crm{behind}");
            let [one, other] = [(); 2].map(|()| Breaker::new(&name, config()));
            let now = SystemTime::UNIX_EPOCH + seconds(1_800_000_000);
            let link = |breaker: &Breaker, date: SystemTime| {
                let clock = FakeClock::new();
                clock.set_date(date);
                let sharing = Sharing::new(seconds(60)).with_wall_clock(Arc::new(clock));
                let namespace = Namespace::new("breakers").unwrap();
                SharedBreaker::start(breaker.clone(), store.clone(), namespace, sharing)
            };
            let theirs = match u64::try_from(behind) {
                Ok(ahead) => now + seconds(ahead),
                Err(_) => now - seconds(3600),
            };
            let links = [link(&one, theirs), link(&other, now)];
            sleep(seconds(2)).await;
            for _ in 0..5 {
                one.admit().unwrap().report(Outcome::Failure);
            }
            sleep(seconds(3)).await;
            let open = other.state() == BreakerState::Open;
            assert_eq!(open, follows, "{behind}");
            // However wrong the other clock is, no longer than was said.
            sleep(seconds(61)).await;
            assert!(other.admit().is_ok(), "{behind}");
            for link in links {
                link.shutdown().await;
            }
        }
    }
}
