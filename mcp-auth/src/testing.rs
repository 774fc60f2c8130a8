//! A real authorization server for tests. The functions panic when something is missing, so call them from a test.

use std::{net::TcpListener, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// An authorization server (the npm package `oidc-provider`) on a free port of `127.0.0.1`, killed when dropped.
///
/// It knows the clients `gw` (secret `gw-secret`), `rs` (secret `rs-secret`, for introspection) and `device`, takes
/// registrations, and lets everybody log in by any name. Tokens for resources that end in `/opaque` are opaque, others are
/// JSON Web Tokens.
#[derive(Debug)]
pub struct AuthorizationServer {
    port: u16,
    _child: Child,
}

impl AuthorizationServer {
    /// Starts a server that sends users back to these addresses, and whose access tokens live so many seconds.
    ///
    /// # Panics
    ///
    /// If its packages are not installed, or it does not start.
    pub async fn start(redirects: &[&str], access_token_seconds: u32, client_base: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        drop(listener);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/authorization-server");
        let mut child = Command::new(script)
            .arg("run")
            .env("PORT", port.to_string())
            .env("REDIRECTS", redirects.join(" "))
            .env("ACCESS_TOKEN_SECONDS", access_token_seconds.to_string())
            .env("CLIENT_BASE", client_base)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the script .ci/authorization-server starts");
        let output = child.stdout.take().expect("its output is piped");
        let mut line = String::new();
        let mut reader = BufReader::new(output);
        let read = reader.read_line(&mut line);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(30), read).await;
        assert!(
            line.starts_with("issuer "),
            "the authorization server does not start; run .ci/test, which installs what it needs"
        );
        // A server whose words no one reads ends with the next of them.
        tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        Self {
            port,
            _child: child,
        }
    }

    /// Returns its issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
