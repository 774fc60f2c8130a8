//! A client that knows as much of the protocol as the measurement needs, so that it costs next to nothing.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::Outcome;

/// A server on stdio and the client that calls it.
pub(crate) struct Client {
    pub(crate) child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    id: u64,
}

impl Client {
    pub(crate) async fn start(mut command: Command) -> Outcome<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut client = Self {
            child,
            input,
            output,
            id: 0,
        };
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "bench", "version": "1" } });
        client.request("initialize", &hello).await?;
        client
            .send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await?;
        Ok(client)
    }

    pub(crate) async fn send(&mut self, message: &Value) -> Outcome<()> {
        self.input
            .write_all(format!("{message}\n").as_bytes())
            .await?;
        Ok(self.input.flush().await?)
    }

    pub(crate) async fn request(&mut self, method: &str, params: &Value) -> Outcome<Value> {
        self.id += 1;
        let id = self.id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await?;
        while let Some(line) = self.output.next_line().await? {
            let mut message: Value = serde_json::from_str(&line)?;
            if message["id"] == id && message.get("method").is_none() {
                if message["result"]["isError"] == true || message.get("error").is_some() {
                    return Err(format!("{method} {params}: {message}").into());
                }
                return Ok(message["result"].take());
            }
        }
        Err("the server has ended".into())
    }

    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Outcome<Value> {
        self.request(
            "tools/call",
            &json!({ "name": tool, "arguments": arguments }),
        )
        .await
    }

    pub(crate) async fn stop(mut self) -> Outcome<()> {
        drop(self.input);
        if tokio::time::timeout(Duration::from_secs(10), self.child.wait())
            .await
            .is_err()
        {
            self.child.kill().await?;
        }
        Ok(())
    }
}
