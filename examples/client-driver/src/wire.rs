//! The exchanges over HTTP that a client is made of.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use http_body_util::BodyExt as _;
use mcp_core::{
    http_client::{GuardedClient, IncomingBody},
    sse::EventReader,
};
use serde_json::{Value, json};

use crate::{Outcome, browser::Browser, sample};

/// Where messages go, and in which session.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) http: GuardedClient,
    pub(crate) url: Uri,
    pub(crate) version: HeaderValue,
    pub(crate) session: Option<HeaderValue>,
    pub(crate) authorization: Option<HeaderValue>,
    /// Whose browser opens addresses.
    pub(crate) user: String,
}

impl Wire {
    /// Posts a message.
    pub(crate) async fn post(
        &self,
        message: &Value,
        extra: HeaderMap,
    ) -> Outcome<http::Response<IncomingBody>> {
        let body = message.to_string().into();
        self.send(Method::POST, body, extra).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        body: Bytes,
        extra: HeaderMap,
    ) -> Outcome<http::Response<IncomingBody>> {
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        headers.insert("mcp-protocol-version", self.version.clone());
        if let Some(session) = &self.session {
            headers.insert("mcp-session-id", session.clone());
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        headers.extend(extra);
        Ok(self.http.request(request).await?)
    }

    /// Reads events until the answer to a call or the end, and answers the server-initiated requests among them.
    pub(crate) async fn follow(&self, mut body: IncomingBody, call: Option<u64>) -> Outcome<Value> {
        let mut reader = EventReader::new(1 << 20);
        loop {
            while let Some(event) = reader.next_event()? {
                let data = event.data.filter(|data| !data.is_empty());
                let Some(data) = data else { continue };
                let message: Value = serde_json::from_slice(&data)?;
                match message["method"].as_str() {
                    None if call.is_some_and(|id| message["id"] == id) => return Ok(message),
                    Some(method) if message.get("id").is_some() => {
                        self.answer(method, &message).await?;
                    }
                    _ => {}
                }
            }
            let frame = body.frame().await;
            if let Ok(data) = frame.ok_or("the stream has ended")??.into_data() {
                reader.push(&data);
            }
        }
    }

    async fn answer(&self, method: &str, question: &Value) -> Outcome<()> {
        let result = self.reply(method, &question["params"]).await?;
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
        self.post(&answer, HeaderMap::new()).await?;
        Ok(())
    }

    /// Answers a server-initiated request: opens addresses, and accepts everything else.
    pub(crate) async fn reply(&self, method: &str, params: &Value) -> Outcome<Value> {
        let address = params["url"].as_str().filter(|_| params["mode"] == "url");
        let Some(address) = address else {
            return Ok(sample::answer(method, params));
        };
        let page = Browser::new(&self.user)?.visit(address).await?;
        let action = if page.status.is_success() {
            "accept"
        } else {
            "cancel"
        };
        Ok(json!({ "action": action }))
    }
}
