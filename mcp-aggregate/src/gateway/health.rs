//! Health of the upstreams.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, uri::Authority};
use mcp_core::UpstreamId;
use serde_json::json;
use tower_service::Service;

use super::{core::Core, member::Member};

/// Current state of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpstreamState {
    /// It has not answered yet.
    Starting,
    /// It has listed what it offers and can be reached.
    Healthy,
    /// It has listed what it offers, and was lost since or fails in part.
    Degraded,
    /// It is reachable, and lists nothing without the authorization of a user.
    Guarded,
    /// It does not answer.
    Unhealthy,
}

impl UpstreamState {
    /// Returns the state in lower case, as health reports and logs write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
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
    /// The upstream.
    pub id: UpstreamId,
    /// Its generation: 1, and one more for each replacement.
    pub generation: u64,
    /// Its state.
    pub state: UpstreamState,
    /// When the state began.
    pub since: SystemTime,
    /// Why it is not healthy. Holds the exit status and the tail of stderr of a process, without its secrets.
    pub error: Option<String>,
    /// How long it took to list everything, the last time.
    pub listing: Option<Duration>,
    /// Whether its entries are offered.
    pub listed: bool,
}

/// The health of all upstreams.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthReport {
    /// In the order of the graph.
    pub upstreams: Vec<UpstreamHealth>,
    /// Whether the gateway takes no new calls.
    pub draining: bool,
}

impl HealthReport {
    pub(super) fn of(core: &Core) -> Self {
        let graph = core.graph.load_full();
        Self {
            upstreams: graph.members().iter().map(health_of).collect(),
            draining: core.is_draining(),
        }
    }

    /// Returns whether calls can be served: the gateway does not drain, and an upstream is listed or awaits the
    /// authorization of users, if there are any.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let serves = |one: &UpstreamHealth| one.listed || one.state == UpstreamState::Guarded;
        !self.draining && (self.upstreams.is_empty() || self.upstreams.iter().any(serves))
    }

    /// Returns `healthy`, `degraded` (some upstreams are not healthy), `unhealthy` (none serves) or `draining`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        let well = |one: &UpstreamHealth| {
            matches!(one.state, UpstreamState::Healthy | UpstreamState::Guarded)
        };
        match (self.draining, self.is_ready()) {
            (true, _) => "draining",
            (false, false) => "unhealthy",
            (false, true) if self.upstreams.iter().all(well) => "healthy",
            (false, true) => "degraded",
        }
    }

    /// Writes the report: `status`, `ready`, and for each upstream `id`, `generation`, `state`, `sinceUnix` (seconds),
    /// `error`, `listed` and `listingMs` (milliseconds).
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let upstreams: Vec<_> = self
            .upstreams
            .iter()
            .map(|one| {
                let since = one.since.duration_since(SystemTime::UNIX_EPOCH);
                json!({
                    "id": one.id.as_str(),
                    "generation": one.generation,
                    "state": one.state.name(),
                    "sinceUnix": since.map(|since| since.as_secs()).unwrap_or_default(),
                    "error": one.error,
                    "listed": one.listed,
                    "listingMs": one.listing.map(|listing| listing.as_millis()),
                })
            })
            .collect();
        json!({ "status": self.status(), "ready": self.is_ready(), "upstreams": upstreams })
    }
}

fn health_of(member: &Arc<Member>) -> UpstreamHealth {
    let status = member.status();
    UpstreamHealth {
        id: member.node.id.clone(),
        generation: member.node.generation,
        state: status.state,
        since: status.since,
        error: status.error.map(|error| error.message().to_owned()),
        listing: status.took,
        listed: status.listing.is_some(),
    }
}

/// Reports health over HTTP: `…/live` says that the process answers, `…/ready` whether calls can be served (503 where they
/// cannot), and every other path gives the report of all upstreams ([`HealthReport::to_json`]).
///
/// Requests for a host that is not a loopback address are refused with 403, so that a page in a browser cannot read the
/// report by DNS rebinding; [`with_allowed_host`](Self::with_allowed_host) allows others.
///
/// # Security
///
/// The report names upstreams and the tail of stderr of processes. Serve it to operators only.
#[derive(Clone)]
pub struct HealthService {
    core: Arc<Core>,
    hosts: Arc<[Authority]>,
    any_host: bool,
}

