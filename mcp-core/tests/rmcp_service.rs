//! An rmcp server as a service of the seam.
#![cfg(feature = "rmcp")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mcp_core::{Json, Method, Request, rmcp3::RmcpService};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult},
    service::RequestContext,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tower::ServiceExt;

/// Says what happens to its one tool.
struct Waits {
    events: mpsc::UnboundedSender<&'static str>,
    heeds: bool,
    dropped: Arc<AtomicBool>,
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl ServerHandler for Waits {
    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let _dropped = OnDrop(Arc::clone(&self.dropped));
        self.events.send("started").unwrap();
        context.ct.cancelled().await;
        self.events.send("cancelled").unwrap();
        if !self.heeds {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_secs(1)).await;
        self.events.send("tidied up").unwrap();
        Ok(CallToolResult::success(Vec::new()).into())
    }
}

fn call() -> Request {
    let params = r#"{"name":"wait","_meta":{
        "io.modelcontextprotocol/protocolVersion":"2026-07-28",
        "io.modelcontextprotocol/clientCapabilities":{}}}"#;
    Request::new(Method::TOOLS_CALL, Some(Json::parse(params).unwrap())).unwrap()
}

async fn dropped_call(heeds: bool) -> (mpsc::UnboundedReceiver<&'static str>, Arc<AtomicBool>) {
    let (events, mut seen) = mpsc::unbounded_channel();
    let dropped = Arc::<AtomicBool>::default();
    let service = RmcpService::new(Waits {
        events,
        heeds,
        dropped: Arc::clone(&dropped),
    });
    let call = tokio::spawn(service.clone().oneshot(call()));
    assert_eq!(seen.recv().await, Some("started"));
    call.abort();
    assert_eq!(seen.recv().await, Some("cancelled"));
    (seen, dropped)
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_call_is_dropped_sees_the_cancellation() {
    let (mut seen, _) = dropped_call(true).await;
    assert_eq!(seen.recv().await, Some("tidied up"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_goes_on_after_its_call_is_dropped_in_the_end() {
    let (_seen, dropped) = dropped_call(false).await;
    sleep(Duration::from_secs(4)).await;
    assert!(!dropped.load(Ordering::SeqCst));
    timeout(Duration::from_secs(2), async {
        while !dropped.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
}
