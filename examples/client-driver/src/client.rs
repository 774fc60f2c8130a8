//! A client over Streamable HTTP of both eras, small enough to be read at once.

use std::{collections::HashMap, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use mcp_core::{
    Json,
    http_client::GuardedClient,
    mirror::{self, Mirrors},
};
use serde_json::{Map, Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::{Outcome, wire::Wire};

/// The first revision without sessions.
const STATELESS: &str = "2026-07-28";

/// How many rounds of server-initiated requests one call may take.
const ROUNDS: usize = 8;

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    version: String,
    capabilities: Value,
    mirrors: HashMap<String, Mirrors>,
    next: u64,
    /// Whether addresses are opened when a server asks for it.
    opens: bool,
    /// Reads the standalone stream of the session.
    standalone: Option<AbortOnDropHandle<()>>,
}

/// A server's answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The method that failed.
    pub method: String,
    /// The error of the answer.
    pub error: Value,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.method, self.error)
    }
}

impl std::error::Error for Failure {}

impl Client {
    /// Connects to a server at the revision given.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not open a session.
    pub async fn open(url: &str, version: &str) -> Outcome<Self> {
        Self::open_with(url, version, false).await
    }

    /// Connects as a client that opens addresses which it is asked to, or not.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not open a session.
    pub async fn open_with(url: &str, version: &str, opens: bool) -> Outcome<Self> {
        Self::open_as(url, version, opens, None).await
    }

    /// Connects as a user, with a token of theirs. Addresses are opened in a browser of that user.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not open a session.
    pub async fn open_as(
        url: &str,
        version: &str,
        opens: bool,
        user: Option<(&str, &str)>,
    ) -> Outcome<Self> {
        let authorization = match user {
            Some((_, token)) => Some(HeaderValue::try_from(format!("Bearer {token}"))?),
            None => None,
        };
        let mut client = Self {
            wire: Wire {
                http: GuardedClient::operator(url)?,
                url: url.parse()?,
                version: HeaderValue::try_from(version)?,
                session: None,
                authorization,
                user: user.map_or("alice", |(name, _)| name).to_owned(),
            },
            opens,
            version: version.to_owned(),
            capabilities: Value::Null,
            mirrors: HashMap::new(),
            next: 1,
            standalone: None,
        };
        let opened = match client.is_stateless() {
            true => client.call("server/discover", Map::new()).await?,
            false => client.initialize().await?,
        };
        client.capabilities = opened["capabilities"].clone();
        Ok(client)
    }

    async fn initialize(&mut self) -> Outcome<Value> {
        let params = json!({
            "protocolVersion": self.version,
            "capabilities": own_capabilities(self.opens),
            "clientInfo": own_info(),
        });
        let opened = self.exchange("initialize", params).await?;
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.wire.post(&initialized, HeaderMap::new()).await?;
        self.listen().await?;
        Ok(opened)
    }

