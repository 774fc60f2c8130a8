//! Watching one upstream: lists it, listens to it, and comes back to it.

use std::{num::NonZeroUsize, sync::Arc};

use mcp_core::{
    CatalogueChange, Error, ErrorKind, Method, NotificationStream, Notifier, Object, Principal,
    Request, Response, SessionKey,
};
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{Duration, sleep, timeout},
};
use tower::ServiceExt;

use super::{Core, health::UpstreamState};
use crate::catalogue;

/// How long to wait before an upstream that is away is tried again: doubled each time, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// How long an upstream may take to say that it tells of changes before it is listed without.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often an upstream that cannot be listened to is listed again.
const POLL: Duration = Duration::from_secs(30);

/// Watches one upstream until the task is aborted.
pub(super) async fn run(core: Arc<Core>, index: usize) {
    let mut pause = AGAIN.0;
    let session = SessionKey::new(&format!("gateway-{:032x}", rand::random::<u128>()));
    let _end = EndSession(session.clone());
    loop {
        let facts = match facts(&session) {
            Ok(facts) => facts,
            Err(error) => {
                core.board.set(index, UpstreamState::Unhealthy, Some(error));
                return;
            }
        };
        let mut listed = false;
        let lost = follow(&core, index, &facts, &mut listed).await;
        if listed {
            pause = AGAIN.0;
        }
        match lost {
            Ok(()) => {}
            Err(error) if wants_user(&error) => {
                // Users list it for themselves; whether it still answers is looked at from time to time.
                core.board.set(index, UpstreamState::Guarded, Some(error));
                pause = AGAIN.1;
            }
            Err(error) if listed => {
                core.board.set(index, UpstreamState::Degraded, Some(error));
            }
            Err(error) => {
                tracing::warn!(upstream = %core.upstreams[index].id, %error, "not listed");
                core.board.set(index, UpstreamState::Unhealthy, Some(error));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

/// Whether an upstream is there, and offers nothing to a gateway that acts for nobody.
fn wants_user(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unauthenticated | ErrorKind::ConsentRequired | ErrorKind::PermissionDenied
    )
}

/// Ends the gateway's own session with the upstream.
struct EndSession(SessionKey);

impl Drop for EndSession {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Describes the gateway as a client without capabilities.
fn facts(session: &SessionKey) -> Result<Request, Error> {
    Ok(Request::new(Method::DISCOVER, None)?
        .with_principal(Principal::local())
        .with_session(session.clone())
        .with_client_info(
            json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }).into(),
        ))
}

/// Lists an upstream and brings the catalogue up to date.
async fn list(core: &Arc<Core>, index: usize, facts: &Request) -> Result<(), Error> {
    let upstream = &core.upstreams[index];
    let started = tokio::time::Instant::now();
    let listing = timeout(
        upstream.list_timeout * 6,
        catalogue::fetch(&upstream.service, facts, upstream.list_timeout),
    )
    .await
    .map_err(|_| Error::new(ErrorKind::Timeout, "the upstream did not list in time"))??;
    core.board.listed(index, started.elapsed());
    let listing = core.interner.intern(listing);
    let before = core.base.load_full();
    let same = before
        .sources()
        .get(index)
        .and_then(|source| source.listing.as_ref())
        .is_some_and(|known| known.is_same(&listing));
    if same {
        return Ok(());
    }
    // Others may have put theirs in meanwhile.
    let mut after = None;
    core.base.rcu(|base| {
        let mut listings: Vec<_> = base
            .sources()
            .iter()
            .map(|source| source.listing.clone())
            .collect();
        listings[index] = Some(Arc::clone(&listing));
        let snapshot = core.views.compose(core, &listings);
        after = Some(Arc::clone(&snapshot));
        snapshot
    });
    if let Some(after) = after {
        let changes = after.changes_since(&before);
        if !changes.is_empty() {
            core.feed
                .publish(CatalogueChange::new(after.generation, changes));
        }
    }
    Ok(())
}

/// Listens to an upstream, lists it, and lists it again when it says that something changed. Returns when it is lost.
///
/// It is listed once the upstream has said that it tells of changes: what changes sooner is in the list, what changes
/// later is told.
async fn follow(
    core: &Arc<Core>,
    index: usize,
    facts: &Request,
    listed: &mut bool,
) -> Result<(), Error> {
    let due = Arc::new(Notify::new());
    let (listen, mut stream) = listener(facts, Arc::clone(&due))?;
    let listening = core.upstreams[index].service.clone().oneshot(listen);
    let patience = sleep(PATIENCE);
    tokio::pin!(listening, patience);
    loop {
        tokio::select! {
            ended = &mut listening => return lost(ended, core, index, facts, listed).await,
            () = due.notified() => {}
            () = &mut patience, if !*listed => {}
            // Everything is dropped on the way here.
            _ = stream.recv() => continue,
        }
        // The listener may hold what the listing waits for, such as the start of a process: both make progress.
        let listing = list(core, index, facts);
        tokio::pin!(listing);
        loop {
            tokio::select! {
                done = &mut listing => break done?,
                ended = &mut listening => return lost(ended, core, index, facts, listed).await,
                _ = stream.recv() => {}
            }
        }
        core.board.set(index, UpstreamState::Healthy, None);
        *listed = true;
    }
}

/// What follows the end of a listener: an upstream that was reached and does not listen is polled.
async fn lost(
    ended: Result<Response, Error>,
    core: &Arc<Core>,
    index: usize,
    facts: &Request,
    listed: &mut bool,
) -> Result<(), Error> {
    match ended {
        Ok(_) if *listed => Ok(()),
        Err(error) if !cannot_listen(&error) => Err(error),
        Ok(_) | Err(_) => poll(core, index, facts, listed).await,
    }
}

/// A call that listens for list changes, and what comes of it: nothing, but `due` is told when to list.
fn listener(facts: &Request, due: Arc<Notify>) -> Result<(Request, NotificationStream), Error> {
    let (notifier, stream) = Notifier::channel(NonZeroUsize::MIN.saturating_add(31));
    let notifier = notifier.map(move |notification| {
        let method = notification.method();
        if *method == Method::ACKNOWLEDGED || Method::LIST_CHANGES.contains(method) {
            due.notify_one();
        }
        None
    });
    let mut params = Object::default();
    params.set(
        "notifications",
        json!({
            "toolsListChanged": true,
            "promptsListChanged": true,
            "resourcesListChanged": true,
        })
        .into(),
    );
    let listen = Request::from_object(Method::SUBSCRIPTIONS_LISTEN, Some(params))?
        .with_context_of(facts)
        .with_notifier(notifier);
    Ok((listen, stream))
}

/// Whether an upstream has answered that it does not listen, whatever its error: it can still be listed.
fn cannot_listen(error: &Error) -> bool {
    error.kind() == ErrorKind::Answered
        || error.code(mcp_core::Era::Session) == mcp_core::RpcCode::METHOD_NOT_FOUND
}

/// Lists an upstream now and from time to time, since it does not say when something changes.
async fn poll(
    core: &Arc<Core>,
    index: usize,
    facts: &Request,
    listed: &mut bool,
) -> Result<(), Error> {
    loop {
        list(core, index, facts).await?;
        core.board.set(index, UpstreamState::Healthy, None);
        *listed = true;
        sleep(POLL).await;
    }
}
