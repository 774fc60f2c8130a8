//! A server of the session era in a few lines of shell, and its client.

use std::time::Duration;

use mcp_aggregate::connector::stdio::{Command, StdioConnector, StdioConnectorBuilder};
use mcp_core::{
    Error, Json, Method, Principal, ProtocolVersion, Request, Response, SessionKey, UpstreamId,
};
use tokio::time::timeout;
use tower::ServiceExt as _;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Functions for scripts: `answer` and `refuse` take JSON, `shake_hands` fails for what it does not answer, and `serve`
/// gives each other line to `other`.
const PRELUDE: &str = r#"
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
refuse() { printf '{"jsonrpc":"2.0","id":%s,"error":%s}\n' "$id" "$1"; }
shake_hands() {
  case $line in
    *'"method":"server/discover"'*) refuse '{"code":-32601,"message":"no such method"}' ;;
    *'"method":"initialize"'*)
      answer '{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *) return 1 ;;
  esac
}
text() { answer "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}]}"; }
serve() {
  while read -r line; do
    rest=${line#*'"id":'}; id=${rest%%,*}
    shake_hands || other
  done
}
"#;

/// A connector whose process runs a script.
pub(crate) fn shell(script: &str) -> StdioConnector {
    shell_with(script, |builder| builder)
}

/// The same with settings.
pub(crate) fn shell_with(
    script: &str,
    set: impl FnOnce(StdioConnectorBuilder) -> StdioConnectorBuilder,
) -> StdioConnector {
    let command = Command::new("sh").args(["-c", &format!("{PRELUDE}\n{script}")]);
    let builder = StdioConnector::builder(UpstreamId::new("up").unwrap(), command);
    set(builder).build().unwrap()
}

/// A client of the session era.
pub(crate) struct Client(pub(crate) SessionKey);

impl Client {
    pub(crate) fn new(name: &str) -> Self {
        Self(SessionKey::new(name))
    }

    pub(crate) fn request(&self, method: Method, params: serde_json::Value) -> Request {
        Request::new(method, Some(Json::from(params)))
            .unwrap()
            .with_version(ProtocolVersion::V_2025_11_25)
            .with_principal(Principal::session(&self.0))
            .with_session(self.0.clone())
    }

    /// Calls the tool `t`.
    pub(crate) async fn call(&self, connector: &StdioConnector) -> Result<Response, Error> {
        let params = serde_json::json!({ "name": "t", "arguments": {} });
        let request = self.request(Method::TOOLS_CALL, params);
        let answer = connector.clone().oneshot(request);
        timeout(PATIENCE, answer).await.expect("no hang")
    }

    /// Calls the tool `t` and returns the text that it answers.
    pub(crate) async fn text(&self, connector: &StdioConnector) -> String {
        let answer: serde_json::Value = self.call(connector).await.unwrap().decode().unwrap();
        answer["content"][0]["text"].as_str().unwrap().to_owned()
    }
}