impl HealthService {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            hosts: Arc::default(),
            any_host: false,
        }
    }

    /// Allows requests for a host, with or without a port.
    #[must_use]
    pub fn with_allowed_host(mut self, host: Authority) -> Self {
        self.hosts = self.hosts.iter().cloned().chain([host]).collect();
        self
    }

    /// Allows requests for every host, for probes that call the address of a container.
    #[must_use]
    pub fn insecure_allow_any_host(mut self) -> Self {
        self.any_host = true;
        self
    }

    fn allows(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            // RFC 9112, section 3.2: one Host. HTTP/2 may have it in the URI only, which browsers do not forge.
            return headers.get(header::HOST).is_none();
        };
        let host = host.to_str().ok().and_then(|host| host.parse().ok());
        let Some(host): Option<Authority> = host else {
            return false;
        };
        if host.as_str().contains('@') {
            return false;
        }
        is_loopback(host.host())
            || self.hosts.iter().any(|allowed| {
                let same_port = allowed.port().is_none() || allowed.port() == host.port();
                same_port && allowed.host().eq_ignore_ascii_case(host.host())
            })
    }

    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<String> {
        if !self.any_host && !self.allows(headers) {
            let error =
                json!({ "error": "the host is not allowed; allow it with with_allowed_host" });
            return respond(StatusCode::FORBIDDEN, &error);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refusal = Response::new(String::new());
            *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            refusal
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        let report = HealthReport::of(&self.core);
        match path.rsplit('/').next() {
            Some("live") => respond(StatusCode::OK, &json!({ "status": "live" })),
            Some("ready") if report.is_ready() => {
                respond(StatusCode::OK, &json!({ "status": "ready" }))
            }
            Some("ready") => respond(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({ "status": "not_ready" }),
            ),
            _ => respond(StatusCode::OK, &report.to_json()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address: Result<std::net::IpAddr, _> = bare.parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn respond(status: StatusCode, body: &serde_json::Value) -> Response<String> {
    let mut response = Response::new(body.to_string());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

impl<B> Service<Request<B>> for HealthService {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        ready(Ok(self.answer(request.method(), path, request.headers())))
    }
}

impl fmt::Debug for HealthService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthService")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(state: UpstreamState, listed: bool) -> UpstreamHealth {
        UpstreamHealth {
            id: UpstreamId::new("up").unwrap(),
            generation: 1,
            state,
            since: SystemTime::UNIX_EPOCH,
            error: None,
            listing: None,
            listed,
        }
    }

    #[test]
    fn ready_means_that_calls_can_be_served() {
        use UpstreamState::{Degraded, Guarded, Healthy, Starting, Unhealthy};
        for (upstreams, draining, ready, status) in [
            (vec![], false, true, "healthy"),
            (vec![one(Starting, false)], false, false, "unhealthy"),
            (vec![one(Healthy, true)], false, true, "healthy"),
            (vec![one(Guarded, false)], false, true, "healthy"),
            (
                vec![one(Healthy, true), one(Starting, false)],
                false,
                true,
                "degraded",
            ),
            (vec![one(Degraded, true)], false, true, "degraded"),
            (vec![one(Unhealthy, false)], false, false, "unhealthy"),
            (vec![one(Healthy, true)], true, false, "draining"),
        ] {
            let report = HealthReport {
                upstreams,
                draining,
            };
            assert_eq!(
                (report.is_ready(), report.status()),
                (ready, status),
                "{report:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_page_that_rebinds_a_name_reads_nothing() {
        let running = crate::Gateway::builder("gw").build().unwrap().start();
        let service = running.health_service();
        let allowing = service
            .clone()
            .with_allowed_host(Authority::from_static("gw.example"));
        let status = |service: &HealthService, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            service.answer(&Method::GET, "/health", &headers).status()
        };
        for (hosts, expected) in [
            (&["localhost:8080"][..], 200),
            (&["127.0.0.1"], 200),
            (&["[::1]:80"], 200),
            (&["evil.example"], 403),
            (&["localhost:80@evil.example"], 403),
            (&["localhost", "evil.example"], 403),
        ] {
            assert_eq!(status(&service, hosts), expected, "{hosts:?}");
        }
        assert_eq!(status(&service, &["gw.example"]), 403);
        assert_eq!(status(&allowing, &["gw.example:443"]), 200);
        assert_eq!(
            status(&service.insecure_allow_any_host(), &["evil.example"]),
            200
        );
    }
}
