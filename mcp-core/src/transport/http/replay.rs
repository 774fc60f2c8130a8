//! The events of one stream of a session, kept so that a client whose connection broke can go on
//! (revision 2025-11-25, Streamable HTTP, "Resumability and Redelivery").

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::stream;
use tokio::{
    sync::watch,
    time::{Duration, timeout},
};

use super::pulse::Pulse;
use crate::{Error, ErrorKind, sse, transport::outlet::Outlet};

/// How many events and bytes of a stream are kept for a client that comes back.
const KEPT_EVENTS: usize = 256;
const KEPT_BYTES: usize = 1 << 20;

/// How many events may wait for a client that is connected and does not read.
const UNREAD: u64 = 64;

/// How long a client that does not read holds its call up.
const STALL: Duration = Duration::from_secs(10);

/// One stream: the answer to a POST, or the stream that a GET opens.
pub(super) struct StreamLog {
    id: u64,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// Events with their numbers, the oldest first.
    events: VecDeque<(u64, Bytes)>,
    bytes: usize,
    next: u64,
    finished: bool,
    /// Counts readers: a new one takes over from the one before.
    reader: u64,
    connected: bool,
    /// The number of the next event that the reader takes.
    read: u64,
}

impl StreamLog {
    pub(super) fn new(id: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, dropping the oldest where too many are kept.
    pub(super) fn add(&self, message: &[u8]) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let event = sse::write_event(Some(&event_id(self.id, number)), &[message]);
        state.bytes += event.len();
        state.events.push_back((number, event));
        while state.events.len() > KEPT_EVENTS
            || (state.bytes > KEPT_BYTES && state.events.len() > 1)
        {
            if let Some((_, dropped)) = state.events.pop_front() {
                state.bytes -= dropped.len();
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Says that no event will follow.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
        self.changed.send_replace(());
    }

    /// Returns whether a client reads the stream.
    pub(super) fn is_connected(&self) -> bool {
        self.lock().connected
    }

    /// Returns whether no event will follow.
    pub(super) fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Reads the stream. An earlier reader ends.
    pub(super) fn read(
        self: &Arc<Self>,
        from: From,
        priming: Option<Bytes>,
        pulse: &Pulse,
    ) -> impl futures_core::Stream<Item = Bytes> + Send + use<> {
        let reader = {
            let mut state = self.lock();
            state.reader += 1;
            state.connected = true;
            state.read = match from {
                From::Start => 0,
                From::After(number) => number.saturating_add(1),
                From::Unread => state.read,
            };
            state.reader
        };
        self.changed.send_replace(());
        let reader = Reader {
            log: Arc::clone(self),
            reader,
            priming,
            changed: self.changed.subscribe(),
            pulse: pulse.clone(),
        };
        stream::unfold(reader, |mut reader| async move {
            let bytes = reader.next().await?;
            Some((bytes, reader))
        })
    }
}

impl Outlet for StreamLog {
    async fn push(&self, message: Bytes) {
        self.add(&message);
    }

    async fn push_paced(&self, message: Bytes) -> Result<(), Error> {
        let mut changed = self.changed.subscribe();
        let room = async {
            loop {
                changed.borrow_and_update();
                let full = {
                    let state = self.lock();
                    state.connected && state.next.saturating_sub(state.read) >= UNREAD
                };
                if !full || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(STALL, room).await.is_err() {
            return Err(Error::new(
                ErrorKind::Stalled,
                "the client did not read the events of this call for 10 s; the call was ended",
            ));
        }
        self.add(&message);
        Ok(())
    }
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// At the first event that is kept.
    Start,
    /// Behind the event of this number.
    After(u64),
    /// At the first event that no reader has taken.
    Unread,
}

/// What a client names in `Last-Event-ID`: which stream, and from where.
pub(super) fn parse_event_id(id: &str) -> Option<(u64, From)> {
    let (stream, number) = id.split_once('_')?;
    let from = match number {
        PRIMING => From::Start,
        number => From::After(number.parse().ok()?),
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
    log: Arc<StreamLog>,
    reader: u64,
    priming: Option<Bytes>,
    changed: watch::Receiver<()>,
    pulse: Pulse,
}

impl Reader {
    /// Returns the next bytes; `None` at the end of the stream or when another reader took over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(priming) = self.priming.take() {
            return Some(priming);
        }
        loop {
            self.changed.borrow_and_update();
            match self.take() {
                Taken::Event(event) => {
                    self.log.changed.send_replace(());
                    return Some(event);
                }
                Taken::End => return None,
                Taken::Nothing => {}
            }
            match self.pulse.within(self.changed.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return None,
                None => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }

    fn take(&self) -> Taken {
        let mut state = self.log.lock();
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
            None if state.finished => Taken::End,
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
        let mut state = self.log.lock();
        if state.reader == self.reader {
            state.connected = false;
            drop(state);
            self.log.changed.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn pulse() -> Pulse {
        Pulse::new(Duration::from_secs(3600))
    }

    fn text(bytes: &Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_comes_back_gets_what_it_missed() {
        let log = StreamLog::new(7);
        log.add(b"a");
        log.add(b"b");
        let mut first = Box::pin(log.read(From::Start, None, &pulse()));
        let seen = text(&first.next().await.unwrap());
        assert_eq!(seen, "id: 7_0\ndata: a\n\n");
        let (stream, from) = parse_event_id("7_0").unwrap();
        assert_eq!((stream, from), (7, From::After(0)));
        assert_eq!(parse_event_id(&priming_id(7)), Some((7, From::Start)));
        log.add(b"c");
        log.finish();
        let second: Vec<_> = log
            .read(from, None, &pulse())
            .map(|bytes| text(&bytes))
            .collect()
            .await;
        assert_eq!(second, ["id: 7_1\ndata: b\n\n", "id: 7_2\ndata: c\n\n"]);
        assert!(first.next().await.is_none(), "the first reader has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connected_client_that_does_not_read_stalls_the_call() {
        let log = StreamLog::new(1);
        let reader = log.read(From::Start, None, &pulse());
        for _ in 0..UNREAD {
            log.push_paced(Bytes::from_static(b"x")).await.unwrap();
        }
        let error = log.push_paced(Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stalled);
        drop(reader);
        for _ in 0..3 * KEPT_EVENTS {
            log.push_paced(Bytes::from_static(b"x")).await.unwrap();
        }
        assert_eq!(log.lock().events.len(), KEPT_EVENTS);
    }

    #[test]
    fn event_ids_that_are_not_ours_are_refused() {
        for id in ["", "1", "_", "1_", "a_1", "1_-1", "1_99999999999999999999"] {
            assert_eq!(parse_event_id(id), None, "{id}");
        }
    }
}
