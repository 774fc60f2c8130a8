//! `subscriptions/listen` over all upstreams.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use mcp_core::{
    Backoff, Error, ErrorKind, Json, Method, Notification, Object, Request, Response, RpcCode,
    SubscriptionFilter,
};
use serde_json::json;
use tokio::{
    sync::{broadcast, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::ServiceExt;

use super::{
    attach::{Attach, Listeners, Registration, has_own_messages},
    classes::ClassKey,
    core::Core,
    events::Signal,
    kinds::{Kinds, Pending},
    tasks,
    view::{NodeKey, key_of},
};
use crate::{
    catalogue::{Place, Root},
    node::Node,
};

/// How long changes are collected before a client is notified, and the shortest interval between two notifications.
const COLLECTED: Duration = Duration::from_millis(20);
const APART: Duration = Duration::from_millis(250);

/// Listens until the client is gone or the gateway ends: to changes of the catalogue, to what upstreams tell this client,
/// and to the resources that it subscribed to.
pub(super) async fn call(core: &Arc<Core>, request: Request) -> Result<Response, Error> {
    let mut listener = Listener::new(core, request);
    let subscribed = match listener.subscribe().await? {
        Subscribed::To(uris) => uris,
        Subscribed::Ended(answer) => return Ok(answer),
    };
    listener.attach_early().await;
    listener.acknowledge(&subscribed).await?;
    let ending = core.ending.clone();
    match ending.run_until_cancelled(listener.run()).await {
        Some(error) => Err(error),
        None => Ok(Response::empty()),
    }
}

/// One client's listener.
struct Listener<'a> {
    core: &'a Arc<Core>,
    request: Request,
    filter: SubscriptionFilter,
    /// Kinds that the client is to be told of.
    pending: Arc<Pending>,
    signals: broadcast::Receiver<Signal>,
    registration: Option<Registration>,
    streams: FuturesUnordered<Stream<'a>>,
}

/// A listener at one upstream, until it ends.
type Stream<'a> = BoxFuture<'a, (Arc<Node>, Result<(), Error>)>;

enum Subscribed {
    To(Vec<String>),
    /// An upstream has ended the subscription as soon as it stood.
    Ended(Response),
}

impl<'a> Listener<'a> {
    fn new(core: &'a Arc<Core>, request: Request) -> Self {
        let filter = SubscriptionFilter::read(&request);
        let registration = filter
            .is_general()
            .then(|| Listeners::register(&core.view(&request)));
        Self {
            core,
            filter,
            pending: Arc::default(),
            signals: core.events.signals(),
            registration,
            streams: FuturesUnordered::new(),
            request,
        }
    }

    /// Subscribes to the resources of the filter. One resource that is refused is the refusal of all.
    async fn subscribe(&mut self) -> Result<Subscribed, Error> {
        let mut honoured = Vec::new();
        for (node, uris) in self.by_upstream().await {
            let public: Vec<_> = uris.iter().map(|one| one.public.clone()).collect();
            let (listen, acknowledged) = self.subscription(&node, uris);
            let mut stream = self.keep_listening(&node, listen, None);
            tokio::select! {
                (_, ended) = &mut stream => return ended.map(|()| Subscribed::Ended(Response::empty())),
                _ = acknowledged => honoured.extend(public),
            }
            self.streams.push(stream);
        }
        Ok(Subscribed::To(honoured))
    }

    /// Whether the client hears what an upstream says beside calls.
    fn hears(&self, node: &Node) -> bool {
        has_own_messages(node, &self.request)
            && node.is_listened_to(&self.request)
            && self.request.visibility().allows_upstream(&node.id)
    }

    /// Listens to the upstreams where the client has a session, and to those where one costs no process.
    async fn attach_early(&mut self) {
        let mut acknowledgements = Vec::new();
        for member in self.core.graph.load_full().members() {
            let node = &member.node;
            if self.hears(node) {
                acknowledgements.extend(self.attach(node));
            }
        }
        self.stand(acknowledgements).await;
    }

    /// Waits until the upstreams have acknowledged, so that the client learns that it is listened to when it is. One that
    /// takes longer than [`Timing::settle`](mcp_core::Timing::settle) is not waited for.
    async fn stand(&mut self, acknowledgements: Vec<oneshot::Receiver<()>>) {
        let settle = self.core.shared.timing.settle;
        let all = timeout(settle, join_all(acknowledgements));
        tokio::pin!(all);
        loop {
            tokio::select! {
                _ = &mut all => return,
                Some((node, ended)) = self.streams.next(), if !self.streams.is_empty() => {
                    self.note(&node, ended);
                }
            }
        }
    }

    /// Notes that an upstream is no longer listened to. A permanently failing one does not end the others.
    fn note(&self, node: &Node, ended: Result<(), Error>) {
        if let Err(error) = ended {
            tracing::debug!(upstream = %node.id, %error, "an upstream is not listened to");
        }
        if node.is_retired()
            && let Some(registration) = &self.registration
        {
            registration.unmark(node);
        }
    }

    /// Begins to listen to the client's own session with a node, once.
    fn attach(&mut self, node: &Arc<Node>) -> Option<oneshot::Receiver<()>> {
        if !self.registration.as_ref()?.mark(node) {
            return None;
        }
        let (acknowledged, receiver) = oneshot::channel();
        self.listen_to(node, acknowledged);
        Some(receiver)
    }

    fn listen_to(&mut self, node: &Arc<Node>, acknowledged: oneshot::Sender<()>) {
        let acknowledged = Arc::new(Once::new(acknowledged));
        let listen = self.general(node, Arc::clone(&acknowledged));
        let stream = self.keep_listening(node, listen, Some(acknowledged));
        self.streams.push(stream);
    }

    /// Tells the client what changes. Returns when the client cannot be told any more.
    async fn run(&mut self) -> Error {
        let mut collected = Kinds::default();
        let mut due: Option<Instant> = None;
        let mut last: Option<Instant> = None;
        loop {
            let pending = Arc::clone(&self.pending);
            tokio::select! {
                kinds = pending.take() => collected = collected.and(kinds),
                signal = self.signals.recv() => match signal {
                    Ok(signal) => collected = collected.and(self.kinds_of(signal)),
                    Err(broadcast::error::RecvError::Lagged(_)) => collected = Kinds::ALL,
                    Err(broadcast::error::RecvError::Closed) => return stopping(),
                },
                Some(attach) = attached(&mut self.registration) => {
                    let Attach { node, acknowledged } = attach;
                    self.listen_to(&node, acknowledged);
                }
                Some((node, ended)) = self.streams.next(), if !self.streams.is_empty() => {
                    self.note(&node, ended);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Err(error) = self.tell(std::mem::take(&mut collected)).await {
                        return error;
                    }
                    (due, last) = (None, Some(Instant::now()));
                }
            }
            if !collected.is_empty() && due.is_none() {
                let soon = Instant::now() + COLLECTED;
                due = Some(last.map_or(soon, |last| soon.max(last + APART)));
            }
        }
    }

    /// Returns the kinds that a signal concerns for this client.
    fn kinds_of(&mut self, signal: Signal) -> Kinds {
        match signal {
            Signal::Lists(kinds) => kinds,
            Signal::Class(upstream, key, kinds) => {
                let graph = self.core.graph.load();
                let own = graph
                    .member(&upstream)
                    .and_then(|member| ClassKey::of(member.node.sharing.lists, &self.request));
                match own == Some(key) {
                    true => kinds,
                    false => Kinds::default(),
                }
            }
            Signal::Members => {
                let graph = self.core.graph.load_full();
                for member in graph.members() {
                    let node = &member.node;
                    if self.hears(node) {
                        // What it announces before it has acknowledged is in its first list.
                        drop(self.attach(node));
                    }
                }
                Kinds::default()
            }
        }
    }

    async fn tell(&mut self, kinds: Kinds) -> Result<(), Error> {
        for notification in kinds.notifications() {
            if self.filter.wants(&notification) {
                self.request.notifier().notify(notification).await?;
            }
        }
        Ok(())
    }

    async fn acknowledge(&mut self, uris: &[String]) -> Result<(), Error> {
        let mut honoured = Object::try_from(self.filter.to_json())?;
        match uris.is_empty() {
            true => honoured.remove("resourceSubscriptions"),
            false => honoured.set("resourceSubscriptions", Json::from(json!(uris))),
        }
        let mut params = Object::default();
        params.set("notifications", honoured.to_json());
        let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(params.to_json()));
        self.request.notifier().notify(acknowledged).await
    }

    /// Sorts the resources of a filter by the upstream that has each. One that is hidden from the caller is as unknown as
    /// one that is not there.
    async fn by_upstream(&mut self) -> Vec<(Arc<Node>, Vec<Subscription>)> {
        if self.filter.uris().is_empty() {
            return Vec::new();
        }
        let snapshot = self.core.snapshot(&self.request).await;
        let mut sorted: BTreeMap<NodeKey, (Arc<Node>, Vec<_>)> = BTreeMap::new();
        for uri in self.filter.uris() {
            let places = super::router::visible_places(&snapshot, uri, &self.request);
            if let Some(Place { node, skill }) = places.into_iter().next() {
                let (_, uris) = sorted
                    .entry(key_of(&node))
                    .or_insert_with(|| (node, Vec::new()));
                uris.push(Subscription {
                    public: uri.clone(),
                    skill,
                });
            }
        }
        sorted.into_values().collect()
    }

    /// A listener for everything that an upstream tells this client.
    fn general(&self, node: &Arc<Node>, acknowledged: Arc<Once>) -> Request {
        let (core, node) = (Arc::clone(self.core), Arc::clone(node));
        let pending = Arc::clone(&self.pending);
        let view = self.registration.as_ref().map(|own| Arc::clone(own.view()));
        let filter = self.filter.clone();
        let owner = self.request.principal().partition();
        let seen = std::sync::atomic::AtomicBool::new(false);
        let notifier = self.request.notifier().map(move |notification| {
            let is_acknowledgement = *notification.method() == Method::ACKNOWLEDGED;
            // After a loss, what was announced meanwhile is not known.
            let again = is_acknowledgement && seen.swap(true, std::sync::atomic::Ordering::AcqRel);
            let kinds = match again {
                true => Kinds::ALL,
                false => Kinds::announced_by(notification.method()),
            };
            if is_acknowledgement {
                acknowledged.send();
            }
            if !kinds.is_empty() {
                if let Some(view) = &view {
                    view.invalidate(&node);
                }
                pending.mark(kinds);
                return None;
            }
            if is_acknowledgement || !filter.wants(&notification) {
                return None;
            }
            Some(tasks::publish_notification(
                &core,
                owner,
                &node,
                notification,
            ))
        });
        self.listen(
            notifier,
            json!({
                "toolsListChanged": true,
                "promptsListChanged": true,
                "resourcesListChanged": true,
            }),
        )
    }

    /// A listener for some resources of an upstream.
    fn subscription(
        &self,
        node: &Arc<Node>,
        uris: Vec<Subscription>,
    ) -> (Request, oneshot::Receiver<()>) {
        let (sender, acknowledged) = oneshot::channel();
        let sender = Once::new(sender);
        let own: Vec<_> = uris.iter().map(Subscription::original).collect();
        let notifier = self.request.notifier().map(move |notification| {
            if *notification.method() != Method::ACKNOWLEDGED {
                return Some(published(&uris, notification));
            }
            sender.send();
            None
        });
        let listen = self.listen(notifier, json!({ "resourceSubscriptions": own }));
        (listen.with_upstream(node.id.clone()), acknowledged)
    }

    fn listen(&self, notifier: mcp_core::Notifier, filter: serde_json::Value) -> Request {
        let mut listen = self.request.clone().with_notifier(notifier);
        listen.params_mut().set("notifications", filter.into());
        listen
    }

    /// Listens to an upstream, again after a backoff whenever it was lost. Ends when the upstream refuses permanently and
    /// when it has left the graph.
    /// A failure ends the wait for its acknowledgement.
    fn keep_listening(
        &self,
        node: &Arc<Node>,
        listen: Request,
        acknowledged: Option<Arc<Once>>,
    ) -> Stream<'a> {
        let node = Arc::clone(node);
        Box::pin(async move {
            let timing = &node.timing;
            let mut backoff = Backoff::new(2 * timing.backoff_first, timing.backoff_longest);
            loop {
                if node.is_retired() {
                    return (node, Ok(()));
                }
                let started = Instant::now();
                match node.service().oneshot(listen.clone()).await {
                    Ok(_) => {}
                    Err(error) if is_permanent(&error) => return (node, Err(error)),
                    Err(error) => {
                        tracing::debug!(upstream = %node.id, %error, "lost while listening")
                    }
                }
                if let Some(acknowledged) = &acknowledged {
                    acknowledged.send();
                }
                if started.elapsed() > timing.backoff_longest {
                    backoff.reset();
                }
                sleep(backoff.pause()).await;
            }
        })
    }
}

