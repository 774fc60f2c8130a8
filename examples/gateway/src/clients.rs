//! Configurations of clients, each with the file that it belongs in.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

/// A client and what has to stand in its configuration.
struct Client {
    name: &'static str,
    file: &'static str,
    configuration: Value,
}

/// Writes a configuration for each known client. Claude Desktop starts the gateway itself: its file knows no addresses.
#[must_use]
pub fn snippets(url: &str, program: &Path, arguments: &[String]) -> String {
    let arguments: Vec<_> = ["--stdio".to_owned()]
        .into_iter()
        .chain(arguments.iter().cloned())
        .collect();
    let started = json!({ "command": program.display().to_string(), "args": arguments });
    let clients = [
        Client {
            name: "Claude Desktop",
            file: "claude_desktop_config.json (Settings, Developer, Edit Config)",
            configuration: json!({ "mcpServers": { "gateway": started } }),
        },
        Client {
            name: "Claude Code",
            file: ".mcp.json in the project",
            configuration: json!({ "mcpServers": { "gateway": { "type": "http", "url": url } } }),
        },
        Client {
            name: "Cursor",
            file: "~/.cursor/mcp.json, or .cursor/mcp.json in the project",
            configuration: json!({ "mcpServers": { "gateway": { "url": url } } }),
        },
        Client {
            name: "VS Code",
            file: ".vscode/mcp.json in the workspace",
            configuration: json!({ "servers": { "gateway": { "type": "http", "url": url } } }),
        },
        Client {
            name: "Windsurf",
            file: "~/.codeium/windsurf/mcp_config.json",
            configuration: json!({ "mcpServers": { "gateway": { "serverUrl": url } } }),
        },
        Client {
            name: "Zed",
            file: "settings.json (zed: open settings)",
            configuration: json!({ "context_servers": { "gateway": { "url": url } } }),
        },
    ];
    let mut text = String::new();
    for client in clients {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}: {}\n{:#}\n",
            client.name, client.file, client.configuration
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_the_key_that_it_reads() {
        let text = snippets("http://127.0.0.1:8080/mcp", Path::new("/bin/gateway"), &[]);
        for expected in [
            "\"command\": \"/bin/gateway\"",
            "\"--stdio\"",
            "\"servers\"",
            "\"serverUrl\"",
            "\"context_servers\"",
            ".cursor/mcp.json",
            ".vscode/mcp.json",
        ] {
            assert!(text.contains(expected), "{expected}");
        }
    }
}
