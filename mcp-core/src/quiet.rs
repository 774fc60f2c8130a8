//! Keeps the wake-ups that a task gives itself away from the runtime.
//!
//! hyper's two halves of a connection, and the service between them, tell each other through wakers that there is work. Polled
//! in one task they wake the task that is running, which a runtime answers by queueing it and by waking another thread to take
//! it: for a small call that costs more than all the rest. Here they are polled again at once instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How often in one poll something is polled again because it woke itself.
const TURNS: usize = 16;

/// Polls so that the task is woken only while it waits.
pub(crate) struct Quiet {
    wakes: Arc<Wakes>,
    /// That of `wakes`.
    waker: Waker,
}

#[derive(Default)]
struct Wakes {
    woken: AtomicBool,
    /// Whether the task waits.
    awaited: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if self.awaited.load(SeqCst) {
            self.task.wake();
        }
    }
}

impl Quiet {
    pub(crate) fn new() -> Self {
        let wakes = Arc::<Wakes>::default();
        Self {
            waker: Arc::clone(&wakes).into(),
            wakes,
        }
    }

    /// Polls `turn`, again if it was woken meanwhile.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut turn: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let wakes = &self.wakes;
        wakes.awaited.store(false, SeqCst);
        for _ in 0..TURNS {
            wakes.woken.store(false, SeqCst);
            let polled = turn(&mut Context::from_waker(&self.waker));
            if polled.is_ready() {
                return polled;
            }
            if wakes.woken.load(SeqCst) {
                continue;
            }
            wakes.task.register(cx.waker());
            wakes.awaited.store(true, SeqCst);
            // A wake-up from now on reaches the task; one before has left its mark.
            if !wakes.woken.load(SeqCst) {
                return Poll::Pending;
            }
            wakes.awaited.store(false, SeqCst);
        }
        // Others have their turn, also where the runtime asks for it: it wakes at once whom it makes wait.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Forgets the wake-ups so far: what they are about is polled next.
    #[cfg(feature = "http-client")]
    pub(crate) fn heard(&self) {
        self.wakes.woken.store(false, SeqCst);
    }

    /// Polls once, without waking the task later.
    #[cfg(feature = "http-client")]
    pub(crate) fn poll_unawaited<T>(
        &self,
        turn: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.wakes.awaited.store(false, SeqCst);
        turn(&mut Context::from_waker(&self.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio_test::{assert_pending, assert_ready_eq, task};

    use super::*;

    #[test]
    fn what_wakes_itself_is_polled_again_at_once_and_its_task_is_not_woken() {
        let quiet = Quiet::new();
        let mut left = 3;
        let mut waiting = task::spawn(poll_fn(|cx| {
            quiet.poll(cx, |inner| match left {
                0 => Poll::Ready("done"),
                _ => {
                    left -= 1;
                    inner.waker().wake_by_ref();
                    Poll::Pending
                }
            })
        }));
        assert_ready_eq!(waiting.poll(), "done");
        assert!(!waiting.is_woken());
    }

    #[test]
    fn what_never_stops_waking_itself_lets_others_have_their_turn() {
        let quiet = Quiet::new();
        let mut polls = 0;
        let mut waiting = task::spawn(poll_fn(|cx| {
            quiet.poll(cx, |inner| {
                polls += 1;
                inner.waker().wake_by_ref();
                Poll::<()>::Pending
            })
        }));
        assert_pending!(waiting.poll());
        assert!(waiting.is_woken());
        drop(waiting);
        assert_eq!(polls, TURNS);
    }

    #[test]
    fn a_wake_up_from_outside_reaches_whoever_waits_now() {
        let quiet = Quiet::new();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut first = task::spawn(poll_fn(|cx| {
            quiet.poll(cx, |inner| receiver.poll_recv(inner))
        }));
        assert_pending!(first.poll());
        sender.send(1).unwrap();
        assert!(first.is_woken());
        assert_ready_eq!(first.poll(), Some(1));
        drop(first);
        let mut second = task::spawn(poll_fn(|cx| {
            quiet.poll(cx, |inner| receiver.poll_recv(inner))
        }));
        assert_pending!(second.poll());
        sender.send(2).unwrap();
        assert!(second.is_woken());
        assert_ready_eq!(second.poll(), Some(2));
        // Woken while nobody waits: seen at the next poll.
        sender.send(3).unwrap();
        assert_ready_eq!(second.poll(), Some(3));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_wake_up_of_another_thread_is_lost() {
        const MESSAGES: u64 = 20_000;
        let (there, mut here) = mpsc::channel(1);
        let (back, mut answers) = mpsc::channel(1);
        let sending = tokio::spawn(async move {
            for n in 0..MESSAGES {
                there.send(n).await.unwrap();
                assert_eq!(answers.recv().await, Some(n));
            }
        });
        let receiving = tokio::spawn(async move {
            let quiet = Quiet::new();
            let mut echo = pin!(async {
                while let Some(n) = here.recv().await {
                    back.send(n).await.unwrap();
                }
            });
            poll_fn(|cx| quiet.poll(cx, |inner| echo.as_mut().poll(inner))).await;
        });
        let both = async { tokio::try_join!(sending, receiving).unwrap() };
        tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .unwrap();
    }
}
