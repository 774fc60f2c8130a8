//! The watcher of one upstream: lists it, listens to it, and returns to it after a backoff when it is lost.

use std::sync::Arc;

use futures_util::future::{BoxFuture, OptionFuture};
use mcp_core::{
    Backoff, Error, ErrorKind, Method, Notifier, Object, Principal, Request, Response, SessionKey,
};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceExt;

use super::{
    UpstreamState,
    core::Core,
    events::Signal,
    kinds::{Kinds, Pending},
    member::Member,
    schedule::Schedule,
};
use crate::{LifecycleState, catalogue};

/// Watches one upstream until it leaves the graph or the gateway ends.
pub(super) async fn run(core: Arc<Core>, member: Arc<Member>) {
    let leaving = member.leaving.clone();
    leaving.run_until_cancelled(watch(&core, &member)).await;
}

async fn watch(core: &Arc<Core>, member: &Arc<Member>) {
    let timing = &member.node.timing;
    let mut backoff = Backoff::new(timing.backoff_first, timing.backoff_longest);
    let session = SessionKey::new(&format!("gateway-{:032x}", rand::random::<u128>()));
    let _end = EndSession(session.clone());
    loop {
        let mut watcher = Watcher {
            core,
            member,
            schedule: Schedule::new(timing),
            listed: false,
        };
        let lost = match context(&session) {
            Ok(context) => watcher.follow(&context).await,
            Err(error) => Err(error),
        };
        if watcher.listed {
            backoff.reset();
        }
        let mut delay = backoff.pause();
        match lost {
            Ok(()) => {}
            Err(error) if wants_user(&error) => {
                // Users list it for themselves; the gateway looks from time to time whether it still answers.
                core.set_state(member, UpstreamState::Guarded, Some(error));
                delay = timing.backoff_longest;
            }
            Err(error) if member.listing().is_some() => {
                core.set_state(member, UpstreamState::Degraded, Some(error));
            }
            Err(error) => core.set_state(member, UpstreamState::Unhealthy, Some(error)),
        }
        sleep(delay).await;
    }
}

/// Returns whether the upstream is reachable but requires user authorization to list.
pub(super) fn wants_user(error: &Error) -> bool {
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
fn context(session: &SessionKey) -> Result<Request, Error> {
    Ok(Request::new(Method::DISCOVER, None)?
        .with_principal(Principal::local())
        .with_session(session.clone())
        .with_client_info(
            json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }).into(),
        ))
}

/// One connection of a watcher with its upstream.
struct Watcher<'a> {
    core: &'a Arc<Core>,
    member: &'a Arc<Member>,
    schedule: Schedule,
    /// Whether the upstream was listed over this connection.
    listed: bool,
}

