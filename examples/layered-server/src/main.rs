//! Serves an rmcp server with resilience layers around it.

use std::{error::Error, io::Write as _, net::SocketAddr};

use clap::Parser;
use layered_server::{Units, app, layered};
use mcp_core::{
    Principal, Seam,
    rmcp3::RmcpServer,
    serve::{Server, Signals},
    transport::http::{HttpConfig, HttpTransport},
};
use rmcp::{ServiceExt as _, transport::stdio};
use tokio::net::TcpListener;

/// Serves an rmcp server with a rate limit, retries, a circuit breaker and a timeout around it.
#[derive(Debug, Parser)]
#[command(name = "layered-server")]
struct Arguments {
    /// Address to serve HTTP on; the endpoint is /mcp, and its URL is printed.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    listen: SocketAddr,
    /// Serve one client on stdin and stdout instead.
    #[arg(long, conflicts_with = "listen")]
    stdio: bool,
    /// How many calls of each tool a client may make in a minute.
    #[arg(long, default_value_t = 60, value_name = "CALLS")]
    per_minute: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let service = layered(Units::default(), arguments.per_minute)?;
    match arguments.stdio {
        true => serve_stdio(service).await,
        false => serve_http(service, arguments.listen).await,
    }
}

async fn serve_stdio(service: impl Seam) -> Result<(), Box<dyn Error>> {
    let server = RmcpServer::new(service, Principal::local());
    server.serve(stdio()).await?.waiting().await?;
    Ok(())
}

async fn serve_http(service: impl Seam, listen: SocketAddr) -> Result<(), Box<dyn Error>> {
    let signals = Signals::new()?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    writeln!(std::io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    let transport = HttpTransport::new(service, HttpConfig::default());
    let server = Server::new(listener).with_part(transport.clone());
    Ok(server.serve_until_signal(app(transport), signals).await?)
}
