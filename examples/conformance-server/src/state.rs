//! What connections share, and what belongs to one of them.

use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rmcp::{
    Peer, RoleServer,
    handler::server::router::{prompt::PromptRouter, tool::ToolRouter},
    model::{RequestStateCodec, ResourceUpdatedNotificationParam},
    task_manager::TaskManager,
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::AbortHandle,
};

use crate::{fixture::FixtureServer, log::Threshold, tools};

/// More changes than a test makes while a subscriber is not looking.
const CHANGE_CAPACITY: usize = 256;

/// Locks without minding a panic elsewhere: the maps behind these locks are valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that subscribers are notified of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
    Updated(String),
}

/// State of the whole fixture.
pub(crate) struct Shared {
    pub(crate) tools: ToolRouter<FixtureServer>,
    pub(crate) prompts: PromptRouter<FixtureServer>,
    pub(crate) page_size: Option<NonZeroUsize>,
    pub(crate) tasks: TaskManager,
    pub(crate) request_state: RequestStateCodec,
    pub(crate) extra_tool: Toggle,
    pub(crate) extra_prompt: Toggle,
    pub(crate) extra_resource: Toggle,
    pub(crate) watched_version: AtomicU64,
    /// Outcome of each cancellable call, by the key its caller chose.
    pub(crate) outcomes: Mutex<BTreeMap<String, &'static str>>,
    changes: broadcast::Sender<Change>,
}

impl Shared {
    pub(crate) fn new(page_size: Option<NonZeroUsize>) -> Self {
        // Only this process opens what it sealed, so the key need not outlive it.
        let key = std::array::from_fn::<u8, 32, _>(|index| index as u8 ^ 0x5a).to_vec();
        Self {
            tools: tools::router(),
            prompts: FixtureServer::prompt_router(),
            page_size,
            tasks: TaskManager::new(),
            request_state: RequestStateCodec::try_new(key).expect("32 bytes are enough"),
            extra_tool: Toggle::default(),
            extra_prompt: Toggle::default(),
            extra_resource: Toggle::default(),
            watched_version: AtomicU64::new(1),
            outcomes: Mutex::default(),
            changes: broadcast::Sender::new(CHANGE_CAPACITY),
        }
    }

    /// Tells every subscriber; no subscriber is not an error.
    pub(crate) fn announce(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// An entry of a list that is there or not.
#[derive(Debug, Default)]
pub(crate) struct Toggle(AtomicBool);

impl Toggle {
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Flips it and returns the new state.
    pub(crate) fn flip(&self) -> bool {
        !self.0.fetch_xor(true, Ordering::SeqCst)
    }
}

/// State of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// What has changed since the connection began, until `initialized` has been handled: rmcp handles the calls that follow it
    /// at the same time, and what they change has to be announced.
    early: Mutex<Option<broadcast::Receiver<Change>>>,
    pub(crate) counter: AtomicU64,
    pub(crate) log_threshold: Mutex<Threshold>,
    pub(crate) subscriptions: Arc<Mutex<HashSet<String>>>,
    forwarder: Mutex<Option<Forwarder>>,
}

impl Session {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            early: Mutex::new(Some(shared.changes())),
            counter: AtomicU64::default(),
            log_threshold: Mutex::default(),
            subscriptions: Arc::default(),
            forwarder: Mutex::default(),
        }
    }

    /// Starts telling `peer` of changes, once; the session era pushes them without being asked.
    ///
    /// The work ends with the session.
    pub(crate) fn forward(&self, peer: Peer<RoleServer>) {
        let Some(changes) = lock(&self.early).take() else {
            return;
        };
        let task = tokio::spawn(forward(changes, peer, Arc::clone(&self.subscriptions)));
        *lock(&self.forwarder) = Some(Forwarder(task.abort_handle()));
    }
}

#[derive(Debug)]
struct Forwarder(AbortHandle);

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn forward(
    mut changes: broadcast::Receiver<Change>,
    peer: Peer<RoleServer>,
    subscriptions: Arc<Mutex<HashSet<String>>>,
) {
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let sent = match change {
            Change::Tools => peer.notify_tool_list_changed().await,
            Change::Prompts => peer.notify_prompt_list_changed().await,
            Change::Resources => peer.notify_resource_list_changed().await,
            Change::Updated(uri) => {
                if !lock(&subscriptions).contains(&uri) {
                    continue;
                }
                peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri))
                    .await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
