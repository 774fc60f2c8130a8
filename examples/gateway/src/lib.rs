//! A whole gateway, built apart from `main` so that tests call it.

pub mod arguments;
pub mod clients;
pub mod clock;
mod notes;

use std::{net::SocketAddr, path::Path, sync::Arc};

use axum::Router;
use mcp_aggregate::{
    Bare, Gateway, GatewayBuilder, Running, SessionScope, Upstream, connector::stdio::Command,
};
use mcp_core::transport::http::HttpConfig;

pub use self::{arguments::ServerArgument, notes::Notes};

/// The argument that makes the program a server itself, so that one program is all there is to build.
pub const SERVE_CLOCK: &str = "--serve-clock";

/// Describes a server of the command line.
pub fn upstream(server: &ServerArgument) -> Upstream {
    let lower = server.target.to_ascii_lowercase();
    let mut upstream = match lower.starts_with("http://") || lower.starts_with("https://") {
        true => Upstream::http(&server.name, &server.target),
        false => {
            let mut words = split_words(&server.target).into_iter();
            let program = words.next().unwrap_or_default();
            started(Upstream::command(
                &server.name,
                Command::new(program).args(words),
            ))
        }
    };
    for (name, value) in &server.headers {
        upstream = upstream.header(name, value);
    }
    for (name, value) in &server.variables {
        upstream = upstream.env(name, value);
    }
    match server.one_at_a_time {
        true => upstream.one_call_at_a_time(),
        false => upstream,
    }
}

/// Has a program started for each session of a client, as a client would start it itself.
///
/// Everything on loopback belongs to one user, whose clients would share one process otherwise: a server-initiated request
/// would belong to none of them in particular, and what one of them changes would change for all.
fn started(upstream: Upstream) -> Upstream {
    upstream.scope(SessionScope::PerSession)
}

/// Splits a command line into words; quotes keep spaces together.
fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Describes a gateway in front of the given servers.
pub fn gateway(servers: &[ServerArgument], no_prefix: bool) -> GatewayBuilder {
    let builder = servers
        .iter()
        .map(upstream)
        .fold(Gateway::builder("gateway"), GatewayBuilder::upstream);
    match no_prefix {
        true => builder.naming(Bare),
        false => builder,
    }
}

/// Describes a gateway in front of what every machine has: a server in this process, `program` as a child that serves
/// [`clock`] when it is given [`SERVE_CLOCK`], and official servers where `npx` and `uvx` are there to run them.
pub fn default_gateway(program: &Path, npx: bool, uvx: bool) -> GatewayBuilder {
    let clock = Command::new(program).args([SERVE_CLOCK]);
    let mut builder = Gateway::builder("gateway")
        .upstream(Upstream::rmcp("notes", || Ok(Notes::default())))
        .upstream(started(Upstream::command("clock", clock)));
    if npx {
        builder = builder.upstream(started(Upstream::npm(
            "everything",
            "@modelcontextprotocol/server-everything@2026.8.31",
        )));
    }
    if uvx {
        builder = builder.upstream(started(Upstream::pypi("time", "mcp-server-time")));
    }
    builder
}

/// Serves a gateway: MCP at `/mcp` and `/mcp/`, health at `/health`, `/health/live` and `/health/ready`.
///
/// On loopback everything belongs to the one user of this machine; elsewhere each session is a user of its own.
pub fn app(running: &Arc<Running>, listen: SocketAddr) -> Router {
    let config = match listen.ip().is_loopback() {
        true => HttpConfig::default().single_user(),
        false => HttpConfig::default(),
    };
    let transport = running.http(config);
    let health = running.health_service();
    Router::new()
        .route_service("/mcp", transport.clone())
        .route_service("/mcp/", transport)
        .route_service("/health", health.clone())
        .route_service("/health/{probe}", health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_would() {
        assert_eq!(
            split_words(r#"npx -y  "a b" 'c "d"' e"f"g ''"#),
            ["npx", "-y", "a b", "c \"d\"", "efg", ""]
        );
        assert!(split_words("   ").is_empty());
    }

    #[test]
    fn an_address_is_one_in_any_spelling_and_errors_are_all_found() {
        let address = upstream(&ServerArgument::new("a", "HTTP://localhost:1/mcp"));
        assert_eq!(
            address.digest(),
            Upstream::http("a", "HTTP://localhost:1/mcp").digest()
        );
        let servers = [
            ServerArgument::new("Not Valid", "http://localhost:1/"),
            ServerArgument::new("b", "http://"),
        ];
        let errors = gateway(&servers, false).build().unwrap_err();
        assert_eq!(errors.iter().count(), 2, "{errors}");
    }
}
