//! `subscriptions/listen` over all upstreams.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use mcp_core::{
    CatalogueChange, ChangeEvent, ChangeFeed, EntryKind, Era, Error, ErrorKind, Json, Method,
    Notification, Notifier, Object, Request, Response, RpcCode, UpstreamId, pipe::Filter,
};
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{Duration, sleep, timeout},
};
use tower::ServiceExt;

use super::Core;

/// How long to wait before an upstream that was lost is listened to again: doubled each time, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long an upstream may take to acknowledge before the client is told that it is listened to.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listens until the client goes away: to changes of the catalogue, to what upstreams tell this client, and to the
/// resources that it subscribed to.
pub(super) async fn call(core: &Arc<Core>, request: Request) -> Result<Response, Error> {
    let filter = Filter::read(&request);
    let feed = core.feed.subscribe();
    let mut listening = FuturesUnordered::new();
    let mut acknowledgements = Vec::new();
    if filter.is_general() {
        for index in 0..core.upstreams.len() {
            if !core.is_shared(index, &request) {
                let (listen, acknowledged) = general(core, index, &request, &filter);
                listening.push(boxed(keep_listening(core, index, listen)));
                // One that is away is told about when it is back.
                if !core.board.is_away(index) {
                    acknowledgements.push(acknowledged);
                }
            }
        }
    }
    let mut honoured = Vec::new();
    for (index, uris) in by_upstream(core, &request, &filter).await {
        let (listen, acknowledged) = subscription(core, index, &request, &uris);
        let mut subscribed = boxed(keep_listening(core, index, listen));
        tokio::select! {
            // An upstream that refuses says so at once; one resource of one is the refusal of all.
            ended = &mut subscribed => return ended.map(|()| Response::empty()),
            _ = acknowledged => honoured.extend(uris),
        }
        listening.push(subscribed);
    }
    stand(&mut listening, acknowledgements).await;
    acknowledge(&request, &filter, &honoured).await?;
    let changes = tell_changes(core, feed, &request, &filter);
    tokio::pin!(changes);
    loop {
        tokio::select! {
            error = &mut changes => return Err(error),
            Some(ended) = listening.next(), if !listening.is_empty() => note(ended),
        }
    }
}

/// Waits until the upstreams have acknowledged, so that the client is told that it is listened to when it is. One that
/// takes longer than [`PATIENCE`] is not waited for.
async fn stand(
    listening: &mut FuturesUnordered<Listening<'_>>,
    acknowledgements: Vec<oneshot::Receiver<()>>,
) {
    let all = timeout(PATIENCE, join_all(acknowledgements));
    tokio::pin!(all);
    loop {
        tokio::select! {
            _ = &mut all => return,
            Some(ended) = listening.next(), if !listening.is_empty() => note(ended),
        }
    }
}

/// An upstream that refuses for good leaves the others.
fn note(ended: Result<(), Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an upstream is not listened to");
    }
}

type Listening<'a> = futures_util::future::BoxFuture<'a, Result<(), Error>>;

fn boxed<'a>(future: impl Future<Output = Result<(), Error>> + Send + 'a) -> Listening<'a> {
    Box::pin(future)
}

/// Sorts the resources of a filter by the upstream that has each.
async fn by_upstream(
    core: &Arc<Core>,
    request: &Request,
    filter: &Filter,
) -> BTreeMap<usize, Vec<String>> {
    let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    if filter.uris().is_empty() {
        return sorted;
    }
    let snapshot = core.snapshot(request).await;
    for uri in filter.uris() {
        if let Some(index) = snapshot.find_resource(uri).first() {
            sorted.entry(*index).or_default().push(uri.clone());
        }
    }
    sorted
}

/// A listener for everything that an upstream tells this client, and word of its acknowledgement.
fn general(
    core: &Arc<Core>,
    index: usize,
    request: &Request,
    filter: &Filter,
) -> (Request, oneshot::Receiver<()>) {
    let (sender, acknowledged) = acknowledgement();
    let (core, filter) = (Arc::clone(core), filter.clone());
    let owner = request.principal().partition();
    let facts = request.clone();
    let notifier = request.notifier().map(move |notification| {
        let acknowledged = *notification.method() == Method::ACKNOWLEDGED;
        // What was listed before the upstream listened may have changed since.
        if (acknowledged || Method::LIST_CHANGES.contains(notification.method()))
            && let Some(view) = core.known_view(&facts)
        {
            view.invalidate(index);
        }
        if acknowledged {
            sender.tell();
            return None;
        }
        // The view is kept up to date whatever the client wants to hear of it.
        if !filter.wants(&notification) {
            return None;
        }
        let id = &core.upstreams[index].id;
        Some(core.task_ids.wrap_notification(owner, id, notification))
    });
    let mut listen = request.clone().with_notifier(notifier);
    listen.params_mut().set(
        "notifications",
        Json::from(json!({
            "toolsListChanged": true,
            "promptsListChanged": true,
            "resourcesListChanged": true,
        })),
    );
    (listen, acknowledged)
}

