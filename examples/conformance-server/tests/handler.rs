//! The handler behind rmcp's own client, without a network.

use std::num::NonZeroUsize;

use conformance_server::{Fixture, FixtureOptions};
use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, object},
    service::RunningService,
};
use serde_json::json;

async fn connect(fixture: &Fixture) -> RunningService<RoleClient, ()> {
    let (server_end, client_end) = tokio::io::duplex(64 * 1024);
    let handler = fixture.handler();
    tokio::spawn(async move {
        let service = handler
            .serve(server_end)
            .await
            .expect("the handshake works");
        service.waiting().await.expect("the server does not panic");
    });
    ().serve(client_end).await.expect("the handshake works")
}

async fn text_of(client: &RunningService<RoleClient, ()>, name: &'static str) -> String {
    let result = client
        .call_tool(CallToolRequestParams::new(name))
        .await
        .expect("the tool is there");
    result.content[0]
        .as_text()
        .expect("it answers text")
        .text
        .clone()
}

#[tokio::test]
async fn pages_hold_every_entry_once() {
    let whole = connect(&Fixture::new(FixtureOptions::default())).await;
    let paged = FixtureOptions::default().with_page_size(NonZeroUsize::new(3));
    let paged = connect(&Fixture::new(paged)).await;

    let tools = whole.list_all_tools().await.unwrap();
    assert_eq!(paged.list_all_tools().await.unwrap(), tools);
    assert_eq!(paged.list_tools(None).await.unwrap().tools.len(), 3);
    assert_eq!(
        paged.list_all_resources().await.unwrap(),
        whole.list_all_resources().await.unwrap()
    );
    assert_eq!(
        paged.list_all_prompts().await.unwrap(),
        whole.list_all_prompts().await.unwrap()
    );
}

#[tokio::test]
async fn the_counter_belongs_to_the_session() {
    let fixture = Fixture::new(FixtureOptions::default());
    let (one, two) = (connect(&fixture).await, connect(&fixture).await);
    assert_eq!(text_of(&one, "session_counter").await, "1");
    assert_eq!(text_of(&one, "session_counter").await, "2");
    assert_eq!(text_of(&two, "session_counter").await, "1");
}

#[tokio::test]
async fn lists_are_the_same_for_all_sessions() {
    let fixture = Fixture::new(FixtureOptions::default());
    let (one, two) = (connect(&fixture).await, connect(&fixture).await);
    let before = two.list_all_tools().await.unwrap().len();
    assert_eq!(text_of(&one, "test_trigger_tool_change").await, "on");
    assert_eq!(two.list_all_tools().await.unwrap().len(), before + 1);
    assert_eq!(
        text_of(&two, "extra_tool").await,
        "This tool was switched on."
    );
    assert_eq!(text_of(&one, "test_trigger_tool_change").await, "off");
    assert!(
        two.call_tool(CallToolRequestParams::new("extra_tool"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn errors_keep_code_and_data() {
    let client = connect(&Fixture::new(FixtureOptions::default())).await;
    let arguments = object(json!({ "code": 4711, "message": "no", "data": { "why": [1] } }));
    let call = CallToolRequestParams::new("protocol_error").with_arguments(arguments);
    let error = client.call_tool(call).await.unwrap_err();
    let rmcp::ServiceError::McpError(error) = error else {
        panic!("not a JSON-RPC error: {error}");
    };
    assert_eq!((error.code.0, error.message.as_ref()), (4711, "no"));
    assert_eq!(error.data, Some(json!({ "why": [1] })));
}