impl Watcher<'_> {
    /// Listens to the upstream, lists it, and lists it again when it announces a change. Returns when it is lost.
    ///
    /// It is listed once the upstream has acknowledged the listener: what changes sooner is in the list, what changes
    /// later is announced. Listing and listening make progress together: one may hold what the other waits for.
    async fn follow(&mut self, context: &Request) -> Result<(), Error> {
        if let Some(lifecycle) = self.member.node.lifecycle() {
            lifecycle.start().await?;
        }
        let announced = Arc::new(Pending::default());
        let listen = listener(context, Arc::clone(&announced))?;
        let mut listening = OptionFuture::from(Some(self.member.node.service().oneshot(listen)));
        let mut listing: OptionFuture<BoxFuture<'_, _>> = None.into();
        let mut is_listening = true;
        let mut is_listing = false;
        let patience = Instant::now() + self.member.node.timing.settle;
        loop {
            let now = Instant::now();
            let due = self.schedule.due(now);
            if !is_listing && due.is_some_and(|due| due <= now) {
                self.schedule.begin();
                is_listing = true;
                listing = Some(Box::pin(list(self.core, self.member, context)) as BoxFuture<'_, _>)
                    .into();
            }
            tokio::select! {
                Some(ended) = &mut listening, if is_listening => {
                    is_listening = false;
                    if self.has_lost(ended)? {
                        return Ok(());
                    }
                }
                kinds = announced.take() => self.schedule.announce(kinds),
                Some(changed) = &mut listing, if is_listing => {
                    is_listing = false;
                    self.end_listing(changed?);
                }
                () = sleep_until(due.unwrap_or(patience)), if due.is_some() && !is_listing => {}
                () = sleep_until(patience), if !self.listed && !is_listing && due.is_none() => {
                    self.schedule.announce(Kinds::default());
                }
                () = stopped(self.member) => {
                    return Err(Error::new(ErrorKind::Unavailable, "the upstream has stopped"));
                }
            }
        }
    }

    /// Decides what the end of a listener means: an upstream that answered and does not listen is polled.
    fn has_lost(&mut self, ended: Result<Response, Error>) -> Result<bool, Error> {
        match ended {
            Ok(_) if self.listed => return Ok(true),
            Err(error) if !cannot_listen(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        self.schedule.poll_every(self.member.node.timing.poll);
        Ok(false)
    }

    /// Brings catalogue, classes and clients up to date with a listing.
    fn end_listing(&mut self, listed: Listed) {
        self.listed = true;
        let announced = self.schedule.end(Instant::now(), listed.is_new);
        if listed.is_new || !announced.is_empty() {
            self.member.classes.clear();
        }
        let kinds = listed.changed.and(announced);
        if !kinds.is_empty() {
            self.core.events.signal(Signal::Lists(kinds));
        }
        match listed.failure {
            Some(error) => self
                .core
                .set_state(self.member, UpstreamState::Degraded, Some(error)),
            None => self
                .core
                .set_state(self.member, UpstreamState::Healthy, None),
        }
    }
}

/// Waits until the service of an upstream has stopped by itself.
async fn stopped(member: &Member) {
    let Some(lifecycle) = member.node.lifecycle() else {
        return std::future::pending().await;
    };
    let mut state = lifecycle.state();
    let stopped = state.wait_for(|state| *state == LifecycleState::Stopped);
    if stopped.await.is_err() {
        // A lifecycle that has dropped its sender says nothing more.
        std::future::pending().await
    }
}

/// What a listing found.
struct Listed {
    /// Whether it differs from the one before.
    is_new: bool,
    /// The kinds whose public entries changed.
    changed: Kinds,
    /// Why one of the lists could not be read.
    failure: Option<Error>,
}

/// Lists an upstream and brings the catalogue up to date.
async fn list(core: &Arc<Core>, member: &Arc<Member>, context: &Request) -> Result<Listed, Error> {
    let timing = &member.node.timing;
    let started = Instant::now();
    let service = member.node.service();
    let fetch = catalogue::fetch(&service, context, timing.list);
    let mut listing = timeout(timing.start + 2 * timing.list, fetch)
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "the upstream did not list in time"))??;
    let before = member.listing();
    if let Some(before) = &before {
        listing = listing.keeping(before);
    }
    let failure = listing.failures().next().map(|(kind, error)| {
        let text = format!("{}: {}", kind.method(), error.message());
        Error::new(ErrorKind::BadUpstream, text).with_source(error.clone())
    });
    let listing = core.interner.intern(listing);
    let is_new = before.is_none_or(|before| !before.is_same(&listing));
    member.set_listing(listing, started.elapsed());
    Ok(Listed {
        is_new,
        changed: match is_new {
            true => core.recompose(),
            false => Kinds::default(),
        },
        failure,
    })
}

/// A call that listens for list changes. Its notifications go no further than `announced`.
fn listener(context: &Request, announced: Arc<Pending>) -> Result<Request, Error> {
    let notifier = Notifier::none().map(move |notification| {
        let method = notification.method();
        let kinds = Kinds::announced_by(method);
        if !kinds.is_empty() || *method == Method::ACKNOWLEDGED {
            announced.mark(kinds);
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
    Ok(
        Request::from_object(Method::SUBSCRIPTIONS_LISTEN, Some(params))?
            .with_context_of(context)
            .with_notifier(notifier),
    )
}

/// Whether an upstream has answered that it does not listen, whatever its error: it can still be listed.
fn cannot_listen(error: &Error) -> bool {
    error.kind() == ErrorKind::Answered
        || error.code(mcp_core::Era::Session) == mcp_core::RpcCode::METHOD_NOT_FOUND
}
