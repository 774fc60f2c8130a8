//! How the upstreams are.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use mcp_core::{Error, UpstreamId};
use serde_json::json;
use tokio::sync::watch;
use tower_service::Service;

use super::Core;

/// How an upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpstreamState {
    /// It has not answered yet.
    Starting,
    /// It has listed what it offers and can be listened to.
    Healthy,
    /// It has listed what it offers, and was lost since.
    Degraded,
    /// It answers, and lists nothing without the authorisation of a user.
    Guarded,
    /// It does not answer.
    Unhealthy,
}

impl UpstreamState {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Guarded => "guarded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The health of one upstream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpstreamHealth {
    /// Which one.
    pub id: UpstreamId,
    /// How it is.
    pub state: UpstreamState,
    /// Since when.
    pub since: SystemTime,
    /// Why it is not healthy. Holds the exit status and the last words of a process, without its secrets.
    pub error: Option<String>,
    /// How long it took to list everything, the last time.
    pub listing: Option<Duration>,
}

/// The health of all upstreams.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthReport {
    /// In the order in which they were added.
    pub upstreams: Vec<UpstreamHealth>,
}

impl HealthReport {
    /// Returns whether no upstream is still starting, and at least one is healthy, if there are any.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let starting = |one: &UpstreamHealth| one.state == UpstreamState::Starting;
        let healthy = |one: &UpstreamHealth| {
            matches!(one.state, UpstreamState::Healthy | UpstreamState::Guarded)
        };
        self.upstreams.is_empty()
            || (!self.upstreams.iter().any(starting) && self.upstreams.iter().any(healthy))
    }

    fn to_json(&self) -> serde_json::Value {
        let upstreams: Vec<_> = self
            .upstreams
            .iter()
            .map(|one| {
                let since = one.since.duration_since(SystemTime::UNIX_EPOCH);
                json!({
                    "id": one.id.as_str(),
                    "state": one.state.name(),
                    "sinceUnix": since.map(|since| since.as_secs()).unwrap_or_default(),
                    "error": one.error,
                    "listingMs": one.listing.map(|listing| listing.as_millis()),
                })
            })
            .collect();
        let status = if self.is_ready() {
            "ready"
        } else {
            "not_ready"
        };
        json!({ "status": status, "upstreams": upstreams })
    }
}

/// Keeps the health of all upstreams.
pub(crate) struct Board {
    rows: Mutex<Vec<UpstreamHealth>>,
    changed: watch::Sender<()>,
}

impl Board {
    pub(crate) fn new(ids: impl Iterator<Item = UpstreamId>) -> Self {
        let since = SystemTime::now();
        let rows = ids
            .map(|id| UpstreamHealth {
                id,
                state: UpstreamState::Starting,
                since,
                error: None,
                listing: None,
            })
            .collect();
        Self {
            rows: Mutex::new(rows),
            changed: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<UpstreamHealth>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, index: usize, state: UpstreamState, error: Option<Error>) {
        if let Some(row) = self.lock().get_mut(index) {
            if row.state != state {
                row.since = SystemTime::now();
                tracing::info!(upstream = %row.id, state = state.name(), "upstream state");
            }
            row.state = state;
            row.error = error.map(|error| error.message().to_owned());
        }
        self.changed.send_replace(());
    }

    pub(crate) fn listed(&self, index: usize, took: Duration) {
        if let Some(row) = self.lock().get_mut(index) {
            row.listing = Some(took);
        }
    }

    /// Whether an upstream is known not to answer.
    pub(crate) fn is_away(&self, index: usize) -> bool {
        self.lock()
            .get(index)
            .is_some_and(|row| row.state == UpstreamState::Unhealthy)
    }

    pub(crate) fn report(&self) -> HealthReport {
        HealthReport {
            upstreams: self.lock().clone(),
        }
    }

    /// Waits until no upstream is starting any more.
    pub(crate) async fn settled(&self) {
        self.wait(|rows| rows.iter().all(|row| row.state != UpstreamState::Starting))
            .await;
    }

    /// Waits until one upstream is not starting any more.
    pub(crate) async fn settled_one(&self, index: usize) {
        self.wait(|rows| {
            rows.get(index)
                .is_none_or(|row| row.state != UpstreamState::Starting)
        })
        .await;
    }

    async fn wait(&self, done: impl Fn(&[UpstreamHealth]) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if done(&self.lock()) || changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Reports health over HTTP: `…/live` says that the process answers, `…/ready` whether upstreams do (503 where
/// they do not), and every other path gives the report of all upstreams.
///
/// # Security
///
/// The report names upstreams and the last words of processes. Serve it to operators only.
#[derive(Clone)]
pub struct HealthService(Arc<Core>);

impl HealthService {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal = Response::new(Full::default());
            *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            refusal
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let report = self.0.board.report();
        let (status, body) = match path.rsplit('/').next() {
            Some("live") => (StatusCode::OK, json!({ "status": "live" })),
            Some("ready") if report.is_ready() => (StatusCode::OK, json!({ "status": "ready" })),
            Some("ready") => (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({ "status": "not_ready" }),
            ),
            _ => (StatusCode::OK, report.to_json()),
        };
        let mut response = Response::new(Full::from(body.to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}

impl<B> Service<Request<B>> for HealthService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

impl fmt::Debug for HealthService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthService")
    }
}
