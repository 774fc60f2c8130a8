//! The fixture behind the transports that serve one connection, to rmcp's own client of both eras.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    deprecated,
    reason = "MCP 2026-07-28 deprecates sampling and subscribing, and clients still use them"
)]

use std::{future::Future, sync::Arc, time::Duration};

use conformance_server::{Fixture, FixtureOptions, transport_service};
use mcp_core::{
    Principal,
    rmcp3::RmcpServer,
    transport::stdio::{StdioConfig, serve},
};
use rmcp::{
    ClientHandler, ErrorData, RoleClient, ServiceExt as _,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
        CreateMessageResult, Implementation, ProgressNotificationParam, ProtocolVersion,
        ResourceUpdatedNotificationParam, SamplingMessage, ServerNotification,
        SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams, object,
    },
    service::{
        ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RequestContext,
        RunningService, SubscriptionEnd,
    },
};
use serde_json::json;
use tokio::{
    io::DuplexStream,
    sync::{
        Mutex,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
    },
    time::timeout,
};

const WATCHED: &str = "test://watched-resource";

/// What serves the fixture on a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Transport {
    Lines,
    Rmcp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Era {
    Session,
    Stateless,
}

#[derive(Clone)]
struct Handler(UnboundedSender<String>);

impl Handler {
    fn note(&self, event: impl Into<String>) {
        let _ = self.0.send(event.into());
    }
}

impl ClientHandler for Handler {
    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let heard = params.messages.len();
        Ok(CreateMessageResult::new(
            SamplingMessage::assistant_text(format!("heard {heard}")),
            "model".to_owned(),
        ))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note(format!("progress {}", params.progress));
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.note(format!("updated {}", params.uri));
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.note("tools");
    }

    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().build();
        ClientConfig::new(capabilities, Implementation::new("test", "1"))
    }
}

struct Client {
    service: RunningService<RoleClient, Handler>,
    events: Mutex<UnboundedReceiver<String>>,
}

impl Client {
    async fn connect(transport: Transport, era: Era) -> Self {
        let fixture = Fixture::new(FixtureOptions::default());
        let (here, there) = tokio::io::duplex(64 << 10);
        start(transport, &fixture, there);
        let (sender, events) = mpsc::unbounded_channel();
        let lifecycle = match era {
            Era::Session => ClientLifecycleMode::Initialize,
            Era::Stateless => ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            },
        };
        let service = Handler(sender).serve_with_lifecycle(here, lifecycle);
        Self {
            service: service.await.unwrap(),
            events: Mutex::new(events),
        }
    }

    async fn call(&self, tool: &'static str, arguments: serde_json::Value) -> String {
        let params = CallToolRequestParams::new(tool).with_arguments(object(arguments));
        let result = self.service.call_tool(params).await.unwrap();
        result.content[0].as_text().unwrap().text.clone()
    }

    async fn event(&self) -> String {
        let mut events = self.events.lock().await;
        timeout(Duration::from_secs(5), events.recv())
            .await
            .expect("something happens")
            .unwrap()
    }
}

fn start(transport: Transport, fixture: &Fixture, there: DuplexStream) {
    let service = transport_service(fixture);
    match transport {
        Transport::Lines => {
            let (reader, writer) = tokio::io::split(there);
            tokio::spawn(serve(service, reader, writer, StdioConfig::default()));
        }
        Transport::Rmcp => {
            tokio::spawn(async move {
                let server = RmcpServer::new(service, Principal::local());
                let running = server.serve(there).await.unwrap();
                running.waiting().await.unwrap();
            });
        }
    }
}

/// Runs a check behind both transports in both eras.
async fn everywhere<F: Future<Output = ()>>(check: impl Fn(Arc<Client>, Era) -> F) {
    for transport in [Transport::Lines, Transport::Rmcp] {
        for era in [Era::Session, Era::Stateless] {
            eprintln!("{transport:?}, {era:?}");
            let client = Arc::new(Client::connect(transport, era).await);
            timeout(Duration::from_secs(30), check(client, era))
                .await
                .expect("the check ends");
        }
    }
}

#[tokio::test]
async fn lists_calls_and_errors() {
    everywhere(|client, _| async move {
        let tools = client.service.list_all_tools().await.unwrap();
        assert!(tools.iter().any(|tool| tool.name == "echo"));
        assert!(!client.service.list_all_prompts().await.unwrap().is_empty());
        let echoed = client.call("echo", json!({ "text": "é \u{1F600}" })).await;
        assert_eq!(echoed, "é \u{1F600}");
        let unknown = CallToolRequestParams::new("no_such_tool");
        assert!(client.service.call_tool(unknown).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn progress_arrives() {
    everywhere(|client, _| async move {
        let arguments = json!({ "steps": 20, "label": "step" });
        client.call("progress_steps", arguments).await;
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.push(client.event().await);
        }
        // rmcp's client hands notifications to its handler in no order.
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 20);
    })
    .await;
}

#[tokio::test]
async fn the_clients_model_is_asked() {
    everywhere(|client, _| async move {
        let answer = client.call("test_sampling", json!({ "prompt": "?" })).await;
        assert_eq!(answer, "LLM response: heard 1");
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_for_the_handler() {
    everywhere(|client, _| async move {
        let arguments = object(json!({ "key": "k", "milliseconds": 60_000 }));
        let params = CallToolRequestParams::new("slow_cancellable").with_arguments(arguments);
        let slow = tokio::spawn({
            let client = Arc::clone(&client);
            async move { client.service.call_tool(params).await }
        });
        let record = || client.call("cancellation_record", json!({ "key": "k" }));
        while record().await != "running" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slow.abort();
        while record().await != "cancelled" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn many_calls_run_side_by_side() {
    everywhere(|client, _| async move {
        let calls = (0..100).map(|number| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let text = format!("text {number}");
                assert_eq!(client.call("echo", json!({ "text": text })).await, text);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn changes_and_updates_are_told() {
    for era in [Era::Session, Era::Stateless] {
        let client = Client::connect(Transport::Lines, era).await;
        let filter = SubscriptionFilter::builder()
            .tools_list_changed()
            .resource_subscription(WATCHED)
            .build();
        match era {
            Era::Session => {
                client
                    .service
                    .subscribe(SubscribeRequestParams::new(WATCHED))
                    .await
                    .unwrap();
                client.call("test_trigger_tool_change", json!({})).await;
                client.call("update_watched_resource", json!({})).await;
                let mut told = [client.event().await, client.event().await];
                told.sort();
                assert_eq!(told[0], "tools");
                assert_eq!(told[1], format!("updated {WATCHED}"));
                client
                    .service
                    .unsubscribe(UnsubscribeRequestParams::new(WATCHED))
                    .await
                    .unwrap();
            }
            Era::Stateless => {
                let mut subscription = client.service.listen(filter).await.unwrap();
                client.call("test_trigger_tool_change", json!({})).await;
                client.call("update_watched_resource", json!({})).await;
                let told = subscription.next().await.unwrap().unwrap();
                assert!(matches!(
                    told,
                    ServerNotification::ToolListChangedNotification(_)
                ));
                let told = subscription.next().await.unwrap().unwrap();
                assert!(matches!(
                    told,
                    ServerNotification::ResourceUpdatedNotification(_)
                ));
                subscription.cancel().await.unwrap();
                assert!(matches!(
                    subscription.end(),
                    Some(SubscriptionEnd::Cancelled)
                ));
            }
        }
    }
}