    /// Opens the standalone stream, on which a server may ask what belongs to no call.
    async fn listen(&mut self) -> Outcome<()> {
        let wire = self.wire.clone();
        let stream = wire
            .send(Method::GET, Bytes::new(), HeaderMap::new())
            .await?;
        if stream.status().is_success() {
            self.standalone = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                // It ends with the session.
                let _ = wire.follow(stream.into_body(), None).await;
            })));
        }
        Ok(())
    }

    /// Ends the session, if there is one.
    pub async fn close(&mut self) {
        self.standalone = None;
        if self.wire.session.is_some() {
            let ended = self
                .wire
                .send(Method::DELETE, Bytes::new(), HeaderMap::new());
            // A server that is gone has ended its sessions.
            let _ = ended.await;
        }
    }

    /// Returns whether the server has announced a capability.
    #[must_use]
    pub fn offers(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }

    /// Reads all pages of a list.
    ///
    /// # Errors
    ///
    /// A call fails.
    pub async fn list(&mut self, method: &str, member: &str) -> Outcome<Vec<Value>> {
        let mut entries = Vec::new();
        let mut params = Map::new();
        loop {
            let page = self.call(method, params.clone()).await?;
            entries.extend(page[member].as_array().cloned().unwrap_or_default());
            match page.get("nextCursor") {
                Some(cursor) => params.insert("cursor".to_owned(), cursor.clone()),
                None => return Ok(entries),
            };
        }
    }

    /// Calls a tool of a list, with the headers that its schema asks for.
    ///
    /// # Errors
    ///
    /// The call fails.
    pub async fn call_tool(
        &mut self,
        tools: &[Value],
        name: &str,
        arguments: Value,
    ) -> Outcome<Value> {
        if let Some(tool) = tools.iter().find(|tool| tool["name"] == name) {
            let mirrors = Mirrors::of_schema(&tool["inputSchema"]);
            self.mirrors.insert(name.to_owned(), mirrors);
        }
        let params = Map::from_iter([
            ("name".to_owned(), name.into()),
            ("arguments".to_owned(), arguments),
        ]);
        self.call("tools/call", params).await
    }

    /// Makes a call and answers what the server asks before it gives its result.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, answers an error, or asks without an end.
    pub async fn call(&mut self, method: &str, params: Map<String, Value>) -> Outcome<Value> {
        let mut round = params.clone();
        for _ in 0..ROUNDS {
            if self.is_stateless() {
                round.insert("_meta".to_owned(), self.meta());
            }
            let result = self.exchange(method, round.into()).await?;
            if result["resultType"] != "input_required" {
                return Ok(result);
            }
            round = params.clone();
            let questions = result["inputRequests"].as_object().into_iter().flatten();
            let mut answers = Map::new();
            for (key, question) in questions {
                let method = question["method"].as_str().unwrap_or_default();
                let answer = self.wire.reply(method, &question["params"]).await?;
                answers.insert(key.clone(), answer);
            }
            round.insert("inputResponses".to_owned(), answers.into());
            if let Some(state) = result.get("requestState") {
                round.insert("requestState".to_owned(), state.clone());
            }
        }
        Err(format!("{method}: the server asks more than {ROUNDS} times").into())
    }

    async fn exchange(&mut self, method: &str, params: Value) -> Outcome<Value> {
        let id = self.next;
        self.next += 1;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self.wire.post(&message, self.mirrored(&message)?).await?;
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let events = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event"));
        if let Some(session) = response.headers().get("mcp-session-id") {
            self.wire.session = Some(session.clone());
        }
        let answer = match events {
            true => self.wire.follow(response.into_body(), Some(id)).await?,
            false => serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?,
        };
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => Err(Box::new(Failure {
                method: method.to_owned(),
                error: answer["error"].clone(),
            })),
        }
    }

    /// Returns the headers that repeat what the revision wants repeated there.
    fn mirrored(&self, message: &Value) -> Outcome<HeaderMap> {
        let mut headers = HeaderMap::new();
        if !self.is_stateless() {
            return Ok(headers);
        }
        let text = |value: &Value| value.as_str().map(mirror::encode);
        if let Some(method) = text(&message["method"]) {
            headers.insert("mcp-method", method);
        }
        let params = &message["params"];
        if let Some(name) = text(&params["name"]).or_else(|| text(&params["uri"])) {
            headers.insert("mcp-name", name);
        }
        let mirrors = params["name"]
            .as_str()
            .and_then(|name| self.mirrors.get(name));
        if let Some(mirrors) = mirrors {
            headers.extend(mirrors.headers(&Json::encode(&params["arguments"])?));
        }
        Ok(headers)
    }

    fn meta(&self) -> Value {
        json!({
            "io.modelcontextprotocol/protocolVersion": self.version,
            "io.modelcontextprotocol/clientInfo": own_info(),
            "io.modelcontextprotocol/clientCapabilities": own_capabilities(self.opens),
        })
    }

    fn is_stateless(&self) -> bool {
        self.version.as_str() >= STATELESS
    }
}

fn own_info() -> Value {
    json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") })
}

fn own_capabilities(opens: bool) -> Value {
    let elicitation = match opens {
        true => json!({ "form": {}, "url": {} }),
        false => json!({}),
    };
    json!({ "elicitation": elicitation, "sampling": {}, "roots": {} })
}
