//! The tools, one module for each of their purposes.

mod asking;
mod changes;
mod content;
mod input_required;
mod observed;
pub(crate) mod raw;
mod schemas;
mod streams;
mod tasks;

use rmcp::{handler::server::router::tool::ToolRouter, model::Tool};

use crate::{fixture::FixtureServer, state::Shared};

/// Listed only after `test_trigger_tool_change` turned it on.
const EXTRA: &str = "extra_tool";

/// Every tool, also those that are not listed now.
pub(crate) fn router() -> ToolRouter<FixtureServer> {
    FixtureServer::content_tools()
        + FixtureServer::stream_tools()
        + FixtureServer::asking_tools()
        + FixtureServer::input_required_tools()
        + FixtureServer::task_tools()
        + FixtureServer::schema_tools()
        + FixtureServer::change_tools()
        + FixtureServer::observed_tools()
        + FixtureServer::raw_tools()
}

/// The tools that are on offer now, by name.
pub(crate) fn listed(shared: &Shared) -> Vec<Tool> {
    let mut tools = shared.tools.list_all();
    tools.retain(|tool| is_available(shared, &tool.name));
    tools
}

/// Whether the tool of this name, if there is one, is on offer now.
pub(crate) fn is_available(shared: &Shared, name: &str) -> bool {
    name != EXTRA || shared.extra_tool.is_on()
}
