//! The command line.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::Parser;

/// Puts several MCP servers behind one endpoint.
///
/// Without --upstream: a server in this process, a server built with this example, and official servers where npx
/// and uvx are installed.
#[derive(Debug, Parser)]
#[command(name = "gateway", version)]
#[non_exhaustive]
pub struct Arguments {
    /// Address to serve on, HOST:PORT or a port of this machine; the endpoint is /mcp.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR", value_parser = address)]
    pub listen: SocketAddr,
    /// Serve one client on standard input and output instead, as Claude Desktop starts servers.
    #[arg(long, conflicts_with = "listen")]
    pub stdio: bool,
    /// A server: NAME=URL, or NAME='COMMAND ARGS'. May be given any number of times.
    #[arg(long = "upstream", value_name = "NAME=TARGET")]
    pub upstreams: Vec<Named<String>>,
    /// A header for a server over HTTP: NAME=HEADER:VALUE, or NAME=HEADER:@FILE to read the value from a file.
    #[arg(long = "header", value_name = "NAME=K:V")]
    pub headers: Vec<Named<Pair<':'>>>,
    /// A variable of a command's environment: NAME=VARIABLE=VALUE, or NAME=VARIABLE=@FILE.
    #[arg(long = "env", value_name = "NAME=K=V")]
    pub variables: Vec<Named<Pair<'='>>>,
    /// Send this server one call at a time, from all clients together.
    #[arg(long = "one-at-a-time", value_name = "NAME")]
    pub one_at_a_time: Vec<String>,
    /// Leave names as they are, for a single upstream.
    #[arg(long)]
    pub no_prefix: bool,
    /// How long a call may be silent (no answer, no progress, no question to the client), in seconds; 0 for ever.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub silence: u64,
    /// How long calls in flight may take to finish after SIGTERM or SIGINT, in seconds. A second signal ends at once.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub drain: u64,
    /// How long to wait, in seconds, before saying what was aggregated.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub wait: u64,
    /// Print a configuration for each known client, with the file that it belongs in, and end.
    #[arg(long)]
    pub print_clients: bool,
    /// Serve the clock of the example on standard input and output, and nothing else.
    #[arg(long, hide = true)]
    pub serve_clock: bool,
}

impl Arguments {
    /// Returns the limit for silent calls.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        (self.silence > 0).then(|| Duration::from_secs(self.silence))
    }

    /// Returns the servers with their settings.
    ///
    /// # Errors
    ///
    /// A setting is for a server that is not named, or a file cannot be read.
    pub fn servers(&self) -> Result<Vec<ServerArgument>, String> {
        let mut servers: BTreeMap<&str, (usize, ServerArgument)> = BTreeMap::new();
        for (number, upstream) in self.upstreams.iter().enumerate() {
            let server = ServerArgument::new(&upstream.name, &upstream.value);
            servers.insert(&upstream.name, (number, server));
        }
        let unknown = |option: &str, name: &str| {
            format!("{option} {name}: there is no --upstream {name}=...")
        };
        for header in &self.headers {
            let (_, server) = servers
                .get_mut(&*header.name)
                .ok_or_else(|| unknown("--header", &header.name))?;
            server.headers.push(header.value.read()?);
        }
        for variable in &self.variables {
            let (_, server) = servers
                .get_mut(&*variable.name)
                .ok_or_else(|| unknown("--env", &variable.name))?;
            server.variables.push(variable.value.read()?);
        }
        for name in &self.one_at_a_time {
            let (_, server) = servers
                .get_mut(&**name)
                .ok_or_else(|| unknown("--one-at-a-time", name))?;
            server.one_at_a_time = true;
        }
        let mut servers: Vec<_> = servers.into_values().collect();
        servers.sort_by_key(|(number, _)| *number);
        Ok(servers.into_iter().map(|(_, server)| server).collect())
    }
}

/// A server as the command line describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerArgument {
    /// The name that prefixes its tools and prompts.
    pub name: String,
    /// A URL, or a command with its arguments.
    pub target: String,
    /// Headers for a server over HTTP.
    pub headers: Vec<(String, String)>,
    /// Variables of a command's environment.
    pub variables: Vec<(String, String)>,
    /// Whether it gets one call at a time.
    pub one_at_a_time: bool,
}

