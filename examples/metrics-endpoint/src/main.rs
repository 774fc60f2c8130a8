//! Makes a call now and then and serves `http://127.0.0.1:9464/metrics`.

use std::time::Duration;

use mcp_core::{Method, Request, serve::Server};
use mcp_ratelimit::preset::ProviderConfig;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    Ok(Server::new(listener).serve(router, signal()).await?)
}

/// Completes when the process is asked to stop, by SIGINT or SIGTERM. Without signals it runs until it is killed.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        );
        if let (Ok(mut interrupt), Ok(mut terminate)) = signals {
            tokio::select! {
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
            }
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
