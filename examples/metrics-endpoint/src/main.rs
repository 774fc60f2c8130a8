//! Makes a call now and then and serves `http://127.0.0.1:9464/metrics`.

use std::time::Duration;

use mcp_core::{
    Method, Request,
    serve::{Server, Signals},
};
use mcp_ratelimit::preset::ProviderConfig;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let signals = Signals::new()?;
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let service = metrics_endpoint::service(&ProviderConfig::default())?;
    tokio::spawn(async move {
        loop {
            if let Ok(request) = Request::new(Method::TOOLS_LIST, None) {
                // Whatever comes of it is counted.
                let _ = service.clone().oneshot(request).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9464").await?;
    let router = metrics_endpoint::router(metrics);
    Ok(Server::new(listener)
        .serve_until_signal(router, signals)
        .await?)
}
