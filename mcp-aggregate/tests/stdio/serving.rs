//! Processes that serve, well and badly, one beside another.

use mcp_aggregate::{SessionScope, connector::stdio::StdioConnector};
use mcp_core::{ErrorKind, Method};
use serde_json::json;
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::fixture::{Client, PATIENCE, shell, shell_with};

/// Counts its calls, in a process for each session.
fn counting() -> StdioConnector {
    let script = r#"
    other() { case $line in *tools/call*) calls=$((${calls:-0} + 1)); text "call $calls" ;; esac; }
    serve"#;
    shell_with(script, |builder| builder.scope(SessionScope::PerSession))
}

/// A server that does something when its tool is called.
fn bad(act: &str) -> StdioConnector {
    shell(&format!(
        "other() {{ case $line in *tools/call*) {act} ;; esac; }}; serve"
    ))
}

#[tokio::test]
async fn each_session_has_a_process_of_its_own() {
    let connector = counting();
    let (alice, bob) = (Client::new("alice"), Client::new("bob"));
    for (client, text) in [(&alice, "call 1"), (&alice, "call 2"), (&bob, "call 1")] {
        assert_eq!(client.text(&connector).await, text);
    }
    connector.shutdown().await;
}

#[tokio::test]
async fn long_messages_pass_in_both_directions() {
    let connector = bad(r#"long=$(printf '%0200000d' 7); text "${#line} $long""#);
    let text = "x".repeat(200_000);
    let params = json!({ "name": "t", "arguments": { "text": text } });
    let call = Client::new("a").request(Method::TOOLS_CALL, params);
    let answer = timeout(PATIENCE, connector.clone().oneshot(call));
    let answer = answer.await.expect("no hang").unwrap();
    assert!(answer.result().len() > 200_000);
    let seen: usize = {
        let text = answer.result().as_str();
        let digits = text.split(r#""text":""#).nth(1).unwrap();
        digits.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(seen > 200_000, "{seen}");
    connector.shutdown().await;
}

#[tokio::test]
async fn lines_that_are_no_messages_and_answers_to_no_call_are_passed_over() {
    for before in [
        "echo 'Traceback: not JSON'; echo '{'",
        r#"echo '{"jsonrpc":"2.0","id":424242,"result":{}}'"#,
        r#"echo '{"level":30,"msg":"a line of a log","id":1}'"#,
        "printf '\\377\\n\\n  \\n'",
    ] {
        let connector = bad(&format!("{before}; text right; text late"));
        let client = Client::new("a");
        for _ in 0..2 {
            assert_eq!(client.text(&connector).await, "right", "{before}");
        }
        connector.shutdown().await;
    }
}

#[tokio::test]
async fn a_process_that_ends_in_the_middle_of_an_answer_fails_the_call() {
    let connector = bad(r#"printf '{"jsonrpc":"2.0","id":'; exit 5"#);
    let error = Client::new("a").call(&connector).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("exit status: 5"), "{error}");
    connector.shutdown().await;
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_at_the_server() {
    // The tool never answers; the cancellation makes the next call say so.
    let script = r#"
    other() {
      case $line in
        *notifications/cancelled*) cancelled=yes ;;
        *hang*) : ;;
        *tools/call*) text "cancelled: ${cancelled:-no}" ;;
      esac
    }
    serve"#;
    let (connector, client) = (shell(script), Client::new("a"));
    assert_eq!(client.text(&connector).await, "cancelled: no");
    let hang = client.request(Method::TOOLS_CALL, json!({ "name": "hang" }));
    let mut hanging = Box::pin(connector.clone().oneshot(hang));
    while futures_util::poll!(&mut hanging).is_pending() {
        // Calls are written in order: once this is answered the server has seen the other.
        if client.text(&connector).await == "cancelled: no" {
            break;
        }
    }
    drop(hanging);
    let cancelled = async { while client.text(&connector).await != "cancelled: yes" {} };
    timeout(PATIENCE, cancelled).await.expect("it is cancelled");
    connector.shutdown().await;
}

#[tokio::test]
async fn a_process_that_floods_harms_no_other() {
    let flood = bad(
        r#"while :; do printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}\n'; done"#,
    );
    let good = counting();
    let (client, other) = (Client::new("a"), Client::new("b"));
    let params = json!({ "name": "t", "_meta": { "progressToken": 7 } });
    let call = client.request(Method::TOOLS_CALL, params);
    let flooded = tokio::spawn(flood.clone().oneshot(call));
    for round in 1..=20 {
        assert_eq!(other.text(&good).await, format!("call {round}"));
    }
    flooded.abort();
    timeout(PATIENCE, flood.shutdown())
        .await
        .expect("it is stopped");
    good.shutdown().await;
}
