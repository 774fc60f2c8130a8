//! A server over HTTP whose answers a test writes, and its client.

use std::sync::{Arc, Mutex};

use mcp_aggregate::connector::http::{HttpConnector, HttpConnectorBuilder};
use mcp_core::{
    Error, Json, Method, Principal, ProtocolVersion, Request, Response, SessionKey, UpstreamId,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::{Duration, timeout},
};
use tower::ServiceExt as _;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request as the server has seen it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Value,
    /// How many requests came before it on its connection.
    pub(crate) turn: usize,
}

impl Seen {
    /// The JSON-RPC method of a POST.
    pub(crate) fn rpc(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    /// The session id that the request has.
    pub(crate) fn session(&self) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix("mcp-session-id: "))
    }
}

/// What a server does with a request.
pub(crate) enum Act {
    /// Writes bytes and reads the next request of the connection.
    Write(Vec<u8>),
    /// Writes bytes and keeps the connection as it is.
    Hold(Vec<u8>),
    /// Writes bytes and closes the connection.
    Close(Vec<u8>),
}

type Script = dyn Fn(&Seen) -> Option<Act> + Send + Sync;

/// A server that does what its script says, and what a good one of revision 2025-11-25 does where the script is silent.
pub(crate) struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) async fn start(
        script: impl Fn(&Seen) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, script) = (Arc::clone(&seen), Arc::new(script) as Arc<Script>);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&log), Arc::clone(&script)));
            }
        });
        Self { url, seen }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn builder(&self) -> HttpConnectorBuilder {
        HttpConnector::builder(UpstreamId::new("up").unwrap(), self.url.parse().unwrap())
    }

    pub(crate) fn connector(&self) -> HttpConnector {
        self.builder().build().unwrap()
    }

    /// The requests so far, by JSON-RPC method or, without a body, by HTTP method.
    pub(crate) fn seen(&self, method: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        let of = |one: &&Seen| match one.method.as_str() {
            "POST" => one.rpc() == method,
            other => other == method,
        };
        seen.iter().filter(of).cloned().collect()
    }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<Vec<Seen>>>, script: Arc<Script>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut turn = 0;
    loop {
        let seen = Seen {
            turn,
            ..read(&mut stream).await?
        };
        turn += 1;
        log.lock().unwrap().push(seen.clone());
        match script(&seen).unwrap_or_else(|| good(&seen)) {
            Act::Write(bytes) => stream.write_all(&bytes).await.ok()?,
            Act::Hold(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                std::future::pending::<()>().await;
            }
            Act::Close(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                stream.shutdown().await.ok()?;
                return None;
            }
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let mut words = head.split(' ').map(str::to_owned);
    Some(Seen {
        method: words.next()?,
        path: words.next()?,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        head: head.replace("\r\n", "\n"),
        turn: 0,
    })
}

/// What a good server answers.
fn good(seen: &Seen) -> Act {
    let id = &seen.body["id"];
    match (seen.method.as_str(), seen.rpc()) {
        ("POST", "initialize") => {
            let result = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}"#;
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            Act::Write(http(
                200,
                "content-type: application/json\r\nmcp-session-id: s1\r\n",
                &body,
            ))
        }
        ("POST", "server/discover") => Act::Write(http(400, "", "unknown method")),
        ("POST", "tools/call" | "tools/list" | "ping") => Act::Write(result(seen)),
        ("POST", _) => Act::Write(http(202, "", "")),
        ("GET", _) => Act::Write(http(405, "", "")),
        _ => Act::Write(http(200, "", "")),
    }
}

/// A whole answer.
pub(crate) fn http(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// A JSON body.
pub(crate) fn json(body: &str) -> Vec<u8> {
    http(200, "content-type: application/json\r\n", body)
}

/// A stream of events that has ended.
pub(crate) fn events(events: &str) -> Vec<u8> {
    http(200, "content-type: text/event-stream\r\n", events)
}

/// The beginning of a stream of events that does not end.
pub(crate) fn open_events(events: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    format!("{head}{events}").into_bytes()
}

/// The good answer to a call of a tool, or anything else.
pub(crate) fn result(seen: &Seen) -> Vec<u8> {
    json(&message(seen))
}

/// The message of the good answer.
pub(crate) fn message(seen: &Seen) -> String {
    let id = &seen.body["id"];
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)
}

/// A client of the session era.
pub(crate) struct Client(pub(crate) SessionKey);

impl Client {
    pub(crate) fn new(name: &str) -> Self {
        Self(SessionKey::new(name))
    }

    pub(crate) fn request(&self, method: Method, params: Value) -> Request {
        Request::new(method, Some(Json::from(params)))
            .unwrap()
            .with_version(ProtocolVersion::V_2025_11_25)
            .with_principal(Principal::session(&self.0))
            .with_session(self.0.clone())
    }

    /// Sends a request, which has to be answered in time.
    pub(crate) async fn send(
        &self,
        connector: &HttpConnector,
        method: Method,
    ) -> Result<Response, Error> {
        let params = match method {
            Method::TOOLS_CALL => serde_json::json!({ "name": "t", "arguments": {} }),
            Method::RESOURCES_READ => serde_json::json!({ "uri": "file:///a" }),
            _ => serde_json::json!({}),
        };
        let answer = connector.clone().oneshot(self.request(method, params));
        timeout(PATIENCE, answer).await.expect("no hang")
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, connector: &HttpConnector) -> Result<Response, Error> {
        self.send(connector, Method::TOOLS_CALL).await
    }
}

/// A stateless client of revision 2026-07-28.
pub(crate) async fn call_stateless(connector: &HttpConnector) -> Result<Response, Error> {
    let params = serde_json::json!({ "name": "t", "arguments": {} });
    let request = Request::new(Method::TOOLS_CALL, Some(Json::from(params))).unwrap();
    let answer = connector
        .clone()
        .oneshot(request.with_version(ProtocolVersion::V_2026_07_28));
    timeout(PATIENCE, answer).await.expect("no hang")
}
