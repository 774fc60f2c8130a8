//! A session over HTTP: its streams, and since when its client has not been heard of.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::{Duration, Instant};

use super::log::StreamLog;
use crate::transport::session::Session;

/// The number of the stream that a GET opens; answers to POSTs count from 1.
pub(super) const STANDALONE: u64 = 0;

/// How many finished streams are kept for clients that come back, and how long.
const KEPT_STREAMS: usize = 16;
const KEPT_FOR: Duration = Duration::from_secs(60);

pub(super) struct HttpSession {
    pub(super) session: Arc<Session>,
    epoch: Instant,
    /// Milliseconds since the epoch.
    last_seen: AtomicU64,
    standalone: Arc<StreamLog>,
    /// Streams of answers, and when they were found to be finished.
    streams: Mutex<Vec<(Arc<StreamLog>, Option<Instant>)>>,
}

impl HttpSession {
    pub(super) fn new(session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self {
            session,
            epoch: Instant::now(),
            last_seen: AtomicU64::new(0),
            standalone: StreamLog::new(STANDALONE),
            streams: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<StreamLog>, Option<Instant>)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the client is there.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_seen.store(now, Ordering::Relaxed);
    }

    /// Returns since when the client has not been heard of; `None` while it waits for something.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let busy = !self.session.calls.is_empty() || self.standalone.is_connected();
        let last_seen = Duration::from_millis(self.last_seen.load(Ordering::Relaxed));
        (!busy).then(|| self.epoch + last_seen)
    }

    /// Opens the stream of an answer.
    pub(super) fn open_stream(&self) -> Arc<StreamLog> {
        let log = StreamLog::new(self.session.number());
        let now = Instant::now();
        let mut streams = self.lock();
        for (log, finished) in &mut *streams {
            if finished.is_none() && log.is_finished() {
                *finished = Some(now);
            }
        }
        streams.retain(|(_, finished)| finished.is_none_or(|at| now - at < KEPT_FOR));
        if streams.len() >= KEPT_STREAMS {
            let oldest = streams.iter().position(|(log, _)| log.is_finished());
            if let Some(oldest) = oldest {
                streams.remove(oldest);
            }
        }
        streams.push((Arc::clone(&log), None));
        log
    }

    /// Returns the stream that a GET reads.
    pub(super) fn standalone(&self) -> &Arc<StreamLog> {
        &self.standalone
    }

    /// Finds the stream that a client wants to go on reading.
    pub(super) fn stream(&self, id: u64) -> Option<Arc<StreamLog>> {
        if id == STANDALONE {
            return Some(Arc::clone(&self.standalone));
        }
        let streams = self.lock();
        let found = streams.iter().find(|(log, _)| log.id() == id)?;
        Some(Arc::clone(&found.0))
    }

    /// Ends everything that belongs to the session.
    pub(super) fn close(&self) {
        self.session.close();
        for (log, _) in std::mem::take(&mut *self.lock()) {
            log.finish();
        }
        self.standalone.finish();
    }
}
