//! Lets equal calls that are in flight at the same time share one.
//!
//! 1. Equal are calls of one principal in one session, with the same revision, scopes and client capabilities, for the same
//!    method, name, upstream and parameters (`_meta` apart). Calls of two principals, or of two sessions, are never shared; the stateless era
//!    has no sessions.
//! 2. Shared are only methods that read by definition and tools whose annotations say `readOnlyHint`, without a
//!    progress token and with a full view of lists.
//! 3. All callers get the same answer or error. Whichever caller is polled drives the call; it is cancelled when
//!    the last one has gone.
//!
//! The shared call carries the first caller's deadline and facts. All services of one layer share calls. Put it
//! outside of rate limits for upstreams, and inside of whatever decides what a principal may do.
//!
//! # Examples
//!
//! ```
//! use mcp_core::{Error, Method, Request, Response, Stack};
//! use mcp_ratelimit::coalesce::CoalesceLayer;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let service = Stack::new(service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) }))
//!     .layer(CoalesceLayer::new())
//!     .into_service();
//! service.oneshot(Request::new(Method::TOOLS_LIST, None)?).await?;
//! # Ok(()) }
//! ```

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use mcp_core::{Error, Method, Request, Response, SessionKey};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::keys::{Key, KeyHasher, identity_in, random_secret};

type Outcome = Result<Response, Error>;
type Call = Shared<BoxFuture<'static, Outcome>>;

#[derive(Default)]
struct Calls {
    under_way: HashMap<Key, (u64, WeakShared<BoxFuture<'static, Outcome>>), KeyHasher>,
    next: u64,
}

struct Board {
    calls: Mutex<Calls>,
    secret: [u64; 2],
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies a [`Coalesce`].
#[must_use]
#[derive(Clone)]
pub struct CoalesceLayer(Arc<Board>);

impl CoalesceLayer {
    /// Shares equal calls of all services that this layer makes.
    pub fn new() -> Self {
        Self(Arc::new(Board {
            calls: Mutex::default(),
            secret: random_secret(),
        }))
    }
}

impl Default for CoalesceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CoalesceLayer {
    type Service = Coalesce<S>;

    fn layer(&self, inner: S) -> Coalesce<S> {
        Coalesce {
            inner,
            layer: self.clone(),
        }
    }
}

impl fmt::Debug for CoalesceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceLayer")
            .field("under_way", &self.0.lock().under_way.len())
            .finish()
    }
}

/// Lets equal calls that are in flight at the same time share one.
#[derive(Debug, Clone)]
pub struct Coalesce<S> {
    inner: S,
    layer: CoalesceLayer,
}

impl<S> Coalesce<S> {
    mcp_core::inner_service!();
}

/// The key under which a call may be shared, if it may.
fn share_key(secret: [u64; 2], request: &Request) -> Option<Key> {
    let reads = match request.annotations() {
        Some(hints) if *request.method() == Method::TOOLS_CALL => hints.read_only == Some(true),
        _ => request.method().is_read(),
    };
    let plain = !request.is_notification()
        && request.visibility().is_all()
        && request.progress_token().is_none();
    (reads && plain).then(|| {
        // A server of the session era may answer each session as it likes.
        let session = request.session().map_or("", SessionKey::id);
        identity_in(secret, session, request)
    })
}

impl<S> Service<Request> for Coalesce<S>
where
    S: Service<Request, Response = Response, Error = Error, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let board = &self.layer.0;
        let Some(key) = share_key(board.secret, &request) else {
            return ResponseFuture {
                state: State::Alone {
                    future: self.inner.call(request),
                },
            };
        };
        let mut calls = board.lock();
        if let Some(call) = calls
            .under_way
            .get(&key)
            .and_then(|(_, call)| call.upgrade())
        {
            drop(calls);
            metrics::counter!("mcp_coalesced_total").increment(1);
            return ResponseFuture {
                state: State::Together { call },
            };
        }
        calls.next += 1;
        let entry = Entry {
            board: Arc::clone(board),
            key,
            number: calls.next,
        };
        drop(calls);
        let future = self.inner.call(request);
        let number = entry.number;
        let call = async move {
            let _entry = entry;
            future.await
        };
        let call: Call = call.boxed().shared();
        if let Some(weak) = call.downgrade() {
            board.lock().under_way.insert(key, (number, weak));
        }
        ResponseFuture {
            state: State::Together { call },
        }
    }
}

/// A place on the board, given up when the call ends or no one waits for it.
struct Entry {
    board: Arc<Board>,
    key: Key,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut calls = self.board.lock();
        if calls
            .under_way
            .get(&self.key)
            .is_some_and(|(number, _)| *number == self.number)
        {
            calls.under_way.remove(&self.key);
        }
    }
}

pin_project! {
    /// The answer of a [`Coalesce`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the call to whoever else waits for it.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The call may not be shared.
        Alone { #[pin] future: F },
        // The call is shared; boxed, since no one knows who will poll it.
        Together { call: Call },
    }
}

impl<F: Future<Output = Outcome>> Future for ResponseFuture<F> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project().state.project() {
            StateProj::Alone { future } => future.poll(cx),
            StateProj::Together { call } => call.poll_unpin(cx),
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("coalesce::ResponseFuture")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use mcp_core::{ClientCapabilities, Json, Principal};
    use tower::{ServiceExt, service_fn};

    use super::*;

    fn read(user: &str, uri: &str) -> Request {
        let params = Json::parse(format!(r#"{{"uri":"{uri}"}}"#)).unwrap();
        Request::new(Method::RESOURCES_READ, Some(params))
            .unwrap()
            .with_principal(Principal::authenticated("i", user))
    }

    #[tokio::test(start_paused = true)]
    async fn equal_calls_share_one_and_survive_who_came_first() {
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let layer = CoalesceLayer::new();
        let service = layer.layer(service_fn(move |_: Request| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, Error>(Response::new(Json::from(serde_json::json!(number))))
            }
        }));
        let call = |request| tokio::spawn(service.clone().oneshot(request));
        let first = call(read("a", "x"));
        tokio::task::yield_now().await;
        let rest: Vec<_> = [
            read("a", "x"),
            read("a", "x"),
            read("b", "x"),
            read("a", "y"),
            read("a", "x").with_principal(Principal::authenticated("i", "a").with_scopes(["more"])),
            read("a", "x").with_session(SessionKey::new("of its own")),
            read("a", "x").with_capabilities(ClientCapabilities::new(
                serde_json::json!({ "elicitation": {} }).into(),
            )),
        ]
        .map(call)
        .into();
        tokio::task::yield_now().await;
        first.abort();
        let mut answers = Vec::new();
        for call in rest {
            answers.push(call.await.unwrap().unwrap().result().as_str().to_owned());
        }
        assert_eq!(answers, ["0", "0", "1", "2", "3", "4", "5"]);
        assert!(layer.0.lock().under_way.is_empty());
        assert_eq!(
            service
                .clone()
                .oneshot(read("a", "x"))
                .await
                .unwrap()
                .result()
                .as_str(),
            "6",
            "not a cache"
        );
        let alone = call(read("a", "x"));
        tokio::task::yield_now().await;
        alone.abort();
        tokio::task::yield_now().await;
        assert!(
            layer.0.lock().under_way.is_empty(),
            "the last one to go ends the call"
        );
    }
}
