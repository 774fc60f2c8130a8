//! A session over HTTP: its streams, and when its client was last heard from.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::time::{Duration, Instant};

use super::replay::{ReplayBuffer, ReplayLimits};
use crate::transport::session::Session;

/// The number of the stream that a GET opens; answers to POSTs count from 1.
pub(super) const STANDALONE: u64 = 0;

pub(super) struct HttpSession {
    pub(super) session: Arc<Session>,
    epoch: Instant,
    /// Milliseconds since the epoch.
    last_seen: AtomicU64,
    limits: Arc<SessionLimits>,
    held: Arc<AtomicUsize>,
    standalone: OnceLock<Arc<ReplayBuffer>>,
    /// Streams of answers, the oldest first.
    streams: Mutex<Vec<Arc<ReplayBuffer>>>,
}

/// What the streams of each session of a transport may hold.
#[derive(Debug)]
pub(super) struct SessionLimits {
    pub(super) replay: ReplayLimits,
    /// Finished streams that are kept.
    pub(super) streams: usize,
}

impl HttpSession {
    pub(super) fn new(session: Arc<Session>, limits: &Arc<SessionLimits>) -> Arc<Self> {
        Arc::new(Self {
            session,
            epoch: Instant::now(),
            last_seen: AtomicU64::new(0),
            limits: Arc::clone(limits),
            held: Arc::default(),
            standalone: OnceLock::new(),
            streams: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ReplayBuffer>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the client has sent a request.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_seen.store(now, Ordering::Relaxed);
    }

    /// Returns when the client was last heard from; `None` while it waits for something.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let listens = || {
            self.standalone
                .get()
                .is_some_and(|buffer| buffer.is_connected())
        };
        let busy = !self.session.calls.is_empty() || listens();
        let last_seen = Duration::from_millis(self.last_seen.load(Ordering::Relaxed));
        (!busy).then(|| self.epoch + last_seen)
    }

    /// Opens the stream of an answer. `events` may have to be kept, beside the usual number.
    pub(super) fn open_stream(&self, events: usize) -> Arc<ReplayBuffer> {
        let mut limits = self.limits.replay.clone();
        limits.events += events;
        let buffer = ReplayBuffer::new(self.session.number(), limits, &self.held);
        let mut streams = self.lock();
        streams.push(Arc::clone(&buffer));
        self.trim(&mut streams);
        buffer
    }

    /// Lets go of the oldest finished streams where there are too many of them or they hold too much.
    fn trim(&self, streams: &mut Vec<Arc<ReplayBuffer>>) {
        let is_finished = |buffer: &Arc<ReplayBuffer>| buffer.finished().is_some();
        let mut finished = streams.iter().filter(|own| is_finished(own)).count();
        while finished > self.limits.streams
            || self.held.load(Ordering::Relaxed) > self.limits.replay.bytes
        {
            // The newest may hold the answer that its client has not read.
            let oldest = streams.iter().position(is_finished);
            match oldest.filter(|oldest| oldest + 1 < streams.len()) {
                Some(oldest) => drop(streams.remove(oldest)),
                None => return,
            }
            finished -= 1;
        }
    }

    /// Lets go of streams that finished too long ago, and of what is too much.
    pub(super) fn sweep(&self, now: Instant, kept_for: Duration) {
        let mut streams = self.lock();
        if streams.is_empty() {
            return;
        }
        streams.retain(|own| {
            own.finished()
                .is_none_or(|at| now.saturating_duration_since(at) < kept_for)
        });
        self.trim(&mut streams);
        if streams.is_empty() {
            *streams = Vec::new();
        }
    }

    /// Returns the stream that a GET reads.
    pub(super) fn standalone(&self) -> &Arc<ReplayBuffer> {
        self.standalone
            .get_or_init(|| ReplayBuffer::new(STANDALONE, self.limits.replay.clone(), &self.held))
    }

    /// Finds the stream that a client wants to continue.
    pub(super) fn stream(&self, id: u64) -> Option<Arc<ReplayBuffer>> {
        if id == STANDALONE {
            return Some(Arc::clone(self.standalone()));
        }
        self.lock().iter().find(|own| own.id() == id).cloned()
    }

    /// Ends the standalone stream. Streams of answers end with their calls.
    pub(super) fn end_streams(&self) {
        if let Some(standalone) = self.standalone.get() {
            standalone.finish();
        }
    }

    /// Ends everything that belongs to the session.
    pub(super) fn close(&self) {
        self.session.close();
        self.lock().clear();
        self.end_streams();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Bounds, Object, Principal, SessionKey, Timing,
        handshake::Opening,
        transport::{call::Calls, lifecycle::Lifecycle, session::Limits},
    };

    fn session(bounds: &Bounds) -> Arc<HttpSession> {
        let params = Object::parse(r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#);
        let limits = Limits {
            calls: Calls::new(8),
            lifecycle: Lifecycle::default(),
            subscriptions: 8,
        };
        let opening = Opening::read(params.ok().as_ref()).unwrap();
        let key = SessionKey::new("s");
        let session = Session::new(key, Principal::local(), opening, limits);
        let limits = SessionLimits {
            replay: ReplayLimits::new(&Timing::default(), bounds),
            streams: bounds.replay_streams.get(),
        };
        HttpSession::new(session, &Arc::new(limits))
    }

    #[tokio::test(start_paused = true)]
    async fn finished_streams_are_let_go_within_a_minute() {
        let session = session(&Bounds::default());
        let kept_for = Timing::default().replay;
        let (finished, running) = (session.open_stream(0), session.open_stream(0));
        finished.add(b"answer");
        finished.finish();
        session.sweep(Instant::now(), kept_for);
        assert!(session.stream(finished.id()).is_some());
        // The table sweeps every 15 s at least.
        tokio::time::advance(Duration::from_secs(60 - 15)).await;
        session.sweep(Instant::now(), kept_for);
        assert!(session.stream(finished.id()).is_none());
        assert!(session.stream(running.id()).is_some());
        drop(finished);
        assert_eq!(session.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn finished_streams_are_bounded_by_number_and_by_bytes() {
        let session = session(&Bounds::default());
        let most = session.limits.streams;
        let first = session.open_stream(0).id();
        for _ in 0..=most {
            session.open_stream(0).finish();
        }
        assert!(session.stream(first).is_some(), "it has not finished");
        session.open_stream(0);
        assert!(session.lock().len() <= most + 2);
        let large = session.open_stream(0);
        large.add(&vec![b'x'; 2 * session.limits.replay.bytes]);
        large.finish();
        session.open_stream(0);
        assert!(session.stream(large.id()).is_none());
    }
}
