//! An rmcp server whose tools return what they are given.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use benches::serve;
use clap::Parser;
use hyper_util::service::TowerToHyperService;
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, JsonObject,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, object,
    },
    service::RequestContext,
    transport::{
        stdio,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
        },
    },
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[derive(Parser)]
struct Arguments {
    /// Address to serve HTTP on; the URL is printed on stdout.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve on this many further ports, and print their URLs too.
    #[arg(long, default_value_t = 0)]
    more: u32,
    /// Serve one client on stdin and stdout instead.
    #[arg(long, conflicts_with_all = ["listen", "more"])]
    stdio: bool,
    /// Serve without sessions and answer with JSON.
    #[arg(long)]
    json: bool,
    /// How many tools to offer, the two that echo included.
    #[arg(long, default_value_t = 2)]
    tools: usize,
    /// Milliseconds that each call takes.
    #[arg(long, default_value_t = 0)]
    delay: u64,
}

#[derive(Clone)]
struct Echo {
    tools: Arc<[Tool]>,
    delay: Duration,
}

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let mut arguments = request.arguments.unwrap_or_default();
        match request.name.as_ref() {
            "echo_json" => {
                let mut result = CallToolResult::success(vec![ContentBlock::text("structured")]);
                result.structured_content = Some(Value::Object(arguments));
                Ok(result.into())
            }
            _ => match arguments.remove("text") {
                Some(Value::String(text)) => {
                    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
                }
                _ => Err(ErrorData::invalid_params("text is missing", None)),
            },
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let echo = Echo {
        tools: tools(arguments.tools).into(),
        delay: Duration::from_millis(arguments.delay),
    };
    if arguments.stdio {
        echo.serve(stdio()).await?.waiting().await?;
        return Ok(());
    }
    let mut servers = JoinSet::new();
    for number in 0..=arguments.more {
        let mut address = arguments.listen;
        if number > 0 {
            address.set_port(0);
        }
        let listener = serve::bind(address, "/mcp").await?;
        let service = TowerToHyperService::new(service(&echo, arguments.json));
        servers.spawn(serve::run(listener, service));
    }
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

fn service(echo: &Echo, json: bool) -> StreamableHttpService<Echo, LocalSessionManager> {
    let echo = echo.clone();
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(!json)
        .with_json_response(json);
    StreamableHttpService::new(move || Ok(echo.clone()), Arc::default(), config)
}

/// The two tools that echo, and others beside them that are there to be listed.
fn tools(count: usize) -> Vec<Tool> {
    let schema = |name: &str, kind: Value| -> Arc<JsonObject> {
        let properties = json!({ name: kind });
        Arc::new(object(
            json!({ "type": "object", "properties": properties, "required": [name] }),
        ))
    };
    let text = json!({ "type": "string", "description": "What to return" });
    let mut tools = vec![
        Tool::new(
            "echo",
            "Returns the text it is given",
            schema("text", text.clone()),
        ),
        Tool::new(
            "echo_json",
            "Returns the value it is given",
            schema("value", json!({})),
        ),
    ];
    tools.extend((tools.len()..count).map(|number| {
        let about = format!(
            "Tool number {number}, which is only here to be listed among the others. Its \
             description is about as long as those that people write for their models to read, \
             with a word on arguments and results."
        );
        Tool::new(
            format!("tool_{number:04}"),
            about,
            schema("text", text.clone()),
        )
    }));
    tools.truncate(count);
    tools
}
