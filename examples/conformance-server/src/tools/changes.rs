//! Tools that change what the fixture offers.

use rmcp::{tool, tool_router};

use crate::{
    fixture::FixtureServer,
    resources,
    state::{Change, Toggle},
};

#[tool_router(router = change_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(description = "Adds the tool extra_tool to the list, or takes it away")]
    async fn test_trigger_tool_change(&self) -> String {
        self.switch(&self.shared.extra_tool, Change::Tools)
    }

    #[tool(description = "Adds the prompt extra_prompt to the list, or takes it away")]
    async fn test_trigger_prompt_change(&self) -> String {
        self.switch(&self.shared.extra_prompt, Change::Prompts)
    }

    #[tool(description = "Adds test://extra-resource to the list, or takes it away")]
    async fn trigger_resource_change(&self) -> String {
        self.switch(&self.shared.extra_resource, Change::Resources)
    }

    #[tool(description = "Changes test://watched-resource")]
    async fn update_watched_resource(&self) -> String {
        format!("version {}", resources::update(&self.shared))
    }

    #[tool(description = "A tool that comes and goes")]
    async fn extra_tool(&self) -> String {
        "This tool was switched on.".to_owned()
    }

    fn switch(&self, entry: &Toggle, change: Change) -> String {
        let state = if entry.flip() { "on" } else { "off" };
        self.shared.announce(change);
        state.to_owned()
    }
}
