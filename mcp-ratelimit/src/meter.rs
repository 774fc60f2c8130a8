//! Counts calls, times them and tells how they end, through the `metrics` facade.
//!
//! Nothing is exported and no recorder is installed here: without one this layer costs next to nothing. With
//! one, it costs no allocation per call; every label has a bounded set of values.
//!
//! | Name | Kind | Labels |
//! |---|---|---|
//! | `mcp_calls_total` | counter | `service`, `method`, `outcome` |
//! | `mcp_call_duration_seconds` | histogram | `service`, `method`, `outcome` |
//! | `mcp_calls_in_flight` | gauge | `service` |
//!
//! With [`MeterLayer::with_tools`] the first two have the labels `tool` and `upstream` for calls of tools: the names of so many
//! tools as are allowed, `other` for those beyond and for tools that no catalogue knows, so that callers cannot make up labels.
//! `upstream` is set inside a gateway's upstreams, and empty elsewhere. Give the histogram [`BUCKETS`] in the exporter, whose
//! own default may be a summary.
//!
//! `method` is the method's name, or `other` for one that the specification does not know. `outcome` is `ok`,
//! `tool_error` (only with [`MeterLayer::with_tool_errors`]), `transient`, `permanent`, `rate_limited`, or
//! `dropped` for a call that no one waited for. The success rate is the share of `ok`.
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

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
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

/// Upper bounds of the buckets of `mcp_call_duration_seconds` that suit calls of tools, in seconds: from 1 ms, where caches
/// answer, to 5 minutes, where persons do.
pub const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The name in labels of what has no name of its own there.
const OTHER: &str = "other";

/// Applies a [`Meter`].
#[must_use]
#[derive(Clone)]
pub struct MeterLayer {
    keys: Arc<Keys>,
    tools: Option<Arc<Tools>>,
    tool_errors: bool,
}

/// For each outcome: the counter and the histogram.
type Outcomes = [(Key, Key); OUTCOMES.len()];

struct Keys {
    service: SharedString,
    in_flight: Key,
    /// By method.
    calls: Vec<Arc<Outcomes>>,
}

/// The keys of tools that have labels of their own.
struct Tools {
    most: NonZeroUsize,
    state: RwLock<Named>,
}

#[derive(Default)]
struct Named {
    count: usize,
    /// By upstream and tool.
    by_name: HashMap<Box<str>, HashMap<Box<str>, Arc<Outcomes>>>,
}

impl Tools {
    fn find(&self, upstream: &str, tool: &str) -> Option<Arc<Outcomes>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.by_name.get(upstream)?.get(tool).map(Arc::clone)
    }

    /// The keys of a tool; beyond the most those of all others.
    fn of(&self, service: &SharedString, upstream: &str, tool: &str) -> Arc<Outcomes> {
        if let Some(found) = self.find(upstream, tool) {
            return found;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (upstream, tool) = match state.count < self.most.get() {
            true => (upstream, tool),
            false => (OTHER, OTHER),
        };
        let by_tool = state.by_name.entry(upstream.into()).or_default();
        if let Some(found) = by_tool.get(tool) {
            return Arc::clone(found);
        }
        let more = [("tool", tool), ("upstream", upstream)];
        let made = outcomes(service, "tools/call", &more);
        by_tool.insert(tool.into(), Arc::clone(&made));
        state.count += 1;
        made
    }
}

