//! Spans: one for each attempt at an upstream.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use mcp_aggregate::Gateway;
use mcp_core::{Error, ErrorKind, Request};
use serde_json::json;
use tracing::{Metadata, Subscriber, span};

use crate::support::{Client, Server, start, tool};

/// Counts the spans of one name.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        if span.metadata().name() == "mcp.attempt" {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn each_attempt_at_an_upstream_has_a_span() {
    let counting = Counting::default();
    let _guard = tracing::subscriber::set_default(counting.clone());
    let failures = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&failures);
    let server = Server::new(json!({ "tools": {} }), move |request| {
        if request.tool().is_none() {
            return Ok(json!({ "tools": [tool("t")] }));
        }
        match own.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(Error::new(ErrorKind::Unavailable, "again")),
            _ => Ok(json!({ "content": [] })),
        }
    });
    // Three attempts at most.
    let retrying = tower::retry::RetryLayer::new(Thrice(2));
    let upstream = server.upstream("up").layer(retrying);
    let running = start(Gateway::builder("gw").upstream(upstream)).await;
    let before = counting.0.load(Ordering::SeqCst);
    let client = Client::session("alice");
    let called = client.call(&running, "tools/call", json!({ "name": "up__t" }));
    called.await.unwrap();
    assert_eq!(failures.load(Ordering::SeqCst), 3);
    assert_eq!(counting.0.load(Ordering::SeqCst) - before, 3);
}

#[derive(Clone)]
struct Thrice(u32);

impl tower::retry::Policy<Request, mcp_core::Response, Error> for Thrice {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        request: &mut Request,
        result: &mut Result<mcp_core::Response, Error>,
    ) -> Option<Self::Future> {
        let is_call = request.tool().is_some();
        if result.is_ok() || !is_call || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}
