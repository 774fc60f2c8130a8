//! The replay buffer of one stream of a session, from which a client whose connection broke continues
//! (revision 2025-11-25, Streamable HTTP, "Resumability and Redelivery").

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::stream;
use tokio::{
    sync::Notify,
    time::{Duration, Instant, timeout},
};

use super::pulse::{Lapse, Pulse};
use crate::{
    Bounds, Error, Timing, sse,
    transport::outlet::{self, Outlet},
};

/// How many bytes of a stream stay that was read to its end: the last of them may have been lost on their way.
const KEPT_READ: usize = 64 << 10;

/// What the streams of one session may hold.
#[derive(Clone, Debug)]
pub(super) struct ReplayLimits {
    /// Events of one stream.
    pub(super) events: usize,
    /// Bytes of all streams of the session together.
    pub(super) bytes: usize,
    /// Events that may wait for a client that is connected.
    pub(super) unread: u64,
    /// How long a client that does not read holds its call up.
    pub(super) stall: Duration,
}

impl ReplayLimits {
    pub(super) fn new(timing: &Timing, bounds: &Bounds) -> Self {
        Self {
            events: bounds.replay_events.get(),
            bytes: bounds.replay_bytes.get(),
            unread: u64::try_from(bounds.unread_events.get()).unwrap_or(u64::MAX),
            stall: timing.stall,
        }
    }
}

/// One stream: the answer to a POST, or the stream that a GET opens.
pub(super) struct ReplayBuffer {
    id: u64,
    limits: ReplayLimits,
    /// The bytes that all streams of the session hold.
    held: Arc<AtomicUsize>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Events with their numbers, the oldest first.
    events: VecDeque<(u64, Bytes)>,
    next: u64,
    finished: Option<Instant>,
    /// Counts readers: a new one takes over from the one before.
    reader: u64,
    connected: bool,
    /// The number of the next event that the reader takes.
    read: u64,
}

impl State {
    fn unread_bytes(&self) -> usize {
        let unread = self.events.iter().rev();
        unread
            .take_while(|(number, _)| *number >= self.read)
            .map(|(_, event)| event.len())
            .sum()
    }
}

impl ReplayBuffer {
    pub(super) fn new(id: u64, limits: ReplayLimits, held: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            id,
            limits,
            held: Arc::clone(held),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Where too much is kept, the oldest events go; the newest always stays.
    pub(super) fn add(&self, message: &[u8]) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let event = sse::write_event(Some(&event_id(self.id, number)), &[message]);
        self.held.fetch_add(event.len(), Ordering::Relaxed);
        state.events.push_back((number, event));
        while state.events.len() > 1
            && (state.events.len() > self.limits.events
                || self.held.load(Ordering::Relaxed) > self.limits.bytes)
        {
            self.drop_oldest(&mut state);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    fn drop_oldest(&self, state: &mut State) {
        if let Some((_, dropped)) = state.events.pop_front() {
            self.held.fetch_sub(dropped.len(), Ordering::Relaxed);
        }
    }

    fn drop_all(&self, state: &mut State) {
        while !state.events.is_empty() {
            self.drop_oldest(state);
        }
    }

    /// Says that no event will follow.
    pub(super) fn finish(&self) {
        self.lock().finished.get_or_insert_with(Instant::now);
        self.changed.notify_waiters();
    }

    /// Returns whether a client reads the stream.
    pub(super) fn is_connected(&self) -> bool {
        self.lock().connected
    }

    /// Returns since when it is known that no event will follow.
    pub(super) fn finished(&self) -> Option<Instant> {
        self.lock().finished
    }

    /// Reads the stream. An earlier reader ends.
    pub(super) fn read(
        self: &Arc<Self>,
        from: ReplayFrom,
        priming: Option<Bytes>,
        pulse: &Pulse,
    ) -> impl futures_core::Stream<Item = Bytes> + Send + use<> {
        let reader = {
            let mut state = self.lock();
            state.reader += 1;
            state.connected = true;
            state.read = match from {
                ReplayFrom::Start => 0,
                ReplayFrom::After(number) => number.saturating_add(1),
                ReplayFrom::Unread => state.read,
            };
            state.reader
        };
        self.changed.notify_waiters();
        let reader = Reader {
            buffer: Arc::clone(self),
            reader,
            priming,
            pulse: pulse.clone(),
        };
        stream::unfold(reader, |mut reader| async move {
            let bytes = reader.next().await?;
            Some((bytes, reader))
        })
    }

    fn is_full(&self) -> bool {
        let state = self.lock();
        state.connected
            && (state.next.saturating_sub(state.read) >= self.limits.unread
                || state.unread_bytes() >= self.limits.bytes)
    }
}

impl Outlet for ReplayBuffer {
    async fn push(&self, message: Bytes) {
        self.add(&message);
    }

    async fn push_paced(&self, message: Bytes) -> Result<(), Error> {
        let room = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if !self.is_full() {
                    return;
                }
                changed.await;
            }
        };
        if timeout(self.limits.stall, room).await.is_err() {
            return Err(outlet::stalled(self.limits.stall));
        }
        self.add(&message);
        Ok(())
    }
}

