//! A client that uses all that a server offers, through a gateway.
//!
//! The official suite starts it once for each of its client scenarios, in front of a server that watches what arrives.
//! What the suite judges is therefore what the gateway sends.

pub mod authorized;
pub mod browser;
mod client;
mod sample;
mod serving;
mod wire;

use std::{error::Error, time::Duration};

use axum::Router;
use mcp_aggregate::{Bare, Gateway, Upstream};
use mcp_core::transport::http::HttpConfig;
use serde_json::{Map, Value};
use tokio::net::TcpListener;

pub use self::client::{Client, Failure};
use self::serving::Serving;

/// What can go wrong here.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What is to be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plan {
    /// All that is offered, once each.
    #[default]
    Everything,
    /// These tools, with these arguments.
    Calls(Vec<(String, Value)>),
    /// Nothing: the lists are read.
    Lists,
}

impl Plan {
    /// Reads what a scenario of the suite asks for.
    #[must_use]
    pub fn of_scenario(name: &str, context: &Value) -> Self {
        if name == "json-schema-ref-no-deref" {
            return Self::Lists;
        }
        let Some(calls) = context.get("toolCalls").and_then(Value::as_array) else {
            return Self::Everything;
        };
        let call = |call: &Value| (text(call, "name"), call["arguments"].clone());
        Self::Calls(calls.iter().map(call).collect())
    }

    /// Returns the tools to call, with their arguments.
    fn calls(&self, tools: &[Value]) -> Vec<(String, Value)> {
        let one = |tool: &Value| (text(tool, "name"), sample::arguments(tool, tools));
        match self {
            Self::Everything => tools
                .iter()
                .filter(|tool| tool["name"] != mcp_auth::consent::TOOL)
                .map(one)
                .collect(),
            Self::Calls(calls) => calls.clone(),
            Self::Lists => Vec::new(),
        }
    }
}

/// What was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Used {
    /// The tools that were called.
    pub tools: Vec<String>,
    /// The resources that were read.
    pub resources: Vec<String>,
    /// The prompts that were got.
    pub prompts: Vec<String>,
}

/// Starts a gateway in front of a server and uses it through a client of the given revision.
///
/// # Errors
///
/// The gateway does not start, or something that the server offers cannot be used.
pub async fn run(server: &str, version: &str, plan: &Plan) -> Outcome<Used> {
    let running = Gateway::builder("driver")
        .upstream(Upstream::http("server", server))
        .naming(Bare)
        .build()?
        .start();
    running.settled(Duration::from_secs(10)).await;
    let transport = running.http(HttpConfig::default().single_user());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    let app = Router::new().route_service("/mcp", transport.clone());
    let serving = Serving::start(listener, app, transport);
    let used = async {
        let mut client = Client::open(&url, version).await?;
        let used = use_all(&mut client, plan).await;
        client.close().await;
        used
    }
    .await;
    serving.stop().await?;
    running.shutdown().await;
    used
}

async fn use_all(client: &mut Client, plan: &Plan) -> Outcome<Used> {
    let mut used = Used::default();
    let tools = match client.offers("tools") {
        true => client.list("tools/list", "tools").await?,
        false => Vec::new(),
    };
    for (name, arguments) in plan.calls(&tools) {
        client.call_tool(&tools, &name, arguments).await?;
        used.tools.push(name);
    }
    if *plan != Plan::Everything {
        return Ok(used);
    }
    if client.offers("resources") {
        for resource in client.list("resources/list", "resources").await? {
            let uri = text(&resource, "uri");
            let params = Map::from_iter([("uri".to_owned(), uri.clone().into())]);
            client.call("resources/read", params).await?;
            used.resources.push(uri);
        }
    }
    if client.offers("prompts") {
        for prompt in client.list("prompts/list", "prompts").await? {
            let name = text(&prompt, "name");
            let arguments = sample::prompt_arguments(&prompt);
            let params = Map::from_iter([
                ("name".to_owned(), name.clone().into()),
                ("arguments".to_owned(), arguments),
            ]);
            client.call("prompts/get", params).await?;
            used.prompts.push(name);
        }
    }
    Ok(used)
}

fn text(value: &Value, member: &str) -> String {
    let text = value.get(member).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
