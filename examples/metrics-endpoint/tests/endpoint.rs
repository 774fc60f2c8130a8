//! What the layers count is what the endpoint shows.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use mcp_core::Method;
use mcp_ratelimit::preset::ProviderConfig;
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt;

#[tokio::test]
async fn calls_and_refusals_are_shown() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let config = ProviderConfig::default()
        .with_requests_per_minute(1)
        .with_burst(2)
        .with_limit_wait(Duration::ZERO)
        .with_max_retries(0);
    let service = metrics_endpoint::service(&config).unwrap();
    for _ in 0..3 {
        let request = mcp_core::Request::new(Method::TOOLS_LIST, None).unwrap();
        let _ = service.clone().oneshot(request).await;
    }
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = metrics_endpoint::router(metrics)
        .oneshot(request)
        .await
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = str::from_utf8(&body).unwrap();
    for line in [
        r#"mcp_calls_total{service="demo",method="tools/list",outcome="ok"} 2"#,
        r#"mcp_calls_total{service="demo",method="tools/list",outcome="rate_limited"} 1"#,
        r#"mcp_limit_refusals_total{limit="demo"} 1"#,
        r#"mcp_calls_in_flight{service="demo"} 0"#,
        "mcp_call_duration_seconds",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}
