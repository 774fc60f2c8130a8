//! A client of the gateway that speaks line by line.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mcp_aggregate::Running;
use mcp_core::{
    Principal,
    transport::stdio::{StdioConfig, serve},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf},
    sync::{Mutex, mpsc},
    time::timeout,
};

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    writer: Mutex<WriteHalf<DuplexStream>>,
    /// Answers, in the order in which they come.
    answers: Mutex<mpsc::UnboundedReceiver<Value>>,
    notifications: Mutex<mpsc::UnboundedReceiver<Value>>,
    next: AtomicU64,
    stateless: bool,
}

impl Client {
    /// Opens a session of a user.
    pub(crate) async fn session(running: &Running, user: &str) -> Self {
        let client = Self::connect(running, user, false);
        let opening = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        });
        let answer = client.request("initialize", opening).await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
        client
            .send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await;
        client
    }

    /// Connects without a session.
    pub(crate) fn stateless(running: &Running, user: &str) -> Self {
        Self::connect(running, user, true)
    }

    fn connect(running: &Running, user: &str, stateless: bool) -> Self {
        let (here, there) = tokio::io::duplex(1 << 20);
        let (reader, writer) = tokio::io::split(there);
        let principal = Principal::authenticated("https://issuer.example", user);
        let config = StdioConfig::default().with_principal(principal);
        tokio::spawn(serve(running.service(), reader, writer, config));
        let (reader, writer) = tokio::io::split(here);
        let (answered, answers) = mpsc::unbounded_channel();
        let (notified, notifications) = mpsc::unbounded_channel();
        tokio::spawn(read(reader, answered, notified));
        Self {
            writer: Mutex::new(writer),
            answers: Mutex::new(answers),
            notifications: Mutex::new(notifications),
            next: AtomicU64::new(1),
            stateless,
        }
    }

    pub(crate) async fn send(&self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        let mut writer = self.writer.lock().await;
        writer.write_all(line.as_bytes()).await.unwrap();
    }

    /// Makes a call and returns its answer. One call at a time.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Value {
        let id = self.start(method, params).await;
        let answer = self.answer().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Starts a call and returns its id.
    pub(crate) async fn start(&self, method: &str, mut params: Value) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        if self.stateless {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send(&message).await;
        id
    }

    pub(crate) async fn answer(&self) -> Value {
        let mut answers = self.answers.lock().await;
        timeout(LONGEST, answers.recv())
            .await
            .expect("an answer comes")
            .unwrap()
    }

    /// Awaits a notification of this method.
    pub(crate) async fn notification(&self, method: &str) -> Value {
        let mut notifications = self.notifications.lock().await;
        let wanted = async {
            loop {
                let notification = notifications.recv().await.unwrap();
                if notification["method"] == method {
                    return notification;
                }
            }
        };
        timeout(LONGEST, wanted)
            .await
            .unwrap_or_else(|_| panic!("{method} comes"))
    }

    /// Calls a tool and returns the answer.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        self.request("tools/call", params).await
    }

    /// Calls a tool and returns its text.
    pub(crate) async fn text(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments).await;
        let text = answer["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("{answer} has a text"))
            .to_owned()
    }

    /// Returns the names of a list.
    pub(crate) async fn names(&self, list: &str) -> Vec<String> {
        self.try_names(list).await.expect("there is a list")
    }

    /// Returns the names of a list, or the error.
    pub(crate) async fn try_names(&self, list: &str) -> Result<Vec<String>, Value> {
        let answer = self.request(&format!("{list}/list"), json!({})).await;
        let Some(entries) = answer["result"][list].as_array() else {
            return Err(answer["error"].clone());
        };
        let name = |entry: &Value| entry["name"].as_str().unwrap().to_owned();
        Ok(entries.iter().map(name).collect())
    }
}

async fn read(
    reader: ReadHalf<DuplexStream>,
    answered: mpsc::UnboundedSender<Value>,
    notified: mpsc::UnboundedSender<Value>,
) {
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).unwrap();
        let sender = match message.get("method") {
            Some(_) => &notified,
            None => &answered,
        };
        let _ = sender.send(message);
    }
}
