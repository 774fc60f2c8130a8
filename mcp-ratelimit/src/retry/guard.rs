use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mcp_core::{ConfigError, Error, ErrorClass, ErrorKind, Json, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::loops::{Loops, Stuck};
use crate::keys::{Key, call_key, random_secret};

const MOST_CALLS: usize = 10_000;

/// Applies a [`LoopGuard`].
#[must_use]
#[derive(Clone)]
pub struct LoopGuardLayer {
    shared: Arc<Shared>,
    tool_errors: bool,
}

struct Shared {
    loops: Mutex<Loops>,
    /// Whether there is anything to look for: in good times nothing is hashed.
    any: AtomicBool,
    secret: [u64; 2],
}

impl LoopGuardLayer {
    /// Answers a tool call at once after `failures` permanent failures, for one principal and with the
    /// same arguments, until it was left alone for `pause`. Remembers at most 10,000 such calls.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for zero failures or no pause.
    pub fn new(failures: u32, pause: Duration) -> Result<Self, ConfigError> {
        if failures == 0 || pause.is_zero() {
            return Err(ConfigError::new(
                "loop_guard",
                format!("{failures} failures, {pause:?}"),
                "use at least one failure and a pause above zero",
            ));
        }
        let shared = Shared {
            loops: Mutex::new(Loops::new(failures, pause, MOST_CALLS)),
            any: AtomicBool::new(false),
            secret: random_secret(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            tool_errors: false,
        })
    }

    /// Counts a tool's own errors (`isError`) too. By default results are not looked into.
    pub const fn with_tool_errors(mut self) -> Self {
        self.tool_errors = true;
        self
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Loops> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, request: &Request) -> Key {
        call_key(self.secret, &request.principal().partition(), request)
    }
}

impl<S> Layer<S> for LoopGuardLayer {
    type Service = LoopGuard<S>;

    fn layer(&self, inner: S) -> LoopGuard<S> {
        LoopGuard {
            inner,
            layer: self.clone(),
        }
    }
}

impl fmt::Debug for LoopGuardLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopGuardLayer")
            .field("tool_errors", &self.tool_errors)
            .finish_non_exhaustive()
    }
}

/// Stops who makes the same call without success again and again.
#[derive(Debug, Clone)]
pub struct LoopGuard<S> {
    inner: S,
    layer: LoopGuardLayer,
}

impl<S> LoopGuard<S> {
    mcp_core::inner_service!();
}

impl<S> Service<Request> for LoopGuard<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = LoopGuardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.tool().is_none() {
            return LoopGuardFuture {
                state: State::Forward {
                    future: self.inner.call(request),
                    watch: None,
                },
            };
        }
        let shared = &self.layer.shared;
        if shared.any.load(Ordering::Acquire) {
            let key = shared.key(&request);
            if let Some(stuck) = shared.lock().check(&key, Instant::now()) {
                return LoopGuardFuture {
                    state: State::Stopped {
                        error: Some(stop(&request, &stuck)),
                    },
                };
            }
        }
        let watch = Watch {
            layer: self.layer.clone(),
            request: request.clone(),
        };
        LoopGuardFuture {
            state: State::Forward {
                future: self.inner.call(request),
                watch: Some(watch),
            },
        }
    }
}

fn stop(request: &Request, stuck: &Stuck) -> Error {
    let tool = request.tool().unwrap_or_default();
    let seconds = stuck.wait.as_secs() + u64::from(stuck.wait.subsec_nanos() > 0);
    let data = serde_json::json!({
        "kind": "repeated_failure", "tool": tool, "failures": stuck.failures, "retryAfterMs": seconds * 1000,
    });
    let message = format!(
        "this exact call of {tool} has failed {} times, the last time with: {}. It was not made again. Change the \
         arguments, use another tool or ask the user; the same call is possible again in {seconds} s",
        stuck.failures, stuck.text,
    );
    // Coming back is what this answer is meant to end, so it is no invitation to retry.
    Error::new(ErrorKind::RateLimited, message)
        .with_class(ErrorClass::Permanent)
        .with_retry_after(stuck.wait)
        .with_data(Json::from(data))
}

/// What is needed to take note of how a call went.
struct Watch {
    layer: LoopGuardLayer,
    request: Request,
}

impl Watch {
    fn note(&self, result: &Result<Response, Error>) {
        let shared = &self.layer.shared;
        let text = match result {
            Err(error)
                if error.class() == ErrorClass::Permanent
                    && error.kind() != ErrorKind::Cancelled =>
            {
                error.message()
            }
            Ok(response) if self.layer.tool_errors && response.is_tool_error() => {
                "an error of the tool's own"
            }
            Ok(_) if shared.any.load(Ordering::Acquire) => {
                let mut loops = shared.lock();
                loops.succeeded(&shared.key(&self.request));
                shared.any.store(!loops.is_empty(), Ordering::Release);
                return;
            }
            _ => return,
        };
        let mut loops = shared.lock();
        loops.failed(shared.key(&self.request), text, Instant::now());
        shared.any.store(true, Ordering::Release);
    }
}

pin_project! {
    /// The answer of a [`LoopGuard`].
    #[must_use = "futures do nothing unless polled"]
    pub struct LoopGuardFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The call is made, and watched if it is a tool's.
        Forward { #[pin] future: F, watch: Option<Watch> },
        // The call has failed too often.
        Stopped { error: Option<Error> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for LoopGuardFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forward { future, watch } => {
                let result = ready!(future.poll(cx));
                if let Some(watch) = watch.take() {
                    watch.note(&result);
                }
                Poll::Ready(result)
            }
            StateProj::Stopped { error } => {
                Poll::Ready(Err(error.take().expect("polled after it was ready")))
            }
        }
    }
}

impl<F> fmt::Debug for LoopGuardFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("retry::LoopGuardFuture")
    }
}
