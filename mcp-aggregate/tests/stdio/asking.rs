//! Processes that ask their client.

use std::num::NonZeroUsize;

use async_trait::async_trait;
use mcp_core::{Ask, Asker, Error, Json, Method, Notifier};
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::fixture::{Client, PATIENCE, shell};

/// A client with one root.
struct Roots;

#[async_trait]
impl Ask for Roots {
    async fn ask(&self, method: Method, _: Option<Json>) -> Result<Json, Error> {
        assert_eq!(method.as_str(), "roots/list");
        Ok(Json::from(
            serde_json::json!({ "roots": [{ "uri": "file:///srv" }] }),
        ))
    }
}

/// Asks for roots as soon as it may, and serves its tool only when it has them.
const ASKS_AT_ONCE: &str = r#"
other() {
  case $line in
    *'notifications/initialized'*) printf '{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n' ;;
    *'file:///srv'*) roots=known ;;
    *'tools/list'*) answer '{"tools":[]}' ;;
    *'tools/call'*) text "roots are ${roots:-unknown}" ;;
  esac
}
serve"#;

#[tokio::test]
async fn a_server_that_asks_right_after_initialized_is_answered_by_the_first_call_that_can() {
    let connector = shell(ASKS_AT_ONCE);
    let client = Client::new("a");
    // As a gateway lists for a client: there is nothing to ask it through.
    let list = client.request(Method::TOOLS_LIST, serde_json::json!({}));
    connector.clone().oneshot(list).await.unwrap();
    let (notifier, _stream) = Notifier::channel(NonZeroUsize::MIN);
    let known = async {
        loop {
            let params = serde_json::json!({ "name": "t" });
            let call = client
                .request(Method::TOOLS_CALL, params)
                .with_notifier(notifier.clone())
                .with_asker(Asker::new(Roots));
            let answer = connector.clone().oneshot(call).await.unwrap();
            if answer.result().as_str().contains("roots are known") {
                return;
            }
        }
    };
    timeout(PATIENCE, known)
        .await
        .expect("its request is answered");
    connector.shutdown().await;
}
