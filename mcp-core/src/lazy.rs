//! A bounded channel that is made when something is sent: most calls send nothing before their answer, and a channel
//! is a large part of what an idle call costs.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::sync::mpsc;

/// Creates a channel that holds up to `capacity` items.
pub(crate) fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        capacity,
        slot: Mutex::new(Slot::Empty),
        waker: AtomicWaker::new(),
    });
    let sender = Sender {
        shared: Arc::clone(&shared),
        channel: OnceLock::new(),
    };
    let receiver = Receiver {
        shared,
        channel: None,
    };
    (sender, receiver)
}

struct Shared<T> {
    capacity: usize,
    slot: Mutex<Slot<T>>,
    /// Woken when the slot changes.
    waker: AtomicWaker,
}

/// How the receiver learns of the channel.
enum Slot<T> {
    Empty,
    /// The channel was made.
    Made(mpsc::Receiver<T>),
    /// The receiver has the channel, or wants none any more.
    Taken,
    /// The sender is gone, and has sent nothing.
    Ended,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The only sender. Dropping it ends the channel.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
    channel: OnceLock<mpsc::Sender<T>>,
}

impl<T> Sender<T> {
    /// Returns the channel, making it if need be.
    pub(crate) fn get(&self) -> &mpsc::Sender<T> {
        self.channel.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(self.shared.capacity);
            let mut slot = self.shared.lock();
            // Where it is no longer wanted the receiver is dropped, which closes the channel.
            if matches!(*slot, Slot::Empty) {
                *slot = Slot::Made(receiver);
            }
            drop(slot);
            self.shared.waker.wake();
            sender
        })
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.channel.get().is_none() {
            *self.shared.lock() = Slot::Ended;
            self.shared.waker.wake();
        }
    }
}

/// The only receiver. Dropping it closes the channel.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    channel: Option<mpsc::Receiver<T>>,
}

impl<T> Receiver<T> {
    /// Takes the channel over, if it was made. Returns whether there may be more one day.
    fn take(&mut self) -> bool {
        if self.channel.is_some() {
            return true;
        }
        let mut slot = self.shared.lock();
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Made(channel) => self.channel = Some(channel),
            Slot::Empty => *slot = Slot::Empty,
            Slot::Taken => return false,
            Slot::Ended => {
                *slot = Slot::Ended;
                return false;
            }
        }
        true
    }

    /// Receives the next item; `None` when the sender is gone.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.channel.is_none() {
            self.shared.waker.register(cx.waker());
        }
        if !self.take() {
            return Poll::Ready(None);
        }
        match &mut self.channel {
            Some(channel) => channel.poll_recv(cx),
            None => Poll::Pending,
        }
    }

    /// Receives the next item; `None` when the sender is gone.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives the next item if there is one already.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        self.take();
        self.channel.as_mut()?.try_recv().ok()
    }

    /// Refuses what is sent from now on.
    #[allow(dead_code, reason = "the transports use it, and they are features")]
    pub(crate) fn close(&mut self) {
        self.take();
        match &mut self.channel {
            Some(channel) => channel.close(),
            None => *self.shared.lock() = Slot::Taken,
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Drops the channel if it was made and never taken.
        *self.shared.lock() = Slot::Taken;
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives_in_order_and_the_end_is_seen() {
        let (sender, mut receiver) = channel(4);
        assert!(receiver.try_recv().is_none());
        for n in 0..3 {
            sender.get().try_send(n).unwrap();
        }
        assert_eq!(receiver.try_recv(), Some(0));
        drop(sender);
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn a_waiting_receiver_learns_of_the_first_item_and_of_an_end_without_any() {
        for send in [true, false] {
            let (sender, mut receiver) = channel(1);
            let waiting = tokio::spawn(async move { receiver.recv().await });
            tokio::task::yield_now().await;
            if send {
                sender.get().try_send(7).unwrap();
            }
            drop(sender);
            let received = tokio::time::timeout(Duration::from_secs(5), waiting).await;
            assert_eq!(received.unwrap().unwrap(), send.then_some(7));
        }
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_or_closed_takes_nothing() {
        let (sender, receiver) = channel(1);
        drop(receiver);
        assert!(sender.get().try_send(1).is_err());
        let (sender, mut receiver) = channel(1);
        receiver.close();
        assert!(sender.get().try_send(1).is_err());
        assert_eq!(receiver.recv().await, None);
        let (sender, mut receiver) = channel(2);
        sender.get().try_send(1).unwrap();
        receiver.close();
        assert!(sender.get().try_send(2).is_err());
        assert_eq!(
            (receiver.recv().await, receiver.recv().await),
            (Some(1), None)
        );
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for _ in 0..2_000 {
            let (sender, mut receiver) = channel(64);
            let sending = std::thread::spawn(move || {
                for n in 0..3 {
                    sender.get().try_send(n).unwrap();
                }
            });
            let mut seen = Vec::new();
            runtime.block_on(async {
                while let Some(n) = receiver.recv().await {
                    seen.push(n);
                }
            });
            sending.join().unwrap();
            assert_eq!(seen, [0, 1, 2]);
        }
    }
}
