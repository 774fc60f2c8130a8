use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcp_core::{Json, Method, Object, Request, Response, ResultType, UpstreamId};
use tokio::time::Instant;

/// What a cached answer is about, for invalidation.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    pub(super) method: Method,
    pub(super) name: Option<Arc<str>>,
    pub(super) upstream: Option<UpstreamId>,
}

impl Topic {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            name: request.name().map(Arc::from),
            upstream: request.upstream().cloned(),
        }
    }
}

/// One cached answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) response: Response,
    pub(super) topic: Topic,
    pub(super) stored: Instant,
    pub(super) fresh_for: Duration,
    /// The answer as it was told last, and how many seconds old it was; none where it does not say how long it may be kept.
    told: Option<Mutex<(u64, Response)>>,
    /// Whether someone fetches a new one already.
    pub(super) refreshing: AtomicBool,
}

impl Entry {
    pub(super) fn new(
        mut response: Response,
        topic: Topic,
        now: Instant,
        fresh_for: Duration,
    ) -> Self {
        response.extensions_mut().clear();
        let says = response.result().member("ttlMs").is_some();
        Self {
            told: says.then(|| Mutex::new((0, response.clone()))),
            response,
            topic,
            stored: now,
            fresh_for,
            refreshing: AtomicBool::new(false),
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored)
    }

    /// For how long it has been stale; `None` while it is fresh.
    pub(super) fn stale_for(&self, now: Instant) -> Option<Duration> {
        let age = self.age(now);
        (age >= self.fresh_for).then(|| age - self.fresh_for)
    }

    /// The answer, with a `ttlMs` that tells what is left of it, to the second.
    pub(super) fn serve(&self, now: Instant) -> Response {
        let age = self.age(now);
        if age < Duration::from_secs(1) {
            return self.response.clone();
        }
        let Some(told) = &self.told else {
            return self.response.clone();
        };
        // Never more than is left.
        let seconds = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.0 != seconds {
            *told = (seconds, self.with_rest(Duration::from_secs(seconds)));
        }
        told.1.clone()
    }

    fn with_rest(&self, age: Duration) -> Response {
        let Ok(mut result) = Object::index(self.response.result()) else {
            return self.response.clone();
        };
        let left = self.fresh_for.saturating_sub(age).as_millis();
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        result.set("ttlMs", Json::from(serde_json::json!(left)));
        self.response.clone().with_result(result.to_json())
    }

    pub(super) fn weight(&self) -> u32 {
        let name = self.topic.name.as_ref().map_or(0, |name| name.len());
        let copies = 1 + usize::from(self.told.is_some());
        u32::try_from(self.response.result().len() * copies + name + 256).unwrap_or(u32::MAX)
    }
}

/// What an answer says about how long it may be kept (revision 2026-07-28, "Caching").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hints {
    pub(super) ttl: Duration,
    pub(super) public: bool,
}

impl Hints {
    pub(super) fn of(response: &Response) -> Self {
        let result = response.result();
        let millis = result
            .member("ttlMs")
            .and_then(|ttl| ttl.decode::<f64>().ok());
        let ttl = millis
            .filter(|ms| *ms > 0.0)
            .map_or(0, |ms| ms.min(1e15) as u64);
        let public = result
            .member("cacheScope")
            .is_some_and(|scope| scope.as_str() == "\"public\"");
        Self {
            ttl: Duration::from_millis(ttl),
            public,
        }
    }
}

/// Whether a method's answers say how long they may be kept.
pub(super) fn has_hints(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// Whether an answer is one that may be kept at all.
pub(super) fn is_final(request_is_tool: bool, response: &Response) -> bool {
    *response.result_type() == ResultType::Complete
        && !(request_is_tool && response.is_tool_error())
}
