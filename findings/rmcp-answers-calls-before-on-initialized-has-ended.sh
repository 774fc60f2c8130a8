#!/usr/bin/env bash
# A server of rmcp whose `on_initialized` takes some time, and a client that calls at once.
#
# Package: rmcp 3.11.0 from crates.io (features server, transport-io, macros off), over stdin and stdout.
# Seen: a `tools/call` that arrives right behind `notifications/initialized` is handled and answered before
# `on_initialized` has ended; one that arrives half a second later finds it ended. Notifications run beside requests, so
# what `on_initialized` prepares (a connection, a catalogue, state of the session) may not be there for the first call.
# A server has to wait for its own preparation in its handlers; clients cannot know that it goes on.
#
# Needs cargo (1.90 or later) and crates.io. Fails if what is seen changes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "server"
version = "0.0.0"
edition = "2024"

[dependencies]
rmcp = { version = "=3.11.0", default-features = false, features = ["server", "transport-io"] }
tokio = { version = "1", features = ["full"] }
TOML
cat >"$work/src/main.rs" <<'RUST'
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
        ServerConfig,
    },
    service::{NotificationContext, RequestContext},
};

#[derive(Default)]
struct Slow {
    prepared: AtomicBool,
}

impl ServerHandler for Slow {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn on_initialized(&self, _: NotificationContext<RoleServer>) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.prepared.store(true, Ordering::SeqCst);
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let prepared = self.prepared.load(Ordering::SeqCst).to_string();
        Ok(CallToolResult::success(vec![ContentBlock::text(prepared)]).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    Slow::default()
        .serve(rmcp::transport::stdio())
        .await?
        .waiting()
        .await?;
    Ok(())
}
RUST
cargo build --quiet --manifest-path "$work/Cargo.toml" --target-dir "$work/target"

call() {
    printf '{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"ready"}}\n' "$1"
}
answers=$(
    {
        echo '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}'
        echo '{"jsonrpc":"2.0","method":"notifications/initialized"}'
        call 2
        sleep 0.5
        call 3
        sleep 0.5
    } | "$work/target/debug/server"
)
seen=$(grep -o '"id":[23],.*"text":"[a-z]*"' <<<"$answers" | sed -E 's/"id":([23]),.*"text":"([a-z]*)"/\1 \2/')
echo "$seen"
[[ $seen == $'2 false\n3 true' ]]