/// Makes the keys of a method.
fn outcomes(
    service: &SharedString,
    method: &'static str,
    more: &[(&'static str, &str)],
) -> Arc<Outcomes> {
    let more: Vec<_> = more
        .iter()
        .map(|(name, value)| (*name, SharedString::from(Arc::<str>::from(*value))))
        .collect();
    Arc::new(OUTCOMES.map(|outcome| {
        let labels = || {
            let mut labels = vec![
                Label::new("service", service.clone()),
                Label::from_static_parts("method", method),
                Label::from_static_parts("outcome", outcome),
            ];
            let more = more.iter().cloned();
            labels.extend(more.map(|(name, value)| Label::new(name, value)));
            labels
        };
        (
            Key::from_parts("mcp_calls_total", labels()),
            Key::from_parts("mcp_call_duration_seconds", labels()),
        )
    }))
}

impl MeterLayer {
    /// Counts under the given value of the label `service`.
    pub fn new(service: &str) -> Self {
        let service = SharedString::from(Arc::<str>::from(service));
        let calls = METHODS.map(|method| outcomes(&service, method, &[])).into();
        let in_flight = Key::from_parts(
            "mcp_calls_in_flight",
            vec![Label::new("service", service.clone())],
        );
        Self {
            keys: Arc::new(Keys {
                service,
                in_flight,
                calls,
            }),
            tools: None,
            tool_errors: false,
        }
    }

    /// Labels calls of tools by the tool and its upstream, for so many pairs of them. Default is not to: each pair makes a
    /// series for each outcome.
    pub fn with_tools(mut self, most: NonZeroUsize) -> Self {
        self.tools = Some(Arc::new(Tools {
            most,
            state: RwLock::default(),
        }));
        self
    }

    fn outcomes(&self, request: &Request) -> Arc<Outcomes> {
        if let (Some(tools), Some(tool)) = (&self.tools, request.tool()) {
            // Only whoever has a catalogue sets annotations: a made-up name has none.
            return match request.annotations() {
                Some(_) => {
                    let upstream = request.upstream().map_or("", |own| own.as_str());
                    tools.of(&self.keys.service, upstream, tool)
                }
                None => tools.of(&self.keys.service, OTHER, OTHER),
            };
        }
        let name = request.method().as_str();
        let method = METHODS.iter().position(|known| *known == name);
        Arc::clone(&self.keys.calls[method.unwrap_or(METHODS.len() - 1)])
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
    mcp_core::inner_service!();
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
        let reading = Reading {
            outcomes: self.layer.outcomes(&request),
            layer: self.layer.clone(),
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

/// One call in flight; counted when dropped, however it ended.
struct Reading {
    layer: MeterLayer,
    outcomes: Arc<Outcomes>,
    outcome: usize,
    start: Instant,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let keys = &self.layer.keys;
        let (counter, histogram) = &self.outcomes[self.outcome];
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

#[cfg(test)]
mod tests {
    use mcp_core::{Json, Method, ToolAnnotations, UpstreamId};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    fn call(tool: &str, upstream: Option<&str>, known: bool) -> Request {
        let params = Json::parse(format!(r#"{{"name":"{tool}"}}"#)).unwrap();
        let mut request = Request::new(Method::TOOLS_CALL, Some(params)).unwrap();
        if let Some(upstream) = upstream {
            request = request.with_upstream(UpstreamId::new(upstream).unwrap());
        }
        match known {
            true => request.with_annotations(ToolAnnotations::default()),
            false => request,
        }
    }

    fn labels(layer: &MeterLayer, request: &Request) -> Vec<(String, String)> {
        let outcomes = layer.outcomes(request);
        let labels = outcomes[0].0.labels();
        labels
            .map(|label| (label.key().to_owned(), label.value().to_owned()))
            .filter(|(name, _)| matches!(name.as_str(), "tool" | "upstream"))
            .collect()
    }

    #[tokio::test]
    async fn tools_have_labels_of_a_bounded_number_that_callers_cannot_make_up() {
        let own = |tool: &str, upstream: &str| {
            let own = [("tool", tool), ("upstream", upstream)];
            own.map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec()
        };
        let layer = MeterLayer::new("gw").with_tools(NonZeroUsize::new(3).unwrap());
        let of = |tool, upstream, known| labels(&layer, &call(tool, upstream, known));
        assert_eq!(of("a", Some("x"), true), own("a", "x"));
        assert_eq!(of("a", Some("y"), true), own("a", "y"));
        assert_eq!(of("a", None, true), own("a", ""));
        for n in 0..100 {
            let tool = format!("t{n}");
            let beyond = labels(&layer, &call(&tool, Some("x"), true));
            assert_eq!(beyond, own(OTHER, OTHER));
            let made_up = labels(&layer, &call(&tool, None, false));
            assert_eq!(made_up, own(OTHER, OTHER));
        }
        assert_eq!(of("a", Some("x"), true), own("a", "x"), "still");
        let list = Request::new(Method::TOOLS_LIST, None).unwrap();
        assert!(labels(&layer, &list).is_empty());
        assert!(labels(&MeterLayer::new("gw"), &call("a", None, true)).is_empty());
        let service = layer.layer(service_fn(|_: Request| async {
            Ok::<_, Error>(Response::empty())
        }));
        assert!(service.oneshot(call("a", None, true)).await.is_ok());
    }

    #[test]
    fn buckets_grow() {
        assert!(BUCKETS.is_sorted_by(|one, next| one < next));
    }
}
