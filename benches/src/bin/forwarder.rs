//! Forwards every byte to one upstream and back: what any gateway costs at the least.

use std::{error::Error, net::SocketAddr};

use benches::serve;
use clap::Parser;
use http::{Request, Response, Uri, header, uri::PathAndQuery};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

#[derive(Parser)]
struct Arguments {
    /// Address to listen on; the URL is printed on stdout.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The upstream, as URL or NAME=URL, as gateways take it; the name is not used.
    #[arg(long)]
    upstream: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let url = match arguments.upstream.split_once('=') {
        Some((name, url)) if !name.contains('/') => url,
        _ => &arguments.upstream,
    };
    let upstream: Uri = url.parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    let listener = serve::bind(arguments.listen, upstream.path()).await?;
    let service = service_fn(move |request| forward(client.clone(), upstream.clone(), request));
    serve::run(listener, service).await?;
    Ok(())
}

async fn forward(
    client: Client<HttpConnector, Incoming>,
    upstream: Uri,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>> {
    let path = request.uri().path_and_query().cloned();
    let mut parts = upstream.into_parts();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts)?;
    // The client writes the upstream's own.
    request.headers_mut().remove(header::HOST);
    Ok(client.request(request).await?)
}