/// A listener for some resources of an upstream, and word of its acknowledgement.
fn subscription(
    core: &Arc<Core>,
    index: usize,
    request: &Request,
    uris: &[String],
) -> (Request, oneshot::Receiver<()>) {
    let (sender, acknowledged) = acknowledgement();
    let notifier = request.notifier().map(move |notification| {
        if *notification.method() != Method::ACKNOWLEDGED {
            return Some(notification);
        }
        sender.tell();
        None
    });
    let mut listen = request
        .clone()
        .with_notifier(notifier)
        .with_upstream(core.upstreams[index].id.clone());
    let filter = json!({ "resourceSubscriptions": uris });
    listen.params_mut().set("notifications", filter.into());
    (listen, acknowledged)
}

/// Tells once that an upstream has acknowledged.
struct Acknowledgement(Mutex<Option<oneshot::Sender<()>>>);

fn acknowledgement() -> (Acknowledgement, oneshot::Receiver<()>) {
    let (sender, acknowledged) = oneshot::channel();
    (Acknowledgement(Mutex::new(Some(sender))), acknowledged)
}

impl Acknowledgement {
    fn tell(&self) {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.take() {
            // Whoever waited may be gone.
            let _ = sender.send(());
        }
    }
}

/// Listens to an upstream, again whenever it was lost. Ends when the upstream refuses for good.
async fn keep_listening(core: &Arc<Core>, index: usize, listen: Request) -> Result<(), Error> {
    let mut pause = AGAIN.0;
    loop {
        let service = core.upstreams[index].service.clone();
        let started = tokio::time::Instant::now();
        match service.oneshot(listen.clone()).await {
            Ok(_) => {}
            Err(error) if is_for_good(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "lost while listening"),
        }
        if started.elapsed() > AGAIN.1 {
            pause = AGAIN.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

fn is_for_good(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Answered => true,
        ErrorKind::Stalled
        | ErrorKind::Cancelled
        | ErrorKind::MethodNotFound
        | ErrorKind::PermissionDenied
        | ErrorKind::Unauthenticated
        | ErrorKind::ConsentRequired => true,
        _ => error.code(Era::Session) == RpcCode::METHOD_NOT_FOUND,
    }
}

async fn acknowledge(request: &Request, filter: &Filter, uris: &[String]) -> Result<(), Error> {
    let mut honoured = match Object::try_from(filter.to_json()) {
        Ok(filter) => filter,
        Err(error) => return Err(error.into()),
    };
    match uris.is_empty() {
        true => honoured.remove("resourceSubscriptions"),
        false => honoured.set("resourceSubscriptions", Json::from(json!(uris))),
    }
    let mut params = Object::default();
    params.set("notifications", honoured.to_json());
    let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(params.to_json()));
    request.notifier().notify(acknowledged).await
}

/// Tells the client of changes of the catalogue. Ends when the client is gone or the gateway stops.
async fn tell_changes(
    core: &Arc<Core>,
    mut feed: mcp_core::ChangeStream,
    request: &Request,
    filter: &Filter,
) -> Error {
    loop {
        let everything = |_: EntryKind| true;
        let told = match feed.recv().await {
            None => return Error::new(ErrorKind::Unavailable, "the gateway is stopping"),
            Some(ChangeEvent::Changed(change)) => {
                outdate(core, request, |id| {
                    let mut changed = change.entries.iter();
                    changed.any(|entry| entry.upstream.as_ref() == Some(id))
                });
                tell(request.notifier(), filter, |kind| {
                    CatalogueChange::touches(&change, kind)
                })
                .await
            }
            Some(_) => {
                outdate(core, request, |_| true);
                tell(request.notifier(), filter, everything).await
            }
        };
        if let Err(error) = told {
            return error;
        }
    }
}

/// Has what changed for everybody listed anew for a client with lists of its own: the upstream may tell that client later
/// than the gateway, and the client reads its lists as soon as it is told.
fn outdate(core: &Arc<Core>, request: &Request, changed: impl Fn(&UpstreamId) -> bool) {
    // Whoever has no view yet will read everything anew.
    let Some(view) = core.known_view(request) else {
        return;
    };
    for (index, upstream) in core.upstreams.iter().enumerate() {
        if !core.is_shared(index, request) && changed(&upstream.id) {
            view.invalidate(index);
        }
    }
}

async fn tell(
    notifier: &Notifier,
    filter: &Filter,
    touches: impl Fn(EntryKind) -> bool,
) -> Result<(), Error> {
    let resources = touches(EntryKind::Resource) || touches(EntryKind::ResourceTemplate);
    for (touched, method) in [
        (touches(EntryKind::Tool), Method::TOOLS_CHANGED),
        (touches(EntryKind::Prompt), Method::PROMPTS_CHANGED),
        (resources, Method::RESOURCES_CHANGED),
    ] {
        let notification = Notification::new(method, None);
        if touched && filter.wants(&notification) {
            notifier.notify(notification).await?;
        }
    }
    Ok(())
}
