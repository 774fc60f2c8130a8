//! HTTP as bytes.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A request, to be changed in the one place that a test is about.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    method: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Raw {
    pub(crate) fn new(method: &'static str) -> Self {
        Self {
            method,
            headers: Vec::new(),
            body: Vec::new(),
        }
        .with("host", "localhost")
    }

    /// A POST with what every POST needs.
    pub(crate) fn post(body: impl Into<Vec<u8>>) -> Self {
        let mut raw = Self::new("POST")
            .with("content-type", "application/json")
            .with("accept", "application/json, text/event-stream");
        raw.body = body.into();
        raw
    }

    /// A well-formed request of revision 2026-07-28.
    pub(crate) fn stateless(method: &str, members: &str) -> Self {
        Self::post(stateless_body(method, members))
            .with("mcp-protocol-version", "2026-07-28")
            .with("mcp-method", method)
    }

    /// A message of a session.
    pub(crate) fn in_session(session: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::post(body).with("mcp-session-id", session)
    }

    /// Sets a header.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a header beside one of the same name.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    pub(crate) fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} /mcp HTTP/1.1\r\n", self.method);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends the request and reads the whole reply.
    pub(crate) async fn send(&self, to: SocketAddr) -> Reply {
        self.open(to).await.whole().await
    }

    /// Sends the request and reads the head of the reply.
    pub(crate) async fn open(&self, to: SocketAddr) -> Stream {
        let mut socket = TcpStream::connect(to).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = socket.write_all(&self.bytes()).await;
        let mut stream = Stream {
            socket,
            buffer: Vec::new(),
            status: 0,
            headers: Vec::new(),
        };
        let head = stream.until(b"\r\n\r\n").await.expect("there is a head");
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        stream.status = status.parse().unwrap();
        stream.headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        stream
    }
}

/// The body of a request of revision 2026-07-28.
pub(crate) fn stateless_body(method: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{members}{comma}"_meta":{{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
}

/// A reply as it comes in.
pub(crate) struct Stream {
    socket: TcpStream,
    buffer: Vec<u8>,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Stream {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name)?;
        Some(&found.1)
    }

    async fn more(&mut self) -> bool {
        let read = self.socket.read_buf(&mut self.buffer);
        timeout(Duration::from_secs(5), read)
            .await
            .expect("something comes")
            .is_ok_and(|read| read > 0)
    }

    /// Returns what comes before a delimiter; `None` at the end.
    async fn until(&mut self, delimiter: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self
                .buffer
                .windows(delimiter.len())
                .position(|window| window == delimiter);
            if let Some(at) = found {
                let rest = self.buffer.split_off(at + delimiter.len());
                let mut before = std::mem::replace(&mut self.buffer, rest);
                before.truncate(at);
                return Some(before);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.more().await {}
        let rest = self.buffer.split_off(length.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Returns the next chunk of a body without a length; `None` at the end.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = String::from_utf8(self.until(b"\r\n").await?).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let chunk = self.exactly(size).await;
        self.exactly(2).await;
        (size > 0).then_some(chunk)
    }

    /// Returns the text of the next event that is not a comment. Each event is one chunk.
    pub(crate) async fn event(&mut self) -> Option<String> {
        loop {
            let event = String::from_utf8(self.chunk().await?).unwrap();
            if !event.starts_with(':') {
                return Some(event);
            }
        }
    }

    async fn whole(mut self) -> Reply {
        let body = match self.header("content-length").map(str::to_owned) {
            Some(length) => self.exactly(length.parse().unwrap()).await,
            None if self.header("transfer-encoding").is_some() => {
                let mut body = Vec::new();
                while let Some(chunk) = self.chunk().await {
                    body.extend(chunk);
                }
                body
            }
            None => Vec::new(),
        };
        Reply {
            status: self.status,
            headers: self.headers,
            body: String::from_utf8(body).unwrap(),
        }
    }
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name)?;
        Some(&found.1)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?} is JSON"))
    }

    /// Returns the code of a JSON-RPC error, 0 for a reply that is none.
    pub(crate) fn code(&self) -> i64 {
        let reply: Value = serde_json::from_str(&self.body).unwrap_or_default();
        reply["error"]["code"].as_i64().unwrap_or_default()
    }

    /// Returns the messages of a reply that is a stream of events.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        self.body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| !data.is_empty())
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}