impl Drop for ReplayBuffer {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let left: usize = state.events.iter().map(|(_, event)| event.len()).sum();
        self.held.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplayFrom {
    /// At the first event that is kept.
    Start,
    /// Behind the event of this number.
    After(u64),
    /// At the first event that no reader has taken.
    Unread,
}

/// What a client names in `Last-Event-ID`: which stream, and from where.
pub(super) fn parse_event_id(id: &str) -> Option<(u64, ReplayFrom)> {
    let (stream, number) = id.split_once('_')?;
    let from = match number {
        PRIMING => ReplayFrom::Start,
        number => ReplayFrom::After(number.parse().ok()?),
    };
    Some((stream.parse().ok()?, from))
}

/// Stands for the number in the id of the event that opens a stream.
const PRIMING: &str = "p";

/// The id of the event that opens a stream.
pub(super) fn priming_id(stream: u64) -> String {
    format!("{stream}_{PRIMING}")
}

fn event_id(stream: u64, number: u64) -> String {
    format!("{stream}_{number}")
}

struct Reader {
    buffer: Arc<ReplayBuffer>,
    reader: u64,
    priming: Option<Bytes>,
    pulse: Pulse,
}

impl Reader {
    /// Returns the next bytes; `None` at the end of the stream or when another reader took over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(priming) = self.priming.take() {
            return Some(priming);
        }
        let buffer = Arc::clone(&self.buffer);
        loop {
            let changed = buffer.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.take() {
                Taken::Event(event) => {
                    buffer.changed.notify_waiters();
                    return Some(event);
                }
                Taken::End => return None,
                Taken::Nothing => {}
            }
            match self.pulse.within(None, changed).await {
                Ok(()) => {}
                Err(Lapse::Quiet) => return Some(Bytes::from_static(b": keep-alive\n\n")),
                Err(Lapse::Ended) => return None,
            }
        }
    }

    fn take(&self) -> Taken {
        let mut state = self.buffer.lock();
        if state.reader != self.reader {
            return Taken::End;
        }
        let read = state.read;
        let next = state
            .events
            .iter()
            .find(|(number, _)| *number >= read)
            .map(|(number, event)| (*number, event.clone()));
        match next {
            Some((number, event)) => {
                state.read = number + 1;
                Taken::Event(event)
            }
            None if state.finished.is_some() => {
                let kept: usize = state.events.iter().map(|(_, event)| event.len()).sum();
                if kept > KEPT_READ {
                    self.buffer.drop_all(&mut state);
                }
                Taken::End
            }
            None => Taken::Nothing,
        }
    }
}

enum Taken {
    Event(Bytes),
    Nothing,
    End,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.buffer.lock();
        if state.reader == self.reader {
            state.connected = false;
            drop(state);
            self.buffer.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::{ErrorKind, transport::lifecycle::Lifecycle};

    fn pulse() -> Pulse {
        Pulse::new(Duration::from_secs(3600), Lifecycle::default())
    }

    fn buffer(id: u64) -> (Arc<ReplayBuffer>, Arc<AtomicUsize>) {
        let held = Arc::default();
        let limits = ReplayLimits::new(&Timing::default(), &Bounds::default());
        (ReplayBuffer::new(id, limits, &held), held)
    }

    fn text(bytes: &Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_comes_back_gets_what_it_missed() {
        let (buffer, _) = buffer(7);
        buffer.add(b"a");
        buffer.add(b"b");
        let mut first = Box::pin(buffer.read(ReplayFrom::Start, None, &pulse()));
        let seen = text(&first.next().await.unwrap());
        assert_eq!(seen, "id: 7_0\ndata: a\n\n");
        let (stream, from) = parse_event_id("7_0").unwrap();
        assert_eq!((stream, from), (7, ReplayFrom::After(0)));
        assert_eq!(parse_event_id(&priming_id(7)), Some((7, ReplayFrom::Start)));
        buffer.add(b"c");
        buffer.finish();
        let second: Vec<_> = buffer
            .read(from, None, &pulse())
            .map(|bytes| text(&bytes))
            .collect()
            .await;
        assert_eq!(second, ["id: 7_1\ndata: b\n\n", "id: 7_2\ndata: c\n\n"]);
        assert!(first.next().await.is_none(), "the first reader has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connected_client_that_does_not_read_stalls_the_call() {
        let (buffer, _) = buffer(1);
        let limits = buffer.limits.clone();
        let reader = buffer.read(ReplayFrom::Start, None, &pulse());
        for _ in 0..limits.unread {
            buffer.push_paced(Bytes::from_static(b"x")).await.unwrap();
        }
        let error = buffer.push_paced(Bytes::from_static(b"x")).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Stalled);
        drop(reader);
        for _ in 0..3 * limits.events {
            buffer.push_paced(Bytes::from_static(b"x")).await.unwrap();
        }
        assert_eq!(buffer.lock().events.len(), limits.events);
    }

    #[tokio::test]
    async fn the_streams_of_a_session_share_one_limit_in_bytes() {
        let (first, held) = buffer(1);
        let limit = first.limits.bytes;
        let large = vec![b'x'; limit / 2];
        for _ in 0..4 {
            first.add(&large);
        }
        assert!(held.load(Ordering::Relaxed) <= limit);
        let huge = vec![b'x'; 4 * limit];
        first.add(&huge);
        assert_eq!(first.lock().events.len(), 1, "the newest stays");
        first.finish();
        let read: Vec<_> = first
            .read(ReplayFrom::Unread, None, &pulse())
            .collect()
            .await;
        assert_eq!(read.len(), 1);
        assert_eq!(held.load(Ordering::Relaxed), 0, "it was read to its end");
        first.add(b"x");
        drop(first);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn event_ids_of_other_servers_are_refused() {
        for id in ["", "1", "_", "1_", "a_1", "1_-1", "1_99999999999999999999"] {
            assert_eq!(parse_event_id(id), None, "{id}");
        }
    }
}
