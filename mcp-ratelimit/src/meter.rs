//! Counts calls, times them and tells how they end, through the `metrics` facade.
//!
//! Nothing is exported and no recorder is installed here: without one this layer costs next to nothing. With
//! one, it costs no allocation per call; every label has a small, fixed set of values.
//!
//! | Name | Kind | Labels |
//! |---|---|---|
//! | `mcp_calls_total` | counter | `service`, `method`, `outcome` |
//! | `mcp_call_duration_seconds` | histogram | `service`, `method`, `outcome` |
//! | `mcp_calls_in_flight` | gauge | `service` |
//!
//! `method` is the method's name, or `other` for one that the specification does not know. `outcome` is `ok`,
//! `tool_error` (only with [`MeterLayer::with_tool_errors`]), `transient`, `permanent`, `rate_limited`, or
//! `dropped` for a call that nobody waited for. The success rate is the share of `ok`.
//!
//! The other layers of this crate count by themselves:
//!
//! | Name | Kind | Labels | Counts |
//! |---|---|---|---|
//! | `mcp_limit_refusals_total` | counter | `limit` | calls beyond a quota |
//! | `mcp_limit_shared_away` | gauge | `limit` | 1 while Redis does not answer for a shared limit |
//! | `mcp_queue_depth` | gauge | `queue` | calls that wait for their turn |
//! | `mcp_queue_refusals_total` | counter | `queue`, `reason` | calls turned away: `full` or `deadline` |
//! | `mcp_breaker_transitions_total` | counter | `breaker`, `to` | changes to `closed`, `open`, `half_open` |
//! | `mcp_retries_total` | counter | `kind` | tries after the first, by the kind of the error before |
//! | `mcp_hedges_total` | counter | | second calls for slow ones |
//! | `mcp_coalesced_total` | counter | | calls that shared another one |
//! | `mcp_cache_lookups_total` | counter | `result` | `hit`, `stale`, `miss` |
//! | `mcp_budget_remaining` | gauge | `service` | what is left of the account used last, in whole units |
//! | `mcp_budget_refusals_total` | counter | `service` | calls beyond a budget |
//! | `mcp_errors_not_recorded_total` | counter | | errors that a recorder could not keep |
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, Method, Request, Response, Stack};
//! use mcp_ratelimit::meter::MeterLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(MeterLayer::new("crm"))
//!     .into_service();
//! service.oneshot(Request::new(Method::PING, None)?).await?;
//! # Ok(()) }
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use mcp_core::{Error, ErrorClass, Request, Response};
use metrics::{Key, Label, Level, Metadata, SharedString, with_recorder};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const METHODS: [&str; 16] = [
    "tools/call",
    "tools/list",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "prompts/get",
    "prompts/list",
    "completion/complete",
    "ping",
    "server/discover",
    "initialize",
    "subscriptions/listen",
    "tasks/get",
    "tasks/update",
    "tasks/cancel",
    "other",
];

const OUTCOMES: [&str; 6] = [
    "ok",
    "tool_error",
    "transient",
    "permanent",
    "rate_limited",
    "dropped",
];
const DROPPED: usize = 5;

/// Applies a [`Meter`].
#[must_use]
#[derive(Clone)]
pub struct MeterLayer {
    keys: Arc<Keys>,
    tool_errors: bool,
}

struct Keys {
    in_flight: Key,
    /// For each method, for each outcome: the counter and the histogram.
    calls: Vec<[(Key, Key); OUTCOMES.len()]>,
}

impl MeterLayer {
    /// Counts under the given value of the label `service`.
    pub fn new(service: &str) -> Self {
        let service = SharedString::from(Arc::<str>::from(service));
        let labels = |method, outcome| {
            vec![
                Label::new("service", service.clone()),
                Label::from_static_parts("method", method),
                Label::from_static_parts("outcome", outcome),
            ]
        };
        let pair = |method, outcome| {
            let name = |name| Key::from_parts(name, labels(method, outcome));
            (name("mcp_calls_total"), name("mcp_call_duration_seconds"))
        };
        let calls = METHODS
            .map(|method| OUTCOMES.map(|outcome| pair(method, outcome)))
            .into();
        let in_flight = Key::from_parts(
            "mcp_calls_in_flight",
            vec![Label::new("service", service.clone())],
        );
        Self {
            keys: Arc::new(Keys { in_flight, calls }),
            tool_errors: false,
        }
    }

    /// Tells a tool's own errors (`isError`) from successes. By default results are not looked into.
    pub const fn with_tool_errors(mut self) -> Self {
        self.tool_errors = true;
        self
    }

    fn outcome(&self, result: &Result<Response, Error>) -> usize {
        match result {
            Ok(response) => usize::from(self.tool_errors && response.is_tool_error()),
            Err(error) => match error.class() {
                ErrorClass::Transient => 2,
                ErrorClass::RateLimited => 4,
                _ => 3,
            },
        }
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Meter<S> {
        Meter {
            inner,
            layer: self.clone(),
        }
    }
}

impl fmt::Debug for MeterLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterLayer")
            .field("tool_errors", &self.tool_errors)
            .finish_non_exhaustive()
    }
}

/// Counts calls, times them and tells how they end.
#[derive(Debug, Clone)]
pub struct Meter<S> {
    inner: S,
    layer: MeterLayer,
}

impl<S> Meter<S> {
    inner_service!();
}

impl<S> Service<Request> for Meter<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let name = request.method().as_str();
        let method = METHODS
            .iter()
            .position(|known| *known == name)
            .unwrap_or(METHODS.len() - 1);
        let reading = Reading {
            layer: self.layer.clone(),
            method,
            outcome: DROPPED,
            start: Instant::now(),
        };
        with_recorder(|r| {
            r.register_gauge(&self.layer.keys.in_flight, &METADATA)
                .increment(1.0)
        });
        ResponseFuture {
            future: self.inner.call(request),
            reading,
        }
    }
}

/// One call under way; counted when dropped, however it ended.
struct Reading {
    layer: MeterLayer,
    method: usize,
    outcome: usize,
    start: Instant,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let keys = &self.layer.keys;
        let (counter, histogram) = &keys.calls[self.method][self.outcome];
        let seconds = self.start.elapsed().as_secs_f64();
        with_recorder(|r| {
            r.register_gauge(&keys.in_flight, &METADATA).decrement(1.0);
            r.register_counter(counter, &METADATA).increment(1);
            r.register_histogram(histogram, &METADATA).record(seconds);
        });
    }
}

pin_project! {
    /// The answer of a [`Meter`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call counts as `dropped`.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        reading: Reading,
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ResponseFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        this.reading.outcome = this.reading.layer.outcome(&result);
        Poll::Ready(result)
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("meter::ResponseFuture")
    }
}
