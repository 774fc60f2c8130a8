//! A whole gateway, built apart from `main` so that tests call it.

pub mod clock;
mod notes;

use std::{net::SocketAddr, path::Path};

use axum::Router;
use mcp_aggregate::{
    Bare, Gateway, GatewayBuilder, Running, SessionScope, Upstream, connector::stdio::Command,
};
use mcp_core::{ConfigError, transport::http::HttpConfig};

pub use self::notes::Notes;

/// The argument that makes the program a server itself, so that one program is all there is to build.
pub const SERVE_CLOCK: &str = "--serve-clock";

/// What an upstream is, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamArgument {
    /// The name that prefixes its tools and prompts.
    pub name: String,
    /// A URL, or a command with its arguments.
    pub target: String,
}

/// Why an argument does not name an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotAnUpstream;

impl std::fmt::Display for NotAnUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "give NAME=URL or NAME='COMMAND ARGS', for instance crm=http://localhost:9000/mcp",
        )
    }
}

impl std::error::Error for NotAnUpstream {}

impl std::str::FromStr for UpstreamArgument {
    type Err = NotAnUpstream;

    fn from_str(text: &str) -> Result<Self, NotAnUpstream> {
        match text.split_once('=') {
            Some((name, target)) if !name.is_empty() && !target.trim().is_empty() => Ok(Self {
                name: name.to_owned(),
                target: target.trim().to_owned(),
            }),
            _ => Err(NotAnUpstream),
        }
    }
}

impl UpstreamArgument {
    /// Describes the upstream.
    ///
    /// # Errors
    ///
    /// The name or the address is malformed.
    pub fn upstream(&self) -> Result<Upstream, ConfigError> {
        if self.target.starts_with("http://") || self.target.starts_with("https://") {
            return Upstream::http(&self.name, &self.target);
        }
        let mut words = split_words(&self.target).into_iter();
        let program = words.next().unwrap_or_default();
        Ok(started(Upstream::command(
            &self.name,
            Command::new(program).args(words),
        )?))
    }
}

/// Has a program started for each session of a client, as a client would start it itself.
///
/// Everything on loopback belongs to one user, whose clients would share one process otherwise: a question by the
/// process would belong to none of them in particular, and what one of them changes would change for all.
fn started(upstream: Upstream) -> Upstream {
    upstream.session_scope(SessionScope::PerSession)
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

/// Describes a gateway in front of the given upstreams.
///
/// # Errors
///
/// An upstream is malformed.
pub fn gateway(
    upstreams: &[UpstreamArgument],
    no_prefix: bool,
) -> Result<GatewayBuilder, ConfigError> {
    let mut builder = Gateway::builder("gateway");
    for upstream in upstreams {
        builder = builder.upstream(upstream.upstream()?);
    }
    Ok(match no_prefix {
        true => builder.naming(Bare::default()),
        false => builder,
    })
}

/// Describes a gateway in front of what every machine has: a server in this process, `program` as a child that serves
/// [`clock`] when it is given [`SERVE_CLOCK`], and official servers where `npx` and `uvx` are there to run them.
///
/// # Errors
///
/// An upstream is malformed.
pub fn default_gateway(
    program: &Path,
    npx: bool,
    uvx: bool,
) -> Result<GatewayBuilder, ConfigError> {
    let clock = Command::new(program).args([SERVE_CLOCK]);
    let mut builder = Gateway::builder("gateway")
        .upstream(Upstream::rmcp("notes", || Ok(Notes::default()))?)
        .upstream(started(Upstream::command("clock", clock)?));
    if npx {
        builder = builder.upstream(started(Upstream::npm(
            "everything",
            "@modelcontextprotocol/server-everything@2026.8.31",
        )?));
    }
    if uvx {
        builder = builder.upstream(started(Upstream::pypi("time", "mcp-server-time")?));
    }
    Ok(builder)
}

/// Serves a gateway: MCP at `/mcp`, health at `/health`, `/health/live` and `/health/ready`.
///
/// On loopback everything belongs to the one user of this machine; elsewhere each session is a user of its own.
pub fn app(running: &Running, listen: SocketAddr) -> Router {
    let config = match listen.ip().is_loopback() {
        true => HttpConfig::default().single_user(),
        false => HttpConfig::default(),
    };
    Router::new()
        .route_service("/mcp", running.http(config))
        .route_service("/health", running.health_service())
        .route_service("/health/{probe}", running.health_service())
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
    fn arguments_name_upstreams() {
        let argument: UpstreamArgument = "crm=http://localhost:1/mcp?a=b".parse().unwrap();
        assert_eq!(argument.target, "http://localhost:1/mcp?a=b");
        assert!("crm".parse::<UpstreamArgument>().is_err());
        assert!("=x".parse::<UpstreamArgument>().is_err());
        let bad: UpstreamArgument = "Not Valid=http://localhost:1/".parse().unwrap();
        assert!(bad.upstream().is_err());
    }
}
