//! Serves the conformance fixture over HTTP or stdio.

use std::{error::Error, io::Write as _, net::SocketAddr, num::NonZeroUsize};

use axum::Router;
use clap::Parser;
use conformance_server::{
    Fixture, FixtureOptions, HttpOptions, Replies, Sessions, router, transport, transport_service,
};
use mcp_core::{
    serve::{Server, Signals},
    transport::stdio::{StdioConfig, serve_process},
};
use rmcp::{ServiceExt as _, transport::stdio};
use tokio::net::TcpListener;

/// The conformance fixture.
#[derive(Parser)]
struct Arguments {
    /// Address to serve HTTP on; the URL is printed on stdout.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve one client on stdin and stdout instead.
    #[arg(long, conflicts_with = "listen")]
    stdio: bool,
    /// Entries on one page of each list; all on one page when absent.
    #[arg(long)]
    page_size: Option<NonZeroUsize>,
    /// Serve without sessions.
    #[arg(long)]
    stateless: bool,
    /// Serve through the transports of mcp-core instead of rmcp's own.
    #[arg(long, conflicts_with_all = ["stateless", "json"])]
    mcp_core: bool,
    /// Answer with JSON instead of an event stream; implies --stateless.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let fixture = Fixture::new(FixtureOptions::default().with_page_size(arguments.page_size));
    if arguments.stdio && arguments.mcp_core {
        return Ok(serve_process(transport_service(&fixture), StdioConfig::default()).await?);
    }
    if arguments.stdio {
        let service = fixture.handler().serve(stdio()).await?;
        service.waiting().await?;
        return Ok(());
    }
    let mut options = HttpOptions::default();
    if arguments.stateless || arguments.json {
        options = options.with_sessions(Sessions::None);
    }
    if arguments.json {
        options = options.with_replies(Replies::Json);
    }
    let signals = Signals::new()?;
    let listener = TcpListener::bind(arguments.listen).await?;
    writeln!(std::io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    let server = Server::new(listener);
    if arguments.mcp_core {
        let transport = transport(&fixture);
        let app = Router::new().route_service("/mcp", transport.clone());
        let server = server.with_part(transport);
        return Ok(server.serve_until_signal(app, signals).await?);
    }
    let shutdown = options.shutdown.clone();
    let (stop, abort) = signals.split();
    let stop = async {
        stop.await;
        shutdown.cancel();
    };
    let router = router(&fixture, &options);
    Ok(server.serve_until(router, stop, abort).await?)
}
