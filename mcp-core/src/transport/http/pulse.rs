//! A shared keep-alive timer.
//!
//! A timer for each request costs a system call where the runtime is otherwise idle, since the runtime has to be
//! woken to wait less long. All waiting calls share this one instead.

use std::sync::{Arc, OnceLock};

use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::transport::lifecycle::{Lifecycle, Phase};

/// Beats twice in each keep-alive time.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Timer>);

struct Timer {
    every: Duration,
    lifecycle: Lifecycle,
    beating: OnceLock<()>,
}

/// Why nothing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// It took between one half and the whole of the keep-alive time.
    Quiet,
    /// The transport has come to the phase that was waited for.
    Ended,
}

impl Pulse {
    pub(super) fn new(keep_alive: Duration, lifecycle: Lifecycle) -> Self {
        Self(Arc::new(Timer {
            every: keep_alive / 2,
            lifecycle,
            beating: OnceLock::new(),
        }))
    }

    /// Awaits a future until the transport comes to a phase, if one is given.
    ///
    /// # Cancel safety
    ///
    /// As the future that is awaited: pass `&mut` to continue with it.
    pub(super) async fn within<T>(
        &self,
        until: Option<Phase>,
        future: impl Future<Output = T>,
    ) -> Result<T, Lapse> {
        self.0.beating.get_or_init(|| self.start());
        let mut beats = self.0.lifecycle.changes();
        let ended = |phase: Phase| until.is_some_and(|until| phase >= until);
        let lapse = async {
            for _ in 0..2 {
                if ended(*beats.borrow_and_update()) || beats.changed().await.is_err() {
                    return Lapse::Ended;
                }
            }
            match ended(*beats.borrow()) {
                true => Lapse::Ended,
                false => Lapse::Quiet,
            }
        };
        tokio::select! {
            biased;
            done = future => Ok(done),
            lapse = lapse => Err(lapse),
        }
    }

    /// Starts the timer, which runs until the transport is closed.
    fn start(&self) {
        let timer = Arc::downgrade(&self.0);
        let every = self.0.every;
        self.0.lifecycle.spawn(async move {
            let mut tick = interval(every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick.tick().await;
            loop {
                tick.tick().await;
                match timer.upgrade() {
                    Some(timer) => timer.lifecycle.beat(),
                    None => return,
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_than_the_keep_alive_time_lapses_within_it() {
        let pulse = Pulse::new(Duration::from_secs(10), Lifecycle::default());
        let started = Instant::now();
        let long = sleep(Duration::from_secs(60));
        assert_eq!(
            pulse.within(Some(Phase::Closed), long).await,
            Err(Lapse::Quiet)
        );
        assert!(started.elapsed() >= Duration::from_secs(5));
        assert!(started.elapsed() <= Duration::from_secs(10));
        assert_eq!(pulse.within(Some(Phase::Closed), async { 7 }).await, Ok(7));
        let short = sleep(Duration::from_secs(4));
        assert_eq!(pulse.within(Some(Phase::Closed), short).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_is_waited_for_ends_the_wait() {
        let lifecycle = Lifecycle::default();
        let pulse = Pulse::new(Duration::from_secs(10), lifecycle.clone());
        let started = Instant::now();
        let (ended, ()) = tokio::join!(
            pulse.within(Some(Phase::Closed), std::future::pending::<()>()),
            async { lifecycle.close() }
        );
        assert_eq!(ended, Err(Lapse::Ended));
        let late = pulse.within(Some(Phase::Closed), std::future::pending::<()>());
        assert_eq!(late.await, Err(Lapse::Ended));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
