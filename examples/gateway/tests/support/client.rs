//! A client that speaks Streamable HTTP by hand, one connection for each request.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::PATIENCE;

/// A client of either era.
pub(crate) struct Client {
    address: String,
    /// The id of the session; without one it is stateless.
    session: Option<String>,
    next: AtomicU64,
}

impl Client {
    /// A client of revision 2026-07-28.
    pub(crate) fn stateless(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            session: None,
            next: AtomicU64::new(1),
        }
    }

    /// Opens a session of revision 2025-11-25.
    pub(crate) async fn session(address: &str) -> Self {
        Self::try_session(address).await.unwrap()
    }

    /// Opens a session, or returns the status that refuses it.
    pub(crate) async fn try_session(address: &str) -> Result<Self, u16> {
        let mut client = Self::stateless(address);
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        });
        let opening =
            json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let answer = post(address, "", &opening).await.unwrap();
        if answer.status != 200 {
            return Err(answer.status);
        }
        client.session = answer.header("mcp-session-id");
        assert!(client.session.is_some(), "a session has an id");
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let headers = client.headers("notifications/initialized", &json!({}));
        let taken = post(address, &headers, &initialized).await.unwrap();
        assert_eq!(taken.status, 202);
        Ok(client)
    }

    /// Opens the standalone SSE stream and keeps it open until it is dropped.
    pub(crate) async fn listen(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}\r\n",
            self.address,
            self.headers("", &json!({}))
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        stream
    }

    fn headers(&self, method: &str, params: &Value) -> String {
        match &self.session {
            Some(id) => {
                format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n")
            }
            None => {
                let name = params["name"].as_str();
                let name = name.map(|name| format!("Mcp-Name: {name}\r\n"));
                format!(
                    "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{}",
                    name.unwrap_or_default()
                )
            }
        }
    }

    /// Makes a call and returns the whole answer, or why there is none.
    pub(crate) async fn request(&self, method: &str, mut params: Value) -> io::Result<Value> {
        if self.session.is_none() {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        let headers = self.headers(method, &params);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = timeout(PATIENCE, post(&self.address, &headers, &body)).await;
        let answer = answer.expect("no hang")?;
        let message = answer.message(id);
        message.ok_or_else(|| io::Error::other(format!("{}: {}", answer.status, answer.body)))
    }

    /// Calls a tool and returns its text, or the error.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<String, Value> {
        let params = json!({ "name": tool, "arguments": arguments });
        let answer = self.request("tools/call", params).await;
        let answer = answer.map_err(|error| json!(error.to_string()))?;
        match answer["result"]["content"][0]["text"].as_str() {
            Some(text) if answer["result"]["isError"] != true => Ok(text.to_owned()),
            _ => Err(answer),
        }
    }

    /// Lists the names of the tools, of every page.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let (mut names, mut params) = (Vec::new(), json!({}));
        loop {
            let answer = self.request("tools/list", params).await.unwrap();
            let page = answer["result"]["tools"].as_array();
            let page = page.unwrap_or_else(|| panic!("{answer} is a list"));
            names.extend(
                page.iter()
                    .map(|tool| tool["name"].as_str().unwrap().to_owned()),
            );
            match &answer["result"]["nextCursor"] {
                Value::Null => return names,
                cursor => params = json!({ "cursor": cursor }),
            }
        }
    }
}

/// An HTTP response that was read to its end.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines();
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.trim().to_owned())
    }

    /// Returns the message that answers a call, from JSON or from events.
    fn message(&self, id: u64) -> Option<Value> {
        let lines = self.body.lines();
        let data = lines.map(|line| line.strip_prefix("data:").unwrap_or(line));
        let mut messages = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        messages.find(|message| message["id"] == id && message.get("method").is_none())
    }
}

async fn post(address: &str, headers: &str, body: &Value) -> io::Result<Answer> {
    let body = body.to_string();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    exchange(address, &request).await
}

/// Gets a page; returns its status and its body.
pub(crate) async fn get(address: &str, path: &str) -> io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, &request).await?;
    Ok((answer.status, answer.body))
}

async fn exchange(address: &str, request: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("the connection ended before the head"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Ok(Answer {
        status: status.ok_or_else(|| io::Error::other("no status"))?,
        head: head.to_owned(),
        body: match chunked {
            true => unchunk(body),
            false => body.to_owned(),
        },
    })
}

/// Puts chunks together (RFC 9112, section 7.1).
fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        let Some(chunk) = after.get(..size) else {
            break;
        };
        body.push_str(chunk);
        rest = after.get(size..).unwrap_or("").trim_start_matches("\r\n");
    }
    body
}
