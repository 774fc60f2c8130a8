//! One timer for all that waits in a transport.
//!
//! A timer for each request costs a system call where the runtime is otherwise idle, since the runtime has to be
//! woken to wait less long. All waiting calls share this one instead.

use std::sync::{Arc, OnceLock, Weak};

use tokio::{
    sync::watch,
    time::{Duration, MissedTickBehavior, interval},
};

/// Beats twice in each keep-alive time.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Heart>);

struct Heart {
    every: Duration,
    beats: watch::Sender<()>,
    beating: OnceLock<()>,
}

impl Pulse {
    pub(super) fn new(keep_alive: Duration) -> Self {
        Self(Arc::new(Heart {
            every: keep_alive / 2,
            beats: watch::Sender::new(()),
            beating: OnceLock::new(),
        }))
    }

    /// Awaits something; `None` when it took between one half and the whole of the keep-alive time.
    ///
    /// # Cancel safety
    ///
    /// As the future that is awaited: pass `&mut` to go on with it.
    pub(super) async fn within<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.0
            .beating
            .get_or_init(|| drop(tokio::spawn(beat(Arc::downgrade(&self.0)))));
        let mut beats = self.0.beats.subscribe();
        let two_beats = async {
            for _ in 0..2 {
                if beats.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            done = future => Some(done),
            () = two_beats => None,
        }
    }
}

/// Beats for as long as the transport exists.
async fn beat(heart: Weak<Heart>) {
    let Some(every) = heart.upgrade().map(|heart| heart.every) else {
        return;
    };
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        match heart.upgrade() {
            Some(heart) => heart.beats.send_replace(()),
            None => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_than_the_keep_alive_time_is_given_up_within_it() {
        let pulse = Pulse::new(Duration::from_secs(10));
        let started = Instant::now();
        assert_eq!(pulse.within(sleep(Duration::from_secs(60))).await, None);
        assert!(started.elapsed() >= Duration::from_secs(5));
        assert!(started.elapsed() <= Duration::from_secs(10));
        assert_eq!(pulse.within(async { 7 }).await, Some(7));
        assert_eq!(pulse.within(sleep(Duration::from_secs(4))).await, Some(()));
    }
}
