//! The driver in front of the conformance fixture.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use client_driver::{Plan, run};
use conformance_server::{Fixture, FixtureOptions, HttpOptions, router};
use serde_json::json;
use tokio::net::TcpListener;

async fn fixture() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let fixture = Fixture::new(FixtureOptions::default());
    let app = router(&fixture, &HttpOptions::default());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn questions_are_answered_in_both_eras() {
    let url = fixture().await;
    for (version, asking) in [
        ("2025-11-25", "test_elicitation"),
        ("2026-07-28", "test_input_required_result_elicitation"),
    ] {
        let context = json!({ "toolCalls": [
            { "name": "test_simple_text", "arguments": {} },
            { "name": asking, "arguments": { "message": "who?" } },
        ]});
        let plan = Plan::of_scenario("", &context);
        let used = run(&url, version, &plan).await.unwrap();
        assert_eq!(used.tools, ["test_simple_text", asking], "{version}");
    }
}

#[tokio::test]
async fn a_tool_that_is_not_there_is_an_error() {
    let url = fixture().await;
    let context = json!({ "toolCalls": [{ "name": "missing", "arguments": {} }] });
    let plan = Plan::of_scenario("", &context);
    for version in ["2025-11-25", "2026-07-28"] {
        let error = run(&url, version, &plan).await.unwrap_err();
        assert!(error.to_string().contains("-32602"), "{error}");
    }
}

#[test]
fn scenarios_have_their_plans() {
    let none = serde_json::Value::Null;
    assert_eq!(Plan::of_scenario("tools_call", &none), Plan::Everything);
    assert_eq!(
        Plan::of_scenario("json-schema-ref-no-deref", &none),
        Plan::Lists
    );
}
