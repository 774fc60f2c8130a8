use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;

use crate::{Error, Principal, RequestId, UpstreamId};

/// Takes the record of who did what.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Records an event. Returns once the event is as durable as the sink promises.
    ///
    /// # Errors
    ///
    /// The event could not be recorded; the layer that asked decides whether the call is refused for it.
    async fn record(&self, event: &AuditEvent) -> Result<(), Error>;
}

/// Something that happened and has to be remembered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditEvent {
    /// When, by the wall clock.
    pub time: SystemTime,
    /// Who.
    pub principal: Principal,
    /// What was done, for instance `tools/call` or `credential.read`.
    pub action: Cow<'static, str>,
    /// The request that it was done for, by which it is found in logs and in the error that the client got.
    pub request_id: Option<RequestId>,
    /// To what: a tool, a resource, the name of a credential.
    pub target: Option<Box<str>>,
    /// Through which upstream.
    pub upstream: Option<UpstreamId>,
    /// SHA-256 of the arguments; never the arguments.
    pub digest: Option<[u8; 32]>,
    /// What was decided or came of it.
    pub outcome: AuditOutcome,
    /// How long it took.
    pub duration: Option<Duration>,
}

/// What came of an audited action.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditOutcome {
    /// It was done.
    Succeeded,
    /// It was allowed and failed, for this kind of reason.
    Failed(Cow<'static, str>),
    /// It was refused, by this rule.
    Denied(Cow<'static, str>),
}

impl AuditEvent {
    /// Describes an event.
    pub fn new(
        time: SystemTime,
        principal: Principal,
        action: impl Into<Cow<'static, str>>,
        outcome: AuditOutcome,
    ) -> Self {
        Self {
            time,
            principal,
            action: action.into(),
            request_id: None,
            target: None,
            upstream: None,
            digest: None,
            outcome,
            duration: None,
        }
    }
}

/// Keeps the newest events in memory, for tests and development.
pub struct MemoryAudit {
    events: Mutex<VecDeque<AuditEvent>>,
    capacity: usize,
}

impl MemoryAudit {
    /// Creates a sink that forgets the oldest event when it holds `capacity` of them.
    #[must_use]
    pub fn new(capacity: std::num::NonZeroUsize) -> Self {
        Self {
            events: Mutex::default(),
            capacity: capacity.get(),
        }
    }

    /// Returns the events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<AuditEvent> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().cloned().collect()
    }
}

#[async_trait]
impl AuditSink for MemoryAudit {
    async fn record(&self, event: &AuditEvent) -> Result<(), Error> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == self.capacity {
            events.pop_front();
        }
        events.push_back(event.clone());
        Ok(())
    }
}

impl fmt::Debug for MemoryAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryAudit({} events)", self.events().len())
    }
}
