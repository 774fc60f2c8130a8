//! Calls of the tools as a client makes them.

use mcp_browser::{BrowserConfig, BrowserService, BrowserTools, Capability};
use mcp_core::{Method, Principal, Request, Seam, rmcp3::serve};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) async fn call(
    seam: &impl Seam,
    principal: &Principal,
    tool: &str,
    arguments: Value,
) -> Value {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} } } });
    let request = Request::encode(Method::TOOLS_CALL, &params)
        .unwrap()
        .with_principal(principal.clone());
    seam.clone()
        .oneshot(request)
        .await
        .unwrap_or_else(|error| panic!("{tool}: {error}"))
        .decode()
        .unwrap()
}

pub(crate) fn text(answer: &Value) -> &str {
    answer["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
}

pub(crate) async fn open(seam: &impl Seam, principal: &Principal, options: Value) -> String {
    let answer = call(seam, principal, "browser_create_session", options).await;
    answer["structuredContent"]["session_id"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

/// A client with one session.
pub(crate) struct Client<S> {
    pub(crate) seam: S,
    pub(crate) principal: Principal,
    pub(crate) id: String,
}

impl<S: Seam> Client<S> {
    pub(crate) async fn new(seam: S, options: Value) -> Self {
        let principal = Principal::authenticated("i", "model");
        let id = open(&seam, &principal, options).await;
        Self {
            seam,
            principal,
            id,
        }
    }

    /// Calls a tool in the session.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let mut all = json!({ "session_id": self.id });
        let own = arguments.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(own);
        call(&self.seam, &self.principal, tool, all).await
    }

    /// Calls a tool that is to succeed, and answers its texts.
    pub(crate) async fn ok(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments.clone()).await;
        assert_ne!(answer["isError"], true, "{tool} {arguments}: {answer}");
        texts(&answer)
    }

    /// Calls a tool that is to fail, and answers its texts.
    pub(crate) async fn fails(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments.clone()).await;
        assert_eq!(answer["isError"], true, "{tool} {arguments}: {answer}");
        texts(&answer)
    }

    pub(crate) async fn navigate(&self, url: &str) -> String {
        self.ok("browser_navigate", json!({ "url": url })).await
    }

    pub(crate) async fn click(&self, selector: &str) -> String {
        let click = json!({ "action": "click", "selector": selector });
        self.ok("browser_interact", click).await
    }

    /// What a resource holds.
    pub(crate) async fn read(&self, uri: &str) -> Vec<u8> {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let params = json!({ "uri": uri, "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {} } });
        let request = Request::encode(Method::RESOURCES_READ, &params).unwrap();
        let request = request.with_principal(self.principal.clone());
        let answer = self.seam.clone().oneshot(request).await.unwrap();
        let answer: Value = answer.decode().unwrap();
        let blob = answer["contents"][0]["blob"].as_str().unwrap();
        BASE64_STANDARD.decode(blob).unwrap()
    }
}

/// All texts of an answer.
pub(crate) fn texts(answer: &Value) -> String {
    let parts = answer["content"].as_array().into_iter().flatten();
    let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n")
}

/// A client of a service with everything switched on, and the service.
pub(crate) async fn client(config: BrowserConfig) -> (Client<impl Seam>, BrowserService) {
    let browsers = super::service(config.allow_uploads(100_000).allow_evaluate());
    let tools = BrowserTools::new(browsers.clone()).with(Capability::ALL);
    let seam = serve(tools).into_service();
    (Client::new(seam, json!({})).await, browsers)
}
