//! Answers every request with the same result: what a prepared list costs at the least.

use std::{convert::Infallible, error::Error, fs, net::SocketAddr, path::PathBuf};

use benches::serve;
use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use serde::Deserialize;
use serde_json::value::RawValue;

const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"static-server","version":"1"}}"#;

#[derive(Parser)]
struct Arguments {
    /// Address to listen on; the URL is printed on stdout.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File with a JSON-RPC response, as JSON or as an event stream, whose result to answer.
    #[arg(long)]
    reply: PathBuf,
}

/// The parts of a message that matter here.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let result = Bytes::from(result(&fs::read_to_string(arguments.reply)?)?);
    let listener = serve::bind(arguments.listen, "/mcp").await?;
    let service = service_fn(move |request| answer(result.clone(), request));
    serve::run(listener, service).await?;
    Ok(())
}

fn result(reply: &str) -> Result<String, Box<dyn Error>> {
    let data = reply
        .lines()
        .map(|line| line.strip_prefix("data:").unwrap_or(line));
    let result = data
        .filter_map(|data| serde_json::from_str::<Message<'_>>(data).ok())
        .find_map(|message| message.result);
    Ok(result.ok_or("the file holds no result")?.get().to_owned())
}

async fn answer(
    result: Bytes,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let Ok(body) = request.into_body().collect().await else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    let body = body.to_bytes();
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return Ok(status(StatusCode::BAD_REQUEST));
    };
    let Some(id) = message.id else {
        return Ok(status(StatusCode::ACCEPTED));
    };
    let result = match message.method {
        Some("initialize") => INITIALIZED.as_bytes(),
        _ => &result,
    };
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
    let reply = [head.as_bytes(), result, b"}"].concat();
    let mut response = Response::new(Full::new(reply.into()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
