//! A service with the recommended layers, and its metrics for Prometheus.
//!
//! The layers speak to the `metrics` facade. Which recorder listens is the program's choice, made once: here it is
//! Prometheus', rendered by a route of the program's own router.

use axum::Router;
use axum::routing::get;
use mcp_core::{ConfigErrors, Error, Request, Response, Seam, Stack};
use mcp_ratelimit::preset::{Preset, ProviderConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use tower::service_fn;

/// Makes the router with `/metrics`.
pub fn router(metrics: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(move || async move { metrics.render() }))
}

/// Makes a service that answers everything, with the recommended layers around it.
///
/// # Errors
///
/// [`ConfigErrors`] if the configuration is not valid.
pub fn service(config: &ProviderConfig) -> Result<impl Seam, ConfigErrors> {
    let inner = service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) });
    Ok(Stack::new(inner)
        .layer(Preset::new("demo", config)?)
        .into_service())
}