impl ServerArgument {
    /// Names a server.
    #[must_use]
    pub fn new(name: &str, target: &str) -> Self {
        Self {
            name: name.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            variables: Vec::new(),
            one_at_a_time: false,
        }
    }
}

/// Something that belongs to a named server: NAME=VALUE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T> {
    name: String,
    value: T,
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Named<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.trim().is_empty())
            .ok_or("begin with the server's name, as in crm=http://localhost:9000/mcp")?;
        Ok(Self {
            name: name.to_owned(),
            value: value.trim().parse().map_err(|error| format!("{error}"))?,
        })
    }
}

/// A name and a value, or the file that holds the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair<const BETWEEN: char> {
    name: String,
    value: String,
}

impl<const BETWEEN: char> FromStr for Pair<BETWEEN> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(BETWEEN) {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
            }),
            _ => Err(format!(
                "give NAME=KEY{BETWEEN}VALUE or NAME=KEY{BETWEEN}@FILE"
            )),
        }
    }
}

impl<const BETWEEN: char> Pair<BETWEEN> {
    fn read(&self) -> Result<(String, String), String> {
        let value = match self.value.strip_prefix('@') {
            None => self.value.clone(),
            Some(file) => std::fs::read_to_string(PathBuf::from(file))
                .map_err(|error| format!("cannot read {file} for {}: {error}", self.name))?
                .trim_end()
                .to_owned(),
        };
        Ok((self.name.clone(), value))
    }
}

/// Reads an address; a port alone is a port of this machine.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse()
        .map_err(|_| "give HOST:PORT such as 127.0.0.1:8080 or 0.0.0.0:8080, or a port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["gateway"], arguments].concat())
    }

    #[test]
    fn a_port_is_one_of_this_machine() {
        let listen =
            |text| parse(&["--listen", text]).map(|arguments| arguments.listen.to_string());
        assert_eq!(listen("8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(listen("0.0.0.0:1").unwrap(), "0.0.0.0:1");
        assert!(
            listen("here")
                .unwrap_err()
                .to_string()
                .contains("127.0.0.1:8080")
        );
    }

    #[test]
    fn settings_go_to_the_server_that_they_name() {
        let file = std::env::temp_dir().join(format!("gateway-{}", std::process::id()));
        std::fs::write(&file, "from a file\n").unwrap();
        let from_file = format!("crm=X-Key:@{}", file.display());
        let arguments = parse(&[
            "--upstream",
            "crm=http://localhost:1/mcp?a=b",
            "--upstream",
            "files=npx -y files /data",
            "--header",
            "crm=Authorization: Bearer x=y:z",
            "--header",
            &from_file,
            "--env",
            "files=KEY=a=b",
            "--one-at-a-time",
            "files",
        ]);
        let servers = arguments.unwrap().servers().unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(servers[0].target, "http://localhost:1/mcp?a=b");
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            servers[0].headers,
            [
                header("Authorization", "Bearer x=y:z"),
                header("X-Key", "from a file")
            ]
        );
        assert_eq!(servers[1].variables, [header("KEY", "a=b")]);
        assert!(servers[1].one_at_a_time && !servers[0].one_at_a_time);
    }

    #[test]
    fn what_names_no_server_is_refused_with_the_option() {
        for (arguments, named) in [
            (["--header", "crm=a:b"], "--header crm"),
            (["--env", "crm=a=b"], "--env crm"),
            (["--one-at-a-time", "crm"], "--one-at-a-time crm"),
        ] {
            let error = parse(&arguments).unwrap().servers().unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        for malformed in ["crm", "=x", "crm="] {
            assert!(parse(&["--upstream", malformed]).is_err(), "{malformed}");
        }
        let missing = parse(&["--upstream", "a=x", "--env", "a=K=@/nowhere/at/all"]);
        assert!(
            missing
                .unwrap()
                .servers()
                .unwrap_err()
                .contains("/nowhere/at/all")
        );
    }
}
