//! Listening to a client's own sessions with upstreams, from the first call that needs such a session.
//!
//! A client that listens must not cost a process of every upstream: its own session is listened to once it calls. The
//! first call waits until the upstream has acknowledged the listener, so that nothing that the call causes is missed.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use mcp_core::{Era, Request};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    core::Core,
    view::{NodeKey, View, key_of},
};
use crate::node::{Lists, Node};

/// The listeners of one client.
#[derive(Default)]
pub(crate) struct Listeners {
    all: Mutex<Vec<Listener>>,
    count: AtomicUsize,
    next: AtomicU64,
}

struct Listener {
    number: u64,
    attached: HashSet<NodeKey>,
    attach: mpsc::UnboundedSender<Attach>,
}

/// An upstream that a listener is to attach to, and where to say that the upstream has acknowledged.
pub(crate) struct Attach {
    pub(crate) node: Arc<Node>,
    pub(crate) acknowledged: oneshot::Sender<()>,
}

/// A registered listener. Dropping it ends the registration.
pub(crate) struct Registration {
    view: Arc<View>,
    number: u64,
    pub(crate) attach: mpsc::UnboundedReceiver<Attach>,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Registers a listener of the client that a view belongs to.
    pub(crate) fn register(view: &Arc<View>) -> Registration {
        let own = &view.listeners;
        let (sender, attach) = mpsc::unbounded_channel();
        let number = own.next.fetch_add(1, Ordering::Relaxed);
        let mut all = own.lock();
        all.push(Listener {
            number,
            attached: HashSet::new(),
            attach: sender,
        });
        own.count.store(all.len(), Ordering::Release);
        drop(all);
        Registration {
            view: Arc::clone(view),
            number,
            attach,
        }
    }

    /// Asks the listeners that are not attached to a node to attach, and returns when they are.
    fn attach(&self, node: &Arc<Node>) -> Vec<oneshot::Receiver<()>> {
        let mut waiting = Vec::new();
        for listener in self.lock().iter_mut() {
            if listener.attached.insert(key_of(node)) {
                let (acknowledged, receiver) = oneshot::channel();
                let attach = Attach {
                    node: Arc::clone(node),
                    acknowledged,
                };
                if listener.attach.send(attach).is_ok() {
                    waiting.push(receiver);
                }
            }
        }
        waiting
    }
}

impl Registration {
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Marks a node as attached to this listener. Returns whether it was not yet.
    pub(crate) fn mark(&self, node: &Node) -> bool {
        let mut all = self.view.listeners.lock();
        let own = all.iter_mut().find(|one| one.number == self.number);
        own.is_some_and(|own| own.attached.insert(key_of(node)))
    }

    /// Notes that a node is no longer listened to.
    pub(crate) fn unmark(&self, node: &Node) {
        let mut all = self.view.listeners.lock();
        if let Some(own) = all.iter_mut().find(|one| one.number == self.number) {
            own.attached.remove(&key_of(node));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let own = &self.view.listeners;
        let mut all = own.lock();
        all.retain(|listener| listener.number != self.number);
        own.count.store(all.len(), Ordering::Release);
    }
}

/// Returns whether the client of a request may be told something by a session of its own with a node that others are not
/// told.
pub(crate) fn has_own_messages(node: &Node, request: &Request) -> bool {
    match node.sharing.lists {
        Lists::Everyone => false,
        // A server that is spoken to without sessions tells every client the same.
        Lists::Capabilities => request.era() == Era::Session || !node.sharing.eager,
        Lists::Principal => true,
    }
}

impl Core {
    /// Has the listeners of the client of a call attached to the node that the call goes to.
    pub(crate) async fn attach(&self, node: &Arc<Node>, request: &Request) {
        let Some(view) = self.known_view(request) else {
            return;
        };
        if view.listeners.is_empty() || !has_own_messages(node, request) {
            return;
        }
        // A process has to start for the listener, as it would for the call.
        let is_cold = !node.sharing.eager && !node.has_session(request);
        let waiting = view.listeners.attach(node);
        if !waiting.is_empty() {
            let settle = node.timing.settle;
            let patience = match is_cold {
                true => node.timing.list.max(settle),
                false => settle,
            };
            // A slow upstream holds its own calls only, and not for long.
            drop(timeout(patience, join_all(waiting)).await);
        }
    }
}