/// A resource that is subscribed to.
struct Subscription {
    public: String,
    skill: Option<Root>,
}

impl Subscription {
    /// Returns the upstream's own URI.
    fn original(&self) -> String {
        let own = self.skill.as_ref();
        own.and_then(|skill| skill.original_of(&self.public))
            .unwrap_or_else(|| self.public.clone())
    }
}

/// Shows the client its own URI of a resource.
fn published(uris: &[Subscription], notification: Notification) -> Notification {
    let renamed = uris.iter().filter_map(|one| one.skill.as_ref());
    let Some(params) = notification.params().cloned() else {
        return notification;
    };
    let public = renamed.fold(params, |params, skill| match skill.is_renamed() {
        true => skill.publish(&params),
        false => params,
    });
    notification.with_params(public)
}

async fn attached(registration: &mut Option<Registration>) -> Option<Attach> {
    match registration {
        Some(registration) => registration.attach.recv().await,
        None => std::future::pending().await,
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "the gateway is stopping")
}

/// Sends once.
struct Once(Mutex<Option<oneshot::Sender<()>>>);

impl Once {
    fn new(sender: oneshot::Sender<()>) -> Self {
        Self(Mutex::new(Some(sender)))
    }

    fn send(&self) {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.take() {
            // An error says that the waiter has given up.
            let _ = sender.send(());
        }
    }
}

fn is_permanent(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Answered
        | ErrorKind::Stalled
        | ErrorKind::Cancelled
        | ErrorKind::MethodNotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::Unauthenticated
        | ErrorKind::ConsentRequired => true,
        _ => error.code(mcp_core::Era::Session) == RpcCode::METHOD_NOT_FOUND,
    }
}
