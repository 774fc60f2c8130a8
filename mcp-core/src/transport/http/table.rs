//! All sessions of a transport.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock, Weak},
};

use http::StatusCode;
use tokio::time::{Duration, Instant, interval};

use super::session::HttpSession;
use crate::{Error, ErrorKind, Partition, PrincipalKind};

/// Sessions by the id that the client sends.
#[derive(Default)]
pub(super) struct Registry {
    sessions: RwLock<HashMap<Box<str>, Arc<HttpSession>>>,
    sweeper: OnceLock<()>,
}

impl Registry {
    /// Makes an id that nobody can guess: 128 random bits.
    pub(super) fn new_id() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    /// Adds a session, ending the one that has been idle longest where there are too many.
    pub(super) fn insert(
        self: &Arc<Self>,
        id: &str,
        session: Arc<HttpSession>,
        most: usize,
        idle: Duration,
    ) -> Result<(), Error> {
        self.sweeper
            .get_or_init(|| drop(tokio::spawn(sweep(Arc::downgrade(self), idle))));
        let mut sessions = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= most {
            let oldest = sessions
                .iter()
                .filter_map(|(id, session)| Some((session.idle_since()?, id.clone())))
                .min();
            let Some((_, oldest)) = oldest else {
                return Err(Error::new(
                    ErrorKind::Overloaded,
                    "too many sessions are open and none is idle; try again later",
                )
                .with_status(StatusCode::SERVICE_UNAVAILABLE));
            };
            if let Some(ended) = sessions.remove(&oldest) {
                ended.close();
            }
        }
        sessions.insert(id.into(), session);
        Ok(())
    }

    /// Finds a session of this owner. Somebody else's is not found.
    pub(super) fn find(&self, id: &str, owner: Option<Partition>) -> Option<Arc<HttpSession>> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(id)?;
        let opener = &session.session.principal;
        let theirs = match owner {
            Some(owner) => owner == opener.partition(),
            // A request without a credential is nobody's, and does not become somebody's by knowing an id.
            None => opener.kind() != PrincipalKind::Authenticated,
        };
        if !theirs {
            return None;
        }
        session.touch();
        Some(Arc::clone(session))
    }

    /// Ends a session.
    pub(super) fn remove(&self, id: &str) {
        let removed = self
            .sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        if let Some(session) = removed {
            session.close();
        }
    }

    /// Returns how many sessions are open.
    pub(super) fn len(&self) -> usize {
        self.sessions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Ends all sessions.
    pub(super) fn clear(&self) {
        let all = std::mem::take(
            &mut *self
                .sessions
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for session in all.into_values() {
            session.close();
        }
    }

    fn end_idle(&self, idle: Duration) {
        let now = Instant::now();
        let mut ended = Vec::new();
        self.sessions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, session| {
                let over = session
                    .idle_since()
                    .is_some_and(|since| now.saturating_duration_since(since) > idle);
                if over {
                    ended.push(Arc::clone(session));
                }
                !over
            });
        for session in ended {
            session.close();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Ends idle sessions for as long as the transport exists.
async fn sweep(registry: Weak<Registry>, idle: Duration) {
    let mut tick = interval((idle / 4).clamp(Duration::from_millis(250), Duration::from_secs(60)));
    loop {
        tick.tick().await;
        let Some(registry) = registry.upgrade() else {
            return;
        };
        registry.end_idle(idle);
    }
}
